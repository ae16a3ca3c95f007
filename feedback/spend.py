"""Statements about spend: what decisions came to, by quarter of an hour, and the last decisions to plan by.

A slot is summed up from the decisions themselves until it is an hour old, by whichever replica looks; what stays is
what all of them would find.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import BigInteger, Connection, case, cast, func, select

from feedback import statements
from feedback.schema import DecisionRow, OutcomeRow, SpendRow
from scorer.budget import DAY_SECONDS, HISTORY_DAYS, SLOT_SECONDS, Slot

_SETTLING_SECONDS = 3600  # by which the outcome of a decision has come, or is taken to be as expected


def refresh(strongest: str, now: float, connection: Connection) -> None:
    """Sums up the slots that may have changed."""
    current = _slot(now)
    newest = connection.execute(select(func.max(SpendRow.start))).scalar_one()
    first = current - HISTORY_DAYS * DAY_SECONDS if newest is None else min(newest, current) - _SETTLING_SECONDS
    insert = statements.insert(connection, SpendRow)
    known = {name: insert.excluded[name] for name in ("calls", "strong", "dollars", "expected")}
    if found := _summed(strongest, _slot(first), current + SLOT_SECONDS, connection):
        rows = [msgspec.structs.asdict(slot) for slot in found]
        connection.execute(insert.on_conflict_do_update(index_elements=["start"], set_=known), rows)


def slots(now: float, connection: Connection) -> list[Slot]:
    """Of the last week and today, oldest first; those without calls left out."""
    rows = SpendRow.__table__
    after = _slot(now) - HISTORY_DAYS * DAY_SECONDS
    query = select(rows).where(rows.c.start > after, rows.c.calls > 0).order_by(rows.c.start)
    return [Slot(**row) for row in connection.execute(query).mappings()]


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


def _summed(strongest: str, after: float, before: float, connection: Connection) -> list[Slot]:
    """Of decisions made between two times, oldest first. For a failure what was reported is paid, if anything."""
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
        .where(DecisionRow.created_at >= after, DecisionRow.created_at < before)
        .group_by("number")
        .order_by("number")
    )
    rows = connection.execute(query)
    return [Slot(one * SLOT_SECONDS, calls, int(some), *dollars) for one, calls, some, *dollars in rows]


def _slot(now: float) -> int:
    return int(now // SLOT_SECONDS) * SLOT_SECONDS
