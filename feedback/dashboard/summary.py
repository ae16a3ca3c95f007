"""The figures of the first page, and of `GET /v1/report/{days}`: the report's, on the newest requests.

They take some seconds to find, and are kept for a minute. In a thread they would hold up decisions, a hundredth of them
by more than the gateway waits; so they are found in a process of their own, at low priority, that ends with them.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from feedback import curves, logged, report, savings
from feedback.curves import Curve
from feedback.logged import Log
from feedback.ope import Floats
from feedback.report import Happened, Line, WhatIf
from feedback.savings import Savings
from feedback.store import Store
from gateway_plugin import names
from scorer import calibration
from scorer.calibration import Calibration
from scorer.config import Config
from scorer.scoring import Hosted
from scorer.web import JSON, Endpoint, Problem

MOST_DAYS = 365
MOST_REQUESTS = 10_000  # of more, a random part: a share is then known to a point
KEPT_SECONDS = 60.0
_DAY = 24 * 3600.0
_BINS = 24
_DRAWS = 500
_NICENESS = 10


class Serving(NamedTuple):
    """The default's router as it is hosted."""

    router: str
    version: str
    calibration: Calibration | None


@dataclass(frozen=True)
class Scores:
    """How the version that serves has scored of late: of each bin between two edges the share of requests whose lowest
    win rate is in it, and the same of what it was calibrated on, if it was. threshold: None where a policy steers."""

    router: str
    version: str
    requests: int
    sample: str | None
    threshold: float | None
    edges: list[float]
    recent: list[float]
    known: list[float] | None


@dataclass(frozen=True)
class Summary:
    """made_at, after: Unix seconds. decisions: made since; part, in (0, 1]: of all requests, drawn at random, that the
    figures are of. target: the strong share asked for, and expected: with what exploration adds; None where it is not a
    share that is asked for."""

    made_at: float
    after: float
    decisions: int
    part: float
    target: float | None
    expected: float | None
    happened: Happened
    savings: Savings
    what_if: WhatIf
    curve: Curve
    scores: Scores

    @property
    def total(self) -> float:
        """Dollars that all requests with a choice saved, against always the strongest."""
        return self.savings.requests / self.part * self.savings.below_strongest.value

    @property
    def here(self) -> Line:
        """The policy as it was."""
        return self.what_if.lines[0]


class Summaries:
    """Makes them, one at a time, and keeps each a minute. For use in one event loop."""

    def __init__(
        self, config: Config, store: Store, hosted: Callable[[str], Hosted], clock: Callable[[], float] = time.time
    ) -> None:
        self._config = config
        self._store = store
        self._hosted = hosted
        self._clock = clock
        self._made: dict[int, Summary] = {}
        self._turn = asyncio.Lock()

    async def get(self, days: int) -> Summary:
        """Of the last days. Raises Unavailable."""
        async with self._turn:
            now = self._clock()
            known = self._made.get(days)
            if known is None or not 0 <= now - known.made_at < KEPT_SECONDS:
                known = self._made[days] = await self._make(days, now)
            return known

    async def _make(self, days: int, now: float) -> Summary:
        after = now - days * _DAY
        decisions = await self._store.decided(after)
        part = min(1.0, MOST_REQUESTS / max(decisions, 1))
        router = names.parse(self._config.default).router
        assert router is not None
        return await _apart(partial(_found, self._config, serving(self._hosted(router)), (now, after), decisions, part))


async def _apart(work: Callable[[], Summary]) -> Summary:
    """In a process of its own. Raises what the work raises."""
    one = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _give_way)
    try:
        return await asyncio.get_running_loop().run_in_executor(one, work)
    finally:
        await asyncio.to_thread(one.shutdown)


def _give_way() -> None:
    if sys.platform != "win32":
        os.nice(_NICENESS)


def _found(config: Config, serving: Serving, times: tuple[float, float], decisions: int, part: float) -> Summary:
    """Read and summed up, here."""

    async def read() -> Log:
        store = Store(config.database_url)
        try:
            return await logged.read(store, config.models, times[1], part=part)
        finally:
            await store.close()

    return summarise(config, serving, asyncio.run(read()), times, decisions, part)


def summarise(
    config: Config, serving: Serving, log: Log, times: tuple[float, float], decisions: int, part: float
) -> Summary:
    """Everything that takes thought; times: now, and the start."""
    made_at, after = times
    usable, asked = log.usable(), target(config)
    threshold = _threshold(config, serving)
    steered = 0.5 if threshold is None else threshold
    spread = config.exploration / len(config.models)
    return Summary(
        made_at=made_at,
        after=after,
        decisions=decisions,
        part=part,
        target=asked,
        expected=None if asked is None else (1 - config.exploration) * asked + spread,
        happened=report.happened(log),
        savings=savings.savings(usable),
        what_if=report.what_if(usable, config.default, usable.win_rates, steered, config.exploration),
        curve=curves.curve("as scored", usable, usable.win_rates, _DRAWS),
        scores=scores(serving, log, threshold),
    )


def target(config: Config) -> float | None:
    """The share of requests to the strongest model that is asked for."""
    if config.policy:
        return config.policy.budget.strong_share if config.policy.budget else None
    return names.parse(config.default).share


def serving(hosted: Hosted) -> Serving:
    return Serving(hosted.router.name, hosted.router.version, hosted.calibration)


def scores(serving: Serving, log: Log, threshold: float | None) -> Scores:
    """Of the version that serves."""
    mine = (log.router == serving.router) & (log.version == serving.version)
    rates = log.win_rates[mine]
    recent = calibration.lowest(rates[~np.isnan(rates).any(axis=1)])
    known = serving.calibration
    edges = _edges(np.concatenate([recent, known.lowest if known else np.zeros(0)]))
    return Scores(
        router=serving.router,
        version=serving.version,
        requests=len(recent),
        sample=known.sample if known else None,
        threshold=threshold,
        edges=edges.tolist(),
        recent=_shares(recent, edges),
        known=_shares(known.lowest, edges) if known else None,
    )


def endpoint(summaries: Summaries) -> Endpoint:
    """The same as data."""

    async def figures(request: Request) -> Response:
        found = await summaries.get(read_days(request.path_params["days"]))
        return JSON(report.plain(found))

    return Endpoint(
        "GET",
        "/v1/report/{days}",
        figures,
        "What routing did and saved in the last days, 1 to 365: the figures of the dashboard.",
        answers={200: dict[str, Any]},
        errors=(400, 503),
        scopes=("admin",),
    )


def read_days(text: str) -> int:
    """Raises Problem 400."""
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MOST_DAYS):
        raise Problem(400, "bad_request", f"days: expected a whole number from 1 to {MOST_DAYS}", "days")
    return int(text)


def _threshold(config: Config, serving: Serving) -> float | None:
    default = names.parse(config.default)
    if config.policy:
        return None
    if default.threshold is not None:
        return default.threshold
    known = serving.calibration
    return known.threshold(default.share) if known and default.share is not None else None


def _edges(values: Floats) -> Floats:
    """(bins + 1,) over all values but the outermost, which are drawn in with their neighbours."""
    if not len(values):
        return np.linspace(0, 1, _BINS + 1)
    low, high = np.quantile(values, [0.002, 0.998])
    return np.linspace(low, max(high, low + 1e-3), _BINS + 1)


def _shares(values: Floats, edges: Floats) -> list[float]:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return [float(count) / max(len(values), 1) for count in counts]
