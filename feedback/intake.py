"""Statements that take over ratings and comparisons from elsewhere, many at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, func, insert, select, text, update
from sqlalchemy.orm import InstrumentedAttribute

from feedback import decisions
from feedback.ratings import may_come
from feedback.records import Comparison, Rating, Taken
from feedback.schema import ComparisonRow, RatingRow

_CHUNK = 1000


def take(rated: Sequence[Rating], compared: Sequence[Comparison], connection: Connection) -> Taken:
    """Adds those that are new, of decisions that are known or may still come."""
    if connection.dialect.name == "postgresql":  # SQLite has one writer anyway
        connection.execute(text("LOCK TABLE ratings, comparisons IN SHARE ROW EXCLUSIVE MODE"))
    of = [*(one.decision_id for one in rated), *(one.decision_id for one in compared)]
    unknown = _unknown({decision_id for decision_id in of if decision_id is not None}, connection)
    ratings = {one.feedback_id: one for one in rated if one.decision_id not in unknown}
    comparisons = {one.comparison_id: one for one in compared if one.decision_id not in unknown}
    _remove_stored(ratings, RatingRow.feedback_id, connection)
    _remove_stored(comparisons, ComparisonRow.comparison_id, connection)
    if comparisons:
        connection.execute(insert(ComparisonRow), [msgspec.structs.asdict(one) for one in comparisons.values()])
    _add_ratings(list(ratings.values()), connection)
    strangers = sum(decision_id in unknown for decision_id in of)
    return Taken(
        ratings=len(ratings),
        comparisons=len(comparisons),
        unknown=strangers,
        repeated=len(rated) + len(compared) - strangers - len(ratings) - len(comparisons),
    )


def _unknown(decision_ids: set[str], connection: Connection) -> set[str]:
    """Those that nobody has heard of, and that are too old to be still on their way."""
    known = {one for chunk in _chunks(decision_ids) for one in decisions.known(chunk, connection)}
    return {one for one in decision_ids - known if not may_come(one)}


def _remove_stored(given: dict[str, Any], column: InstrumentedAttribute[str], connection: Connection) -> None:
    for chunk in _chunks(given):
        for stored in connection.execute(select(column).where(column.in_(chunk))).scalars():
            del given[stored]


def _add_ratings(ratings: Sequence[Rating], connection: Connection) -> None:
    """Adds them as history, and then finds out anew which of each person's ratings is the newest."""
    if not ratings:
        return
    rows = [{**msgspec.structs.asdict(one), "superseded_at": one.created_at} for one in ratings]
    connection.execute(insert(RatingRow), rows)
    for chunk in _chunks({one.decision_id for one in ratings}):
        _settle(chunk, connection)


def _settle(decision_ids: Sequence[str], connection: Connection) -> None:
    """Each rating is superseded when the person's next one was made. The old ones first: one at a time is current."""
    person = (RatingRow.decision_id, RatingRow.source, RatingRow.user)
    in_time = (RatingRow.created_at, RatingRow.feedback_id)
    next_made = func.lead(RatingRow.created_at).over(partition_by=person, order_by=in_time)
    found = (
        select(RatingRow.feedback_id, next_made.label("next_made"))
        .where(RatingRow.decision_id.in_(decision_ids))
        .subquery()
    )
    settled = update(RatingRow).where(RatingRow.feedback_id == found.c.feedback_id)
    settled = settled.values(superseded_at=found.c.next_made)
    connection.execute(settled.where(found.c.next_made.is_not(None)))
    connection.execute(settled.where(found.c.next_made.is_(None)))


def _chunks(values: Collection[str]) -> Iterator[list[str]]:
    in_order = sorted(values)
    for start in range(0, len(in_order), _CHUNK):
        yield in_order[start : start + _CHUNK]
