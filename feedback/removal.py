"""Statements that find what is to go, and delete it with all that hangs on it.

With a decision go its outcome, its ratings whoever gave them, its comparisons and judgements. What it cost stays, in
`spend` and among the judge's calls, which then name no decision.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, delete, exists, func, or_, select, tuple_, union, update
from sqlalchemy.orm import DeclarativeBase

from feedback import history, signals, spend
from feedback.schema import ComparisonRow, DecisionRow, JudgeCallRow, JudgementRow, OutcomeRow, PinRow, RatingRow
from gateway_plugin import ids

_HANGING: tuple[type[Any], ...] = (OutcomeRow, RatingRow, JudgementRow)  # what may be there without its decision
_PROMPT = ("text", "encoder_id", "embedding", "features")
_DERIVED = "auto:"  # how sessions begin that the gateway derived; the user's id ends their names in `pins`


class Found(NamedTuple):
    """What is to go: all that is known under decision ids, and single ratings and comparisons."""

    decision_ids: Sequence[str] = ()
    feedback_ids: Sequence[str] = ()
    comparison_ids: Sequence[str] = ()

    def __bool__(self) -> bool:
        return any(map(len, self))

    def chunks(self, size: int) -> Iterator[Found]:
        """In parts, of at most so many of each."""
        for start in range(0, max(map(len, self)), size):
            yield Found(*(some[start : start + size] for some in self))


class Place(NamedTuple):
    """Where a page ended: the next one begins after it."""

    created_at: float = 0.0
    key: str = ""


def remove(found: Found, connection: Connection, strongest: str | None = None) -> Counter[str]:
    """Deletes it; how many rows of each table. strongest: the ladder's first model, where spend may be recent enough to
    be summed up again; it is to be up to date."""
    if strongest is not None:
        spend.set_apart(strongest, found.decision_ids, time.time(), connection)
    ledger = update(JudgeCallRow).where(JudgeCallRow.decision_id.in_(found.decision_ids))
    connection.execute(ledger.values(decision_id=""))
    return Counter(
        {row.__tablename__: connection.execute(delete(row).where(mine)).rowcount for row, mine in _rows(found)}
    )


def count(found: Found, connection: Connection) -> Counter[str]:
    """What `remove` would delete."""
    return Counter(
        {
            row.__tablename__: connection.execute(select(func.count()).where(mine)).scalar_one()
            for row, mine in _rows(found)
        }
    )


def told(removed: Mapping[str, int]) -> str:
    """In one line."""
    return ", ".join(f"{count:,} {name}" for name, count in removed.items() if count) or "nothing"


def _rows(found: Found) -> list[tuple[type[DeclarativeBase], ColumnElement[bool]]]:
    """Decisions last: until then, what hangs on them can be found through them."""
    given, compared = (
        RatingRow.feedback_id.in_(found.feedback_ids),
        ComparisonRow.comparison_id.in_(found.comparison_ids),
    )
    return [
        (OutcomeRow, OutcomeRow.decision_id.in_(found.decision_ids)),
        (RatingRow, or_(RatingRow.decision_id.in_(found.decision_ids), given)),
        (ComparisonRow, or_(ComparisonRow.decision_id.in_(found.decision_ids), compared)),
        (JudgementRow, JudgementRow.decision_id.in_(found.decision_ids)),
        (DecisionRow, DecisionRow.decision_id.in_(found.decision_ids)),
    ]


# What is older than it may be (Unix seconds)


def old_decisions(after: Place, before: float, limit: int, connection: Connection) -> list[Place]:
    """The next ones."""
    return _places(select(DecisionRow.created_at, DecisionRow.decision_id), after, before, limit, connection)


def old_comparisons(after: Place, before: float, limit: int, connection: Connection) -> list[Place]:
    """The next ones that hang on no decision: of prompts of their own, or of decisions that are gone."""
    alone = ~exists().where(DecisionRow.decision_id == ComparisonRow.decision_id)
    query = select(ComparisonRow.created_at, ComparisonRow.comparison_id).where(alone)
    return _places(query, after, before, limit, connection)


def old_orphans(after: str, before: float, limit: int, connection: Connection) -> list[str]:
    """The next decision ids, in order, of outcomes, ratings and judgements without a decision."""
    sources = []
    for row in _HANGING:
        alone = ~exists().where(DecisionRow.decision_id == row.decision_id)
        page = select(row.decision_id).where(row.decision_id > after, row.decision_id < history.first_id(before), alone)
        sources.append(select(page.distinct().order_by(row.decision_id).limit(limit).subquery()))
    query = union(*sources).order_by("decision_id").limit(limit)
    return list(connection.execute(query).scalars())


def old_prompts(after: Place, before: float, limit: int, connection: Connection) -> list[Place]:
    """The next decisions whose prompt is kept, be it as an embedding."""
    query = select(DecisionRow.created_at, DecisionRow.decision_id).where(_kept(DecisionRow))
    return _places(query, after, before, limit, connection)


def old_compared_prompts(after: Place, before: float, limit: int, connection: Connection) -> list[Place]:
    """The next comparisons whose own prompt is kept."""
    query = select(ComparisonRow.created_at, ComparisonRow.comparison_id).where(_kept(ComparisonRow))
    return _places(query, after, before, limit, connection)


def strip(decision_ids: Collection[str], comparison_ids: Collection[str], connection: Connection) -> int:
    """Leaves of prompts what `keep: hash` would have left; how many."""
    nothing = dict.fromkeys(_PROMPT)
    mine = DecisionRow.decision_id.in_(decision_ids), ComparisonRow.comparison_id.in_(comparison_ids)
    return sum(
        connection.execute(update(row).where(some).values(nothing)).rowcount
        for row, some in zip((DecisionRow, ComparisonRow), mine, strict=True)
    )


def _kept(row: type[Any]) -> ColumnElement[bool]:
    return or_(*(row.__table__.c[name].is_not(None) for name in _PROMPT))


def _places(query: Select[float, str], after: Place, before: float, limit: int, connection: Connection) -> list[Place]:
    """query: of times and keys."""
    created_at, key = query.selected_columns
    page = (
        query.where(created_at < before, tuple_(created_at, key) > tuple(after)).order_by(created_at, key).limit(limit)
    )
    return [Place(*row) for row in connection.execute(page)]


# What is one user's


def of_user(user: str, until: float, connection: Connection) -> Found:
    """All that was made up to a time: requests, and what the user said of others'. No index has users, so tables are
    read as a whole; nobody waits for that."""
    last = history.first_id(until)
    decided = select(DecisionRow.decision_id).where(DecisionRow.user == user, DecisionRow.created_at <= until)
    reported = select(OutcomeRow.decision_id).where(OutcomeRow.user == user, OutcomeRow.decision_id <= last)
    rated = select(RatingRow.feedback_id).where(RatingRow.user == user, RatingRow.created_at <= until)
    compared = select(ComparisonRow.comparison_id).where(ComparisonRow.user == user, ComparisonRow.created_at <= until)
    found = [sorted(connection.execute(query).scalars()) for query in (union(decided, reported), rated, compared)]
    return Found(*found)


def said_since(found: Found, connection: Connection) -> float | None:
    """Since when something was said that routers may have learned from (Unix seconds): when the first of the requests
    that were rated, compared, judged, or spoken against by a signal was made; None: nothing was."""
    records = history.records(found.decision_ids, connection, vectors=False)
    told = {
        one.decision_id for one in records if one.ratings or signals.implicit(one, dict.fromkeys(signals.KINDS, 1.0))
    }
    rated = select(RatingRow.decision_id).where(RatingRow.feedback_id.in_(found.feedback_ids))
    told |= set(connection.execute(rated).scalars())
    mine = or_(ComparisonRow.decision_id.in_(found.decision_ids), ComparisonRow.comparison_id.in_(found.comparison_ids))
    compared = connection.execute(select(ComparisonRow.decision_id, ComparisonRow.created_at).where(mine)).all()
    told |= {decision_id for decision_id, _ in compared if decision_id is not None}
    alone = [made for decision_id, made in compared if decision_id is None]
    return min([*(float(ids.minted_at(one)) for one in told), *alone], default=None)


def remove_pins(user: str, decision_ids: Collection[str], connection: Connection) -> int:
    """Of the user's conversations, as they are known from decisions, or by their name; how many."""
    sessions = select(DecisionRow.unit).where(DecisionRow.decision_id.in_(decision_ids))
    named = PinRow.session.startswith(_DERIVED) & PinRow.session.endswith(f" {user}", autoescape=True)
    return connection.execute(delete(PinRow).where(or_(PinRow.session.in_(sessions), named))).rowcount
