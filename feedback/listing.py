"""Statements that list decisions, the newest first, a page at a time.

A fallback has an outcome and no decision, so a page is merged from two sources, each read no further than it goes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, exists, func, null, or_, select

from feedback.history import first_id
from feedback.schema import DecisionRow, OutcomeRow, RatingRow
from gateway_plugin import ids

Status = Literal["routed", "observe", "fallback", "expired", "lost"]  # Record's
Rated = Literal["up", "down", "rated", "unrated"]

_RATERS = "human"
_LAST = "g"  # comes after every id

_made, _seen = DecisionRow.__table__.c, OutcomeRow.__table__.c


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which decisions. model: chosen or served; after: Unix seconds; before: an id, of which older ones follow."""

    model: str | None = None
    router: str | None = None
    status: Status | None = None
    rated: Rated | None = None
    user: str | None = None
    after: float = 0.0
    before: str = _LAST


class Line(NamedTuple):
    """One decision in a list; router, version, win_rates and threshold are None of a fallback."""

    decision_id: str
    status: Status
    outcome: str | None  # success, failure, rejected or fallback
    model: str | None  # that was chosen
    served: str | None
    router: str | None
    version: str | None
    win_rates: dict[str, float] | None  # by model, over the ladder
    threshold: float | None
    reason: str | None
    cost: float | None  # US dollars
    latency_ms: float | None
    user: str | None
    rating: float | None  # the mean of people's, in [0, 1]

    @property
    def made_at(self) -> float:
        """Unix seconds."""
        return ids.minted_at(self.decision_id)


def page(wanted: Wanted, limit: int, connection: Connection) -> list[Line]:
    """The next lines, at most `limit`."""
    found = [*_lines(_decided(wanted), limit, connection), *_lines(_undecided(wanted), limit, connection)]
    lines = sorted(found, key=lambda line: line.decision_id, reverse=True)[:limit]
    ratings = _ratings([line.decision_id for line in lines], connection)
    return [line._replace(rating=ratings.get(line.decision_id)) for line in lines]


def anything(connection: Connection) -> bool:
    """Whether any request was ever heard of."""
    return any(connection.execute(select(column).limit(1)).first() for column in (_made.decision_id, _seen.decision_id))


def _lines(query: Select[Any], limit: int, connection: Connection) -> Iterator[Line]:
    for row in connection.execute(query.limit(limit)):
        values = dict(zip(Line._fields, (row[0], "", *row[3:], None), strict=True))
        yield Line(**{**values, "status": _status(row[1], row[2], row[3])})


def _status(mode: str | None, expired_at: float | None, outcome: str | None) -> Status:
    """As Record.status has it."""
    if outcome == "fallback":
        return "fallback"
    if mode is None:
        return "lost"
    if expired_at is not None and outcome is None:
        return "expired"
    return "observe" if mode == "observe" else "routed"


def _decided(wanted: Wanted) -> Select[Any]:
    columns = (
        *(_made[name] for name in ("decision_id", "mode", "expired_at")),
        _seen.status,
        _made.model,
        _seen.served,
        *(_made[name] for name in ("router", "version", "win_rates", "threshold", "reason")),
        _seen.cost,
        _seen.latency_ms,
        _made.user,
    )
    joined = select(*columns).outerjoin(OutcomeRow, _seen.decision_id == _made.decision_id)
    conditions = [*_common(wanted, _made.decision_id), *_as_status(wanted.status)]
    if wanted.model is not None:
        conditions.append(or_(_made.model == wanted.model, _seen.served == wanted.model))
    if wanted.router is not None:
        conditions.append(_made.router == wanted.router)
    if wanted.user is not None:
        conditions.append(_made.user == wanted.user)
    return joined.where(*conditions).order_by(_made.decision_id.desc())


def _as_status(status: Status | None) -> list[ColumnElement[bool]]:
    """Of decisions, with their outcome if there is one."""
    fallback = func.coalesce(_seen.status, "") == "fallback"
    expired = _made.expired_at.is_not(None) & _seen.decision_id.is_(None)
    observed = _made.mode == "observe"
    conditions: dict[Status | None, list[ColumnElement[bool]]] = {
        None: [],
        "fallback": [fallback],
        "lost": [_made.decision_id.is_(None)],
        "expired": [expired],
        "observe": [observed, ~fallback, ~expired],
        "routed": [~observed, ~fallback, ~expired],
    }
    return conditions[status]


def _undecided(wanted: Wanted) -> Select[Any]:
    """Outcomes without a decision."""
    columns = (
        _seen.decision_id,
        null(),
        null(),
        _seen.status,
        _seen.chosen,
        _seen.served,
        *[null()] * 4,
        _seen.reason,
        _seen.cost,
        _seen.latency_ms,
        _seen.user,
    )
    conditions = [*_common(wanted, _seen.decision_id), ~exists().where(_made.decision_id == _seen.decision_id)]
    if wanted.model is not None:
        conditions.append(or_(_seen.chosen == wanted.model, _seen.served == wanted.model))
    if wanted.user is not None:
        conditions.append(_seen.user == wanted.user)
    if wanted.router is not None or wanted.status in ("routed", "observe", "expired"):
        conditions.append(_seen.decision_id.is_(None))
    elif wanted.status is not None:
        fallback = _seen.status == "fallback"
        conditions.append(fallback if wanted.status == "fallback" else ~fallback)
    return select(*columns).where(*conditions).order_by(_seen.decision_id.desc())


def _common(wanted: Wanted, decision_id: ColumnElement[str]) -> list[ColumnElement[bool]]:
    bounds = [decision_id < wanted.before]
    if wanted.after > 0 and math.isfinite(wanted.after):
        bounds.append(decision_id > first_id(wanted.after))
    if wanted.rated is None:
        return bounds
    said = RatingRow.__table__.c
    opinion = exists().where(
        said.decision_id == decision_id,
        said.source == _RATERS,
        said.superseded_at.is_(None),
        said.value.is_not(None),
        *({"up": [said.value > 0.5], "down": [said.value < 0.5]}.get(wanted.rated, [])),
    )
    return [*bounds, ~opinion if wanted.rated == "unrated" else opinion]


def _ratings(decision_ids: list[str], connection: Connection) -> dict[str, float]:
    said = RatingRow.__table__.c
    query = (
        select(said.decision_id, func.avg(said.value))
        .where(said.decision_id.in_(decision_ids), said.source == _RATERS, said.superseded_at.is_(None))
        .where(said.value.is_not(None))
        .group_by(said.decision_id)
    )
    return {decision_id: float(mean) for decision_id, mean in connection.execute(query)}
