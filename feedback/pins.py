"""Statements about pins: which model a conversation is on. The row is written before the answer, and the first one
counts: replicas that meet agree."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, delete, select

from feedback import statements
from feedback.schema import PinRow
from scorer.sessions import Pin

_KEY = ("session", "requested")


def find(session: str, requested: str, connection: Connection) -> Pin | None:
    """The conversation's, whatever its age."""
    query = select(PinRow).where(PinRow.session == session, PinRow.requested == requested)
    row = connection.execute(query).mappings().first()
    return statements.as_record(Pin, row) if row else None


def write(pin: Pin, seen: Pin | None, connection: Connection) -> Pin:
    """The pin that counts: this one, unless another replica's has come since `seen` was read."""
    insert = statements.insert(connection, PinRow).values(msgspec.structs.asdict(pin))
    fresh = {name: insert.excluded[name] for name in Pin.__struct_fields__ if name not in _KEY}
    unchanged = (PinRow.model == seen.model) & (PinRow.pinned_at == seen.pinned_at) if seen else None
    if unchanged is None:
        connection.execute(insert.on_conflict_do_nothing(index_elements=_KEY))
    else:
        connection.execute(insert.on_conflict_do_update(index_elements=_KEY, set_=fresh, where=unchanged))
    found = find(pin.session, pin.requested, connection)
    assert found is not None
    return found


def forget(before: float, connection: Connection) -> int:
    """Deletes those that were not seen since (Unix seconds); how many."""
    return connection.execute(delete(PinRow).where(PinRow.seen_at < before)).rowcount
