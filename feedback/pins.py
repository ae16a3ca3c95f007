"""Statements about pins: which model a conversation is on. The row is written before the answer, and the first one
counts: replicas that meet agree."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, delete, select, update

from feedback import statements
from feedback.records import Outcome
from feedback.schema import DecisionRow, PinRow
from scorer.sessions import Pin

_KEY = ("session", "requested")
_PAGE = 1000  # decisions that a query asks for
_LATER = ("session", "tool_loop")  # turns of a conversation that has a pin: before the first one no cache was filled


def find(session: str, requested: str, connection: Connection) -> Pin | None:
    """The conversation's, whatever its age."""
    query = select(PinRow).where(PinRow.session == session, PinRow.requested == requested)
    row = connection.execute(query).mappings().first()
    return statements.as_record(Pin, row) if row else None


def write_all(asked: Sequence[tuple[Pin, Pin | None]], connection: Connection) -> list[Pin]:
    """As `write`, for several pins with what was seen of each."""
    in_turn = sorted(range(len(asked)), key=lambda place: (asked[place][0].session, asked[place][0].requested))
    written = {place: write(*asked[place], connection) for place in in_turn}  # in one order: nobody deadlocks
    return [written[place] for place in range(len(asked))]


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


def learn(reports: Sequence[Outcome], connection: Connection) -> None:
    """What a provider says that it had in its cache takes the place of what was supposed, for the turn that comes."""
    told = {one.decision_id: one for one in reports if one.cached_tokens is not None and one.served is not None}
    turns: list[tuple[str, str, str]] = []
    for start in range(0, len(told), _PAGE):
        query = select(DecisionRow.unit, DecisionRow.requested, DecisionRow.decision_id).where(
            DecisionRow.decision_id.in_(list(told)[start : start + _PAGE]), DecisionRow.pinned.in_(_LATER)
        )
        turns += [(unit, requested, decision_id) for unit, requested, decision_id in connection.execute(query)]
    for session, requested, decision_id in sorted(turns):  # so that nobody deadlocks
        report = told[decision_id]
        pin = update(PinRow).where(PinRow.session == session, PinRow.requested == requested)
        connection.execute(pin.where(PinRow.model == report.served).values(tokens=report.cached_tokens))


def forget(before: float, connection: Connection) -> int:
    """Deletes those that were not seen since (Unix seconds); how many."""
    return connection.execute(delete(PinRow).where(PinRow.seen_at < before)).rowcount
