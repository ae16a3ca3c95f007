"""Statements about erasures: asked for, followed step by step, and at last nameless."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, delete, insert, or_, select, update

from feedback import runs, statements
from feedback.records import Activation, Erasure
from feedback.schema import ActivationRow, CalibrationRow, ErasureRow
from gateway_plugin import ids

LATE_SECONDS = 3600.0  # by which everything that was under way when it was asked for has been written


def ask(user: str | None, versions: Mapping[str, Sequence[str]] | None, connection: Connection) -> Erasure:
    """Of a user, or of versions alone. Who asks again while it waits is given the same one, which then reaches up to
    now."""
    statements.take_turns("erasures", connection)
    now = statements.now(connection)
    if user is not None:
        waiting = [one for one in _found(ErasureRow.user == user, connection) if one.status == "asked"]
        if waiting:
            mine = update(ErasureRow).where(ErasureRow.erasure_id == waiting[0].erasure_id)
            connection.execute(mine.values(asked_at=now))
            return msgspec.structs.replace(waiting[0], asked_at=now)
    named = None if versions is None else {router: sorted(some) for router, some in versions.items()}
    erasure = Erasure(erasure_id=ids.mint(), user=user, asked_at=now, versions=named)
    connection.execute(insert(ErasureRow).values(msgspec.structs.asdict(erasure)))
    return erasure


def find(erasure_id: str, connection: Connection) -> Erasure | None:
    return next(iter(_found(ErasureRow.erasure_id == erasure_id, connection)), None)


def due(connection: Connection) -> list[Erasure]:
    """Those that wait to be carried out, or for their last look at what came late; oldest first."""
    late = and_(ErasureRow.finished_at.is_(None), ErasureRow.asked_at < statements.now(connection) - LATE_SECONDS)
    return _found(or_(ErasureRow.rebuilt_at.is_(None), late), connection)


def free(job: str, expiry_seconds: float, connection: Connection) -> bool:
    """Whether something is due, and the job whose lock it takes does not run."""
    return bool(due(connection)) and not runs.lives(job, expiry_seconds, connection)


def note(erasure_id: str, versions: Mapping[str, Collection[str]], connection: Connection) -> None:
    """Which versions are to go, before anything does; they are to be rebuilt without."""
    named = {router: sorted(some) for router, some in versions.items()}
    mine = update(ErasureRow).where(ErasureRow.erasure_id == erasure_id)
    connection.execute(mine.values(versions=named, rebuilt_at=None))


def removed(erasure_id: str, rows: Counter[str], last: bool, connection: Connection) -> None:
    """Adds to what was deleted. last: there is no more."""
    (known,) = connection.execute(select(ErasureRow.removed).where(ErasureRow.erasure_id == erasure_id)).one()
    total = dict(Counter(known or {}) + rows)
    end = {"removed_at": statements.now(connection)} if last else {}
    connection.execute(update(ErasureRow).where(ErasureRow.erasure_id == erasure_id).values(removed=total, **end))


def rebuilt(erasure_ids: Sequence[str], connection: Connection) -> None:
    """No version is left that they name. Those that can meet nothing late any more are finished, and nameless."""
    now = statements.now(connection)
    mine = update(ErasureRow).where(ErasureRow.erasure_id.in_(erasure_ids))
    connection.execute(mine.values(rebuilt_at=now))
    over = or_(ErasureRow.user.is_(None), ErasureRow.asked_at < now - LATE_SECONDS)
    connection.execute(mine.where(over).values(finished_at=now, user=None))


def erase_versions(router: str, versions: Collection[str], connection: Connection) -> None:
    """Marks them in the history, so that nothing goes back to them; what their scores meant goes with them."""
    mine = update(ActivationRow).where(ActivationRow.router == router, ActivationRow.version.in_(versions))
    connection.execute(mine.where(ActivationRow.erased_at.is_(None)).values(erased_at=statements.now(connection)))
    scored = CalibrationRow.router == router, CalibrationRow.version.in_(versions)
    connection.execute(delete(CalibrationRow).where(*scored))


def activated(connection: Connection) -> dict[str, list[Activation]]:
    """All histories, by router, newest first."""
    rows = ActivationRow.__table__
    found: dict[str, list[Activation]] = {}
    for row in connection.execute(select(rows).order_by(rows.c.router, rows.c.number.desc())).mappings():
        found.setdefault(row["router"], []).append(statements.as_record(Activation, row))
    return found


def _found(condition: ColumnElement[bool], connection: Connection) -> list[Erasure]:
    rows = ErasureRow.__table__
    query = select(rows).where(condition).order_by(rows.c.erasure_id)
    return [statements.as_record(Erasure, row) for row in connection.execute(query).mappings()]
