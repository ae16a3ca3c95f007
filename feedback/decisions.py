"""Statements about decisions: added, looked up, given up."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import msgspec
from sqlalchemy import Connection, exists, func, select, union, update

from feedback import statements
from feedback.schema import DecisionRow, OutcomeRow
from scorer.decisions import Decision

_PAGE = 1000


def add(decisions: Sequence[Decision], connection: Connection) -> None:
    """Adds those whose id is new; the others stay as they are."""
    if decisions:
        insert = statements.insert(connection, DecisionRow).on_conflict_do_nothing()
        connection.execute(insert, [msgspec.structs.asdict(decision) for decision in decisions])


def find(decision_id: str, connection: Connection) -> Decision | None:
    """The decision as it was made, or None."""
    query = select(DecisionRow).where(DecisionRow.decision_id == decision_id)
    row = connection.execute(query).mappings().first()
    return statements.as_record(Decision, row) if row else None


def known(decision_ids: Collection[str], connection: Connection) -> set[str]:
    """Those that somebody has heard of: an outcome is enough, since a fallback has no decision."""
    decided = select(DecisionRow.decision_id).where(DecisionRow.decision_id.in_(decision_ids))
    reported = select(OutcomeRow.decision_id).where(OutcomeRow.decision_id.in_(decision_ids))
    return set(connection.execute(union(decided, reported)).scalars())


def called(call_id: str, connection: Connection) -> set[str]:
    """The ids of decisions on this LiteLLM call, two of them at most: a client may give one call id to many calls."""
    decided = select(DecisionRow.decision_id).where(DecisionRow.call_id == call_id).limit(2).subquery()
    reported = select(OutcomeRow.decision_id).where(OutcomeRow.call_id == call_id).limit(2).subquery()
    return set(connection.execute(union(select(decided), select(reported)).limit(2)).scalars())


def count(after: float, connection: Connection) -> int:
    """Those made after a time (Unix seconds)."""
    made = select(func.count()).select_from(DecisionRow).where(DecisionRow.created_at > after)
    return int(connection.execute(made).scalar_one())


def page_end(start: float, before: float, connection: Connection) -> float | None:
    """When the last decision of the next page was made, after `start` and before `before`; None: no more."""
    made = DecisionRow.created_at
    page = select(made).where(made > start, made < before).order_by(made).limit(_PAGE).subquery()
    end: float | None = connection.execute(select(func.max(page.c.created_at))).scalar_one()
    return end


def expire(start: float, end: float, connection: Connection) -> int:
    """Gives up those without an outcome that were made after `start` and not after `end`; how many."""
    reported = exists().where(OutcomeRow.decision_id == DecisionRow.decision_id)
    made = DecisionRow.created_at
    unsettled = update(DecisionRow).where(made > start, made <= end, DecisionRow.expired_at.is_(None), ~reported)
    return connection.execute(unsettled.values(expired_at=time.time())).rowcount
