"""Statements about spend: what decisions came to, by quarter of an hour, and the last decisions to plan by.

A slot is summed up from the decisions themselves until it is an hour old, by whichever replica looks; what stays is
what all of them would find.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import BigInteger, ColumnElement, Connection, case, cast, func, select

from feedback import statements
from feedback.schema import DecisionRow, OutcomeRow, SpendRow
from scorer.budget import DAY_SECONDS, HISTORY_DAYS, SLOT_SECONDS, Slot

_SETTLING_SECONDS = 3600  # by which the outcome of a decision has come, or is taken to be as expected
_SUMS = ("calls", "strong", "dollars", "expected")


def refresh(strongest: str, now: float, connection: Connection) -> None:
    """Sums up the slots that may have changed."""
    current = _slot(now)
    newest = connection.execute(select(func.max(SpendRow.start))).scalar_one()
    first = current - HISTORY_DAYS * DAY_SECONDS if newest is None else min(newest, current) - _SETTLING_SECONDS
    insert = statements.insert(connection, SpendRow)
    known = {name: insert.excluded[name] for name in _SUMS}
    if found := _summed(strongest, _slot(first), current + SLOT_SECONDS, connection):
        rows = [msgspec.structs.asdict(slot) for slot in found]
        connection.execute(insert.on_conflict_do_update(index_elements=["start"], set_=known), rows)


def slots(now: float, connection: Connection) -> list[Slot]:
    """Of the last week and today, oldest first; those without calls left out."""
    row = SpendRow.__table__.c
    after = _slot(now) - HISTORY_DAYS * DAY_SECONDS
    sums = (row[name] + row[f"gone_{name}"] for name in _SUMS)
    query = select(row.start, *sums).where(row.start > after, row.calls + row.gone_calls > 0).order_by(row.start)
    return [Slot(*found) for found in connection.execute(query)]


def set_apart(strongest: str, decision_ids: Sequence[str], now: float, connection: Connection) -> None:
    """What these decisions came to counts still when they are deleted next. The slots are to be refreshed."""
    insert = statements.insert(connection, SpendRow)
    recent = _slot(now) - (HISTORY_DAYS + 1) * DAY_SECONDS, now + DAY_SECONDS
    for slot in _summed(strongest, *recent, connection, DecisionRow.decision_id.in_(decision_ids)):
        sums = {name: getattr(slot, name) for name in _SUMS}
        gone = {f"gone_{name}": value for name, value in sums.items()}
        row = {"start": slot.start, **dict.fromkeys(_SUMS, 0), **gone}
        moved = {name: SpendRow.__table__.c[name] - value for name, value in sums.items()}
        moved |= {name: SpendRow.__table__.c[name] + value for name, value in gone.items()}
        connection.execute(insert.values(row).on_conflict_do_update(index_elements=["start"], set_=moved))


def sample(
    router: str, version: str, limit: int, connection: Connection
) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Win rates and expected costs of the newest decisions by this version."""
    made = DecisionRow.__table__.c
    query = (
        select(made.win_rates, made.costs)
        .where(made.router == router, made.version == version)
        .order_by(made.created_at.desc())
        .limit(limit)
    )
    return [(win_rates, costs or dict.fromkeys(win_rates, 0.0)) for win_rates, costs in connection.execute(query)]


def _summed(
    strongest: str, after: float, before: float, connection: Connection, *of: ColumnElement[bool]
) -> list[Slot]:
    """Of decisions made between two times, or of some of them, oldest first. For a failure what was reported is paid,
    if anything."""
    made = DecisionRow.created_at / SLOT_SECONDS
    number = cast(func.floor(made) if connection.dialect.name == "postgresql" else made, BigInteger)  # SQLite cuts off
    expected = func.coalesce(DecisionRow.expected_cost, 0.0)
    failed = OutcomeRow.status.in_(("failure", "rejected"))
    paid = func.coalesce(OutcomeRow.cost, case((failed, 0.0), else_=expected))
    strong = func.sum(case((DecisionRow.model == strongest, 1), else_=0))
    query = (
        select(number.label("number"), func.count(), strong, func.sum(paid), func.sum(expected))
        .select_from(DecisionRow)
        .outerjoin(OutcomeRow, OutcomeRow.decision_id == DecisionRow.decision_id)
        .where(DecisionRow.created_at >= after, DecisionRow.created_at < before, *of)
        .group_by("number")
        .order_by("number")
    )
    rows = connection.execute(query)
    return [Slot(one * SLOT_SECONDS, calls, int(some), *dollars) for one, calls, some, *dollars in rows]


def _slot(now: float) -> int:
    return int(now // SLOT_SECONDS) * SLOT_SECONDS
