"""Statements about stretches of logged traffic: samples of its decisions, and how much of it was rated.

Times are Unix seconds; a stretch begins with `after` and ends before `before`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, func, select

from feedback.history import first_id
from feedback.schema import DecisionRow, RatingRow

_CHUNK = 500
_RATERS = "human"

_made = DecisionRow.__table__.c


class Scored(NamedTuple):
    """A decision's scores, and what was asked for."""

    router: str
    version: str
    requested: str
    unit: str
    win_rates: dict[str, float]


class Encoded(NamedTuple):
    """Where a decision's embedding is to be found."""

    decision_id: str
    unit: str
    created_at: float


class Day(NamedTuple):
    """decisions: made on it; rated: those of them that a person has rated before its end."""

    decisions: int
    rated: int


def count(after: float, before: float, connection: Connection) -> int:
    """How many decisions were made."""
    found: int = connection.execute(select(func.count()).where(_within(after, before))).scalar_one()
    return found


def scored(after: float, before: float, part: float, connection: Connection) -> list[Scored]:
    """A random part, in (0, 1], of the decisions."""
    columns = (_made[name] for name in Scored._fields)
    query = select(*columns).where(_drawn(after, before, part))
    return [Scored(*row) for row in connection.execute(query)]


def encoded(encoder_id: str, after: float, before: float, part: float, connection: Connection) -> list[Encoded]:
    """A random part, in (0, 1], of the decisions, of those that were encoded so; in the order of their ids."""
    columns = (_made[name] for name in Encoded._fields)
    kept = and_(_drawn(after, before, part), _made.encoder_id == encoder_id, _made.embedding.is_not(None))
    query = select(*columns).where(kept).order_by(_made.decision_id)
    return [Encoded(*row) for row in connection.execute(query)]


def embeddings(decision_ids: Sequence[str], connection: Connection) -> dict[str, bytes]:
    """As they are stored, by id."""
    found: dict[str, bytes] = {}
    for start in range(0, len(decision_ids), _CHUNK):
        some = _made.decision_id.in_(decision_ids[start : start + _CHUNK])
        found |= {row[0]: row[1] for row in connection.execute(select(_made.decision_id, _made.embedding).where(some))}
    return found


def days(ends: Collection[tuple[float, float]], connection: Connection) -> list[Day]:
    """Of each stretch."""
    return [Day(count(after, before, connection), _rated(after, before, connection)) for after, before in ends]


def _rated(after: float, before: float, connection: Connection) -> int:
    rating = RatingRow.__table__.c
    query = select(func.count(rating.decision_id.distinct())).where(
        rating.decision_id > first_id(after),
        rating.decision_id < first_id(before),
        rating.created_at < before,
        rating.superseded_at.is_(None),
        rating.value.is_not(None),
        rating.source == _RATERS,
    )
    found: int = connection.execute(query).scalar_one()
    return found


def _within(after: float, before: float) -> ColumnElement[bool]:
    return and_(_made.created_at >= after, _made.created_at < before)


def _drawn(after: float, before: float, part: float) -> ColumnElement[bool]:
    """By the last digits of the ids, which are random."""
    below = func.substr(_made.decision_id, 33) < f"{round(part * 0x10000):04x}"
    return and_(_within(after, before), below) if part < 1 else _within(after, before)
