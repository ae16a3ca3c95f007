"""Which decisions the list shows, as its form asks for them."""

from __future__ import annotations

import time
from typing import cast, get_args

from starlette.datastructures import QueryParams

from feedback.listing import Rated, Status, Wanted
from scorer.web import Problem

PERIODS = {"hour": 3600, "day": 86_400, "week": 7 * 86_400, "month": 30 * 86_400, "all": 0}


def wanted(query: QueryParams) -> Wanted:
    """What the query asks for. Raises Problem 400."""
    seconds = PERIODS[_one_of("period", query.get("period") or "month", tuple(PERIODS))]
    status, rated = query.get("status") or None, query.get("rated") or None
    return Wanted(
        model=_text(query, "model"),
        router=_text(query, "router"),
        status=cast(Status, _one_of("status", status, get_args(Status))) if status else None,
        rated=cast(Rated, _one_of("rated", rated, get_args(Rated))) if rated else None,
        user=_text(query, "user"),
        after=time.time() - seconds if seconds else 0.0,
        before=_text(query, "before") or Wanted().before,
    )


def _text(query: QueryParams, field: str) -> str | None:
    """Without NUL, which no text in a database has, and PostgreSQL takes in none to compare with."""
    return query.get(field, "").replace("\0", "") or None


def _one_of(field: str, value: str, accepted: tuple[str, ...]) -> str:
    if value not in accepted:
        raise Problem(400, "bad_request", f"{field}: expected one of {', '.join(accepted)}", field)
    return value
