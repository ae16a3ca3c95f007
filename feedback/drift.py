"""Drift: whether the traffic of late is still what thresholds were calibrated on, and is rated as it was.

Once a day four kinds of checks compare the last day with what came before (docs/operating.md has the arithmetic):
scores with the calibration of the version that serves, the share of requests that reach the strongest model with the
share asked for, prompts with those of the week before, and the rating rate with that of the days before. All checks
of an evaluation share one rate of false alarms.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from feedback import calibrations, significance
from feedback.significance import Floats
from feedback.store import Store
from feedback.traffic import Day, Encoded, Scored
from gateway_plugin import names
from scorer import calibration
from scorer.calibration import Calibration
from scorer.scoring import Hosted

JOB = "drift"
DAY = 24 * 3600.0

LEAST_SESSIONS = 100  # fewer say little, and their clustering cannot be told
_MOST = 2000  # requests of a window: a share is then known to about two points, and smaller drifts are no alarm
_POINTS = 500  # sessions whose prompts are compared, on either side
_REFERENCE_DAYS = 7  # before the window, that its prompts are compared with
_RATED_DAYS = 28  # before it, that its rating rate is compared with
_LEAST_DAYS = 7  # of those with enough decisions
_EVALUATIONS = 365  # a year
_SETTLED_SECONDS = 300.0  # by which the decisions of a day are written
_EXPIRY_SECONDS = 600.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Terms:
    """What does not change from day to day. default: the name that `router` stands for, or None where its threshold is
    steered; encoder_id: whose embeddings are compared; false_alarms: a year, in the mean, of all checks."""

    models: tuple[str, ...]  # strongest first
    default: str | None
    encoder_id: str
    days: int
    false_alarms: float
    recalibrate: bool


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found. router: '' where it is about all of them; value beside expected, as `says` puts it."""

    check: str  # scores, strong_share, prompts or ratings
    router: str = ""
    p: float
    value: float
    expected: float
    says: str
    alarm: bool = False


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation: of the traffic from `after` on and before `before` (Unix seconds)."""

    after: float
    before: float
    level: float  # a check's p is below it with this probability where nothing has drifted
    false_alarms: float  # a year
    checks: list[Check]
    skipped: dict[str, str]  # checks that could not be made, and why
    recalibrated: list[str] = []  # routers

    @property
    def alarms(self) -> list[Check]:
        return [check for check in self.checks if check.alarm]

    @property
    def verdict(self) -> str:
        """In one line."""
        if self.alarms:
            return "; ".join(check.says for check in self.alarms)
        return f"no drift in {len(self.checks)} checks" if self.checks else "too little traffic to tell"


async def keep(
    store: Store,
    hosted: Mapping[str, Hosted],
    terms: Terms,
    show: Callable[[Drift], None],
    clock: Callable[[], float] = time.time,
) -> None:
    """Makes the evaluation that is due, unless another replica has, and shows the newest. To be called often."""
    due = (clock() - _SETTLED_SECONDS) // DAY * DAY
    if await store.wants_run(JOB, due, _EXPIRY_SECONDS):
        holder = f"{socket.gethostname()} {os.getpid()}"
        if claimed := await store.claim_run(JOB, due, holder, _EXPIRY_SECONDS):
            await _make(store, hosted, terms, claimed.run_id, due)
    if found := await newest(store):
        show(found)


async def newest(store: Store) -> Drift | None:
    """The last evaluation that was made."""
    found = await history(store, 1)
    return found[0] if found else None


async def history(store: Store, days: int) -> list[Drift]:
    """The evaluations of the last days, the newest first."""
    runs = await store.runs(JOB, days + _LEAST_DAYS)  # some may have failed
    return [msgspec.convert(run.record, Drift) for run in runs if run.record][:days]


async def _make(store: Store, hosted: Mapping[str, Hosted], terms: Terms, run_id: str, due: float) -> None:
    try:
        found = await evaluate(store, hosted, terms, due)
    except Exception as error:
        await store.finish_run(run_id, "failed", type(error).__name__)
        raise
    await store.finish_run(run_id, "drift" if found.alarms else "steady", found.verdict, msgspec.to_builtins(found))
    for check in found.alarms:
        _log.warning("drift: %s (p = %.1g)", check.says, check.p)


async def evaluate(store: Store, hosted: Mapping[str, Hosted], terms: Terms, before: float) -> Drift:
    """Of the window that ends then, as a multiple of a day; recalibrates what has drifted if the terms say so."""
    hosted = dict(hosted)  # which others swap meanwhile
    after = before - terms.days * DAY
    part = min(1.0, _MOST / max(await store.traffic_count(after, before), 1))
    rows = await store.traffic_scored(after, before, part)
    recent = {name: _recent(rows, one, terms.models) for name, one in hosted.items()}
    enough = {name: window for name, window in recent.items() if window.sessions >= LEAST_SESSIONS}
    skipped = {
        f"scores of {name}": f"{window.sessions} sessions on {hosted[name].router.version}, {LEAST_SESSIONS} are needed"
        for name, window in recent.items()
        if name not in enough
    }
    checks = [check for name, window in enough.items() for check in scores(name, hosted[name], window, terms)]
    checks += await _ratings(store, before, skipped)
    prompts = await _prompts(store, terms, after, before, part, skipped)
    level = terms.false_alarms / (_EVALUATIONS * max(len(checks) + (prompts is not None), 1))
    if prompts:
        checks.append(await asyncio.to_thread(unlike, *prompts, level, round(before)))
    checks = [msgspec.structs.replace(check, alarm=check.p < level) for check in checks]
    drifted = {check.router for check in checks if check.alarm and check.router} if terms.recalibrate else set()
    for name in sorted(drifted):
        fitted = Calibration(calibrations.TRAFFIC, enough[name].lowest)
        await store.add_calibration(calibrations.stored(hosted[name].router, hosted[name].ladder, fitted))
    return Drift(
        after=after,
        before=before,
        level=level,
        false_alarms=terms.false_alarms,
        checks=checks,
        skipped=skipped,
        recalibrated=sorted(drifted),
    )


# Scores, and the share that they come to


@dataclass(frozen=True)
class Window:
    """Requests that the version which serves has scored. lowest, unit (n,): as in Calibration, and the sessions."""

    lowest: Floats
    unit: NDArray[np.int64]
    requested: Sequence[str]

    @property
    def sessions(self) -> int:
        return len(np.unique(self.unit))


def _recent(rows: Sequence[Scored], hosted: Hosted, models: tuple[str, ...]) -> Window:
    router = hosted.router
    of = [
        row for row in rows if (row.router, row.version, tuple(row.win_rates)) == (router.name, router.version, models)
    ]
    rates = np.array([list(row.win_rates.values()) for row in of]).reshape(len(of), len(models))
    _, unit = np.unique(np.array([row.unit for row in of], np.str_), return_inverse=True)
    return Window(calibration.lowest(rates), unit.astype(np.int64), [row.requested for row in of])


def scores(name: str, hosted: Hosted, recent: Window, terms: Terms) -> list[Check]:
    """Against the calibration. Requests of a session count as fewer (significance.independent); so do those of a sample
    of traffic, whose sessions are not known, and are taken to be like the recent ones."""
    known = hosted.calibration
    if known is None:
        return []
    n, of = len(recent.lowest), len(known.lowest)
    clustered = known.sample == calibrations.TRAFFIC
    deciles = np.quantile(recent.lowest, np.arange(1, 10) / 10)
    thinned = min(significance.independent(recent.lowest >= value, recent.unit) for value in deciles) / n
    p, _ = significance.kolmogorov(recent.lowest, known.lowest, n * thinned, of * (thinned if clustered else 1.0))
    middle, usual = float(np.median(recent.lowest)), float(np.median(known.lowest))
    says = f"half of the win rates of {name} are below {middle:.3f} where on {known.sample} half were below {usual:.3f}"
    found = [Check(check="scores", router=name, p=p, value=middle, expected=usual, says=says)]
    share = _asked(recent.requested, name, terms.default)
    return found if share is None else [*found, _share(name, known, recent, share, clustered)]


def _share(name: str, known: Calibration, recent: Window, asked: float, clustered: bool) -> Check:
    threshold = known.threshold(asked)
    above = recent.lowest >= threshold
    n, of = len(above), len(known.lowest)
    thinned = significance.independent(above, recent.unit) / n
    also = thinned if clustered else 1.0
    reached = float((known.lowest >= threshold).sum())
    p = significance.binomial(above.sum() * thinned, n * thinned, reached * also, of * also)
    share = float(above.mean())
    says = f"strong share of {name}: {share:.1%} where {known.share(threshold):.1%} was asked for"
    return Check(check="strong_share", router=name, p=p, value=share, expected=known.share(threshold), says=says)


def _asked(requested: Sequence[str], router: str, default: str | None) -> float | None:
    """The share of this router that most requests asked for; None: they said thresholds."""
    fallback = names.parse(default) if default else names.VirtualModel()
    counts: Counter[float | None] = Counter()
    for name, times in Counter(requested).items():
        said = _parsed(name)
        plain = said.threshold is None and said.share is None and said.router in (None, fallback.router)
        counts[fallback.share if plain else said.share] += times
    counts.pop(None, None)
    return counts.most_common(1)[0][0] if counts else None


def _parsed(requested: str) -> names.VirtualModel:
    """What is no virtual name, or no longer one, asked for the default."""
    with contextlib.suppress(names.BadName):
        return names.parse(requested)
    return names.VirtualModel()


# Prompts


async def _prompts(
    store: Store, terms: Terms, after: float, before: float, part: float, skipped: dict[str, str]
) -> tuple[Floats, Floats] | None:
    """Embeddings of the window and of the week before, one of a session and window: drawn alike, so that they could
    have been dealt to either."""
    recent = await store.traffic_encoded(terms.encoder_id, after, before, part)
    start = after - _REFERENCE_DAYS * DAY
    earlier = await store.traffic_encoded(terms.encoder_id, start, after, part)
    generator = np.random.default_rng(round(before))
    length = before - after
    sides = [_of_sessions(side, after, length, generator) for side in (recent, earlier)]
    if min(map(len, sides)) < LEAST_SESSIONS:
        counts = " and ".join(map(str, map(len, sides)))
        skipped["prompts"] = (
            f"{counts} sessions with embeddings, {LEAST_SESSIONS} are needed now and in the week before"
        )
        return None
    found = await store.traffic_embeddings([one for side in sides for one in side])
    first, second = (np.array([np.frombuffer(found[one], "<f4") for one in side if one in found]) for side in sides)
    return first, second


def _of_sessions(rows: Sequence[Encoded], start: float, length: float, generator: np.random.Generator) -> list[str]:
    """The ids of at most so many, one of each session and stretch of that length, at random."""
    chosen: dict[tuple[str, float], str] = {}
    for place in generator.permutation(len(rows)):
        row = rows[place]
        chosen.setdefault((row.unit, (row.created_at - start) // length), row.decision_id)
    return list(chosen.values())[:_POINTS]


def unlike(recent: Floats, earlier: Floats, level: float, seed: int) -> Check:
    """Embeddings (n, d) against those of before."""
    p, share = significance.energy(recent, earlier, level, seed)
    says = (
        f"prompts are {share:.1%} unlike those of the {_REFERENCE_DAYS} days before (0 %: alike, 100 %: nothing shared)"
    )
    return Check(check="prompts", p=p, value=share, expected=0.0, says=says)


# Ratings


async def _ratings(store: Store, before: float, skipped: dict[str, str]) -> list[Check]:
    stretches = [(before - (back + 1) * DAY, before - back * DAY) for back in range(_RATED_DAYS, -1, -1)]
    *earlier, last = await store.traffic_days(stretches)
    check = rated(earlier, last)
    if check is None:
        skipped["ratings"] = (
            f"{LEAST_SESSIONS} decisions are needed on {_LEAST_DAYS} days before and on the last, and a rating"
        )
        return []
    return [check]


def rated(earlier: Sequence[Day], last: Day) -> Check | None:
    """The rating rate of the last day against those before; None: too little to tell."""
    days = [*(day for day in earlier if day.decisions >= LEAST_SESSIONS), last]
    if len(days) <= _LEAST_DAYS or last.decisions < LEAST_SESSIONS or not any(day.rated for day in days):
        return None
    made, said = (np.array(column, np.int64) for column in zip(*days, strict=True))
    p, value, usual = significance.rate(said, made)
    says = f"{value:.1%} of the decisions were rated by the end of the day where {usual:.1%} is usual"
    return Check(check="ratings", p=p, value=value, expected=usual, says=says)
