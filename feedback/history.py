"""All that is known of past requests, read in pages in the order of their ids, which is that of their times.

Every page begins after the last id of the one before, so that a page of a long history costs what the first one does.
A page is a transaction of its own: what arrives meanwhile may or may not be seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, String, and_, cast, exists, func, or_, select, text, union
from sqlalchemy.orm import DeclarativeBase, aliased

from feedback.records import Rating, Record, ReportedOutcome
from feedback.schema import FAULTY, DecisionRow, OutcomeRow, RatingRow
from scorer.decisions import Decision

AGAIN_SECONDS = 60.0  # after an answer; who asks the same within them did not like it
_NO_TEXT = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # the hash of '': an image alone, say

R = TypeVar("R", bound=msgspec.Struct)


def first_id(seconds: float) -> str:
    """What the ids minted from this time on (Unix seconds) come after, as text."""
    digits = f"{round(min(max(seconds * 1000, 0), 2**48 - 1)):012x}"
    return f"{digits[:8]}-{digits[8:]}"


def everything(after: str, before: str, limit: int, connection: Connection, part: float = 1.0) -> list[str]:
    """The next ids between two: of all decisions, outcomes and ratings, or of a part of them, in (0, 1], that the last
    digits of the ids, which are random, choose."""
    sources = [select(DecisionRow.decision_id), select(OutcomeRow.decision_id), _rated()]
    if part < 1:
        sources = [source.where(_drawn(source, part)) for source in sources]
    return _merged(sources, after, before, limit, connection)


def telling(signals: Collection[str], after: str, before: str, limit: int, connection: Connection) -> list[str]:
    """The next ids between two that have a current rating, or may have one of these signals.

    No index tells what was regenerated, so that is looked for no further than the others reach: else every page would
    search the whole rest of the log.
    """
    sources = [_rated()]
    if set(signals) - {"regenerated"}:
        sources.append(select(OutcomeRow.decision_id).where(text(f"({FAULTY})")))
    found = _merged(sources, after, before, limit, connection)
    if "regenerated" not in signals:
        return found
    end = found[-1] if len(found) == limit else before
    return sorted({*found, *_merged([_regenerated()], after, end, limit, connection)})[:limit]


def record(decision_id: str, unwritten: Decision | None, connection: Connection) -> Record | None:
    """All that is known under the id, or None; `unwritten` stands in for a decision that is not there."""
    (found,) = records([decision_id], connection)
    if found.decision is None:
        found = msgspec.structs.replace(found, decision=unwritten)
    return None if found.decision is None and found.outcome is None else found


def records(decision_ids: Sequence[str], connection: Connection, vectors: bool = True) -> list[Record]:
    """What is known under each id, in their order; an id may turn out to be unknown altogether."""
    left_out = () if vectors else ("embedding", "features")
    decisions = {one.decision_id: one for one in _rows(Decision, DecisionRow, decision_ids, connection, left_out)}
    outcomes = {one.decision_id: one for one in _rows(ReportedOutcome, OutcomeRow, decision_ids, connection)}
    ratings = _ratings(decision_ids, connection)
    expired = _which(DecisionRow.expired_at.is_not(None), decision_ids, connection)
    query = _regenerated().where(DecisionRow.decision_id.in_(decision_ids))
    regenerated = set(connection.execute(query).scalars())
    return [
        Record(
            decision_id=one,
            decision=decisions.get(one),
            expired=one in expired,
            outcome=outcomes.get(one),
            ratings=ratings[one],
            regenerated=one in regenerated,
        )
        for one in decision_ids
    ]


def _merged(sources: list[Select[Any]], after: str, before: str, limit: int, connection: Connection) -> list[str]:
    """The first `limit` of all sources' ids in order; each source is read no further than that."""
    firsts = []
    for source in sources:
        (column,) = source.selected_columns
        near = source.where(column > after, column < before).order_by(column).limit(limit).subquery()
        firsts.append(select(near.c.decision_id))
    found = union(*firsts).subquery()
    query = select(found.c.decision_id).order_by(found.c.decision_id).limit(limit)
    return list(connection.execute(query).scalars())


def _drawn(source: Select[Any], part: float) -> ColumnElement[bool]:
    (column,) = source.selected_columns
    return func.substr(column, 33) < f"{round(part * 0x10000):04x}"


def _rated() -> Select[Any]:
    return select(RatingRow.decision_id).where(RatingRow.superseded_at.is_(None)).distinct()


def _regenerated() -> Select[Any]:
    """Answered decisions whose whole request came again within a minute of the answer, from the same session or user.

    The same last words are not enough: every turn of a tool loop has them. `needs` counts the whole conversation.
    """
    earlier, later = DecisionRow, aliased(DecisionRow)
    answered = earlier.created_at + OutcomeRow.latency_ms / 1000  # null, and no signal, where that is not known
    by_the_same = or_(
        later.session_id == earlier.session_id,
        and_(later.session_id.is_(None), earlier.session_id.is_(None), later.user == earlier.user),
    )
    again = exists().where(
        later.text_hash == earlier.text_hash,
        later.created_at > earlier.created_at,  # for the index: an answer takes no less than no time
        later.created_at >= answered,
        later.created_at <= answered + AGAIN_SECONDS,
        cast(later.needs, String) == cast(earlier.needs, String),
        by_the_same,
    )
    return (
        select(earlier.decision_id)
        .join(OutcomeRow, OutcomeRow.decision_id == earlier.decision_id)
        .where(OutcomeRow.status.in_(("success", "fallback")), earlier.text_hash != _NO_TEXT, again)
    )


def _rows(
    kind: type[R],
    table: type[DeclarativeBase],
    decision_ids: Sequence[str],
    connection: Connection,
    left_out: Collection[str] = (),
) -> list[R]:
    """The rows as structs; columns that are left out keep the struct's defaults."""
    columns = table.__table__.c
    names = [name for name in kind.__struct_fields__ if name not in left_out]
    query = select(*(columns[name] for name in names)).where(columns.decision_id.in_(decision_ids))
    return [kind(**dict(zip(names, row, strict=True))) for row in connection.execute(query)]


def _ratings(decision_ids: Sequence[str], connection: Connection) -> dict[str, list[Rating]]:
    """The current ones of each id, oldest first."""
    names = Rating.__struct_fields__
    rows = RatingRow.__table__.c
    query = (
        select(*(rows[name] for name in names))
        .where(rows.decision_id.in_(decision_ids), rows.superseded_at.is_(None))
        .order_by(rows.created_at, rows.feedback_id)
    )
    ratings: dict[str, list[Rating]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        ratings[row["decision_id"]].append(Rating(**{**row, "tags": tuple(row["tags"] or ())}))
    return ratings


def _which(condition: ColumnElement[bool], decision_ids: Sequence[str], connection: Connection) -> set[str]:
    query = select(DecisionRow.decision_id).where(DecisionRow.decision_id.in_(decision_ids), condition)
    return set(connection.execute(query).scalars())
