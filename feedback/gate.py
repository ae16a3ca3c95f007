"""The gate: whether a challenger may take the champion's place, by what each said of ratings that it has not seen.

A version says of every rated answer how likely it was to please; the gate charges it the square of its error (Brier
1950), so the loss is the noise of ratings plus the mean squared error of the probabilities, which alone can differ
between versions. A loss of 0.01 more is to be ten points further off, on the root of the mean square.

A challenger is published only if the golden set (feedback/golden.py) shows it to be no worse than the champion, and
than the anchor, by more than a stated effect: the upper bound of each difference lies below it. Both must hold, so both
may be told at the same level. Levels come from one error rate over all nights (feedback/rates.py). The newest ratings
have a veto and no more.

A rating counts as in a fit: by its weight and its inverse propensity, clipped at refit.CLIP. With 5 % of the requests
to two models explored that leaves 85 % of the ratings' worth, where clipping at 20 leaves 20 %. Ratings of one session
count as one observation for the error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST_SESSIONS = 30  # of the golden set; fewer tell nothing, and no level is spent on them
_VETO = 0.025  # level at which the newest ratings speak against a challenger, each night anew
_POWER = 0.8  # with which the effect that could have been seen would have been
_FURTHEST = 8.0  # standard errors: beyond, rounding decides


@dataclass(frozen=True)
class Rules:
    """What passes. effect: in squared error; error_rate: P(ever publishing what is worse by more than the effect)."""

    effect: float = 0.01
    error_rate: float = 0.05


@dataclass(frozen=True)
class Comparison:
    """Mean losses on some ratings. difference: the challenger's less the other's; error: its standard error, infinite
    where there are not two sessions; freedom: of its t distribution, one less than the effective number of sessions."""

    ratings: int
    sessions: int
    other: float
    challenger: float
    difference: float
    error: float
    freedom: float

    def high(self, level: float) -> float:
        """The difference is below it but for a chance of `level`."""
        return self.difference + self._reach(level)

    def low(self, level: float) -> float:
        """The difference is above it but for a chance of `level`."""
        return self.difference - self._reach(level)

    def visible(self, level: float) -> float:
        """The effect that could have been seen: an equal challenger has its bound below it four times of five."""
        return self._reach(level) + NormalDist().inv_cdf(_POWER) * self.error

    def _reach(self, level: float) -> float:
        return quantile(level, self.freedom) * self.error if math.isfinite(self.error) else math.inf


@dataclass(frozen=True)
class Ruling:
    """What the gate says of one challenger, at one night's level."""

    champion: Comparison  # on the golden set
    anchor: Comparison  # on the golden set
    newest: Comparison  # with the champion, on the newest ratings
    effect: float
    level: float

    @property
    def tells(self) -> bool:
        """Whether there is enough to spend a level on."""
        return self.champion.sessions >= LEAST_SESSIONS

    @cached_property
    def objection(self) -> str:
        """Why the challenger is not published, or ''."""
        if not self.tells:
            return f"too little to tell by: {self.champion.sessions} golden sessions, {LEAST_SESSIONS} are needed"
        for name, found in (("champion", self.champion), ("anchor", self.anchor)):
            if found.low(self.level) > 0:
                return f"worse than the {name}"
            if not found.high(self.level) < self.effect:
                seen = found.visible(self.level)
                return f"not shown to be no worse than the {name}: an effect of {seen:.4f} could have been seen"
        return "worse on the newest ratings" if self.newest.low(_VETO) > 0 else ""

    @property
    def publishes(self) -> bool:
        return not self.objection

    @property
    def verdict(self) -> str:
        """Why, in one line."""
        if not self.tells:
            return self.objection
        found = self.newest if self.objection == "worse on the newest ratings" else self.champion
        found = self.anchor if "the anchor" in self.objection else found
        level = _VETO if found is self.newest else self.level
        told = self.objection or ("better" if self.champion.high(self.level) < 0 else "no worse")
        losses = f"loss {found.challenger:.4f} against {found.other:.4f}"
        interval = f"difference {found.difference:+.4f} ({found.low(level):+.4f}, {found.high(level):+.4f})"
        bound = f"allowed {self.effect:g} at level {self.level:.2g}"
        return f"{told}; {losses}, {interval}, {bound}, {found.ratings} ratings in {found.sessions} sessions"

    @property
    def record(self) -> dict[str, Any]:
        """As JSON, which has no infinity."""
        level = self.level if self.tells else 0.0
        visible = self.champion.visible(level) if level else math.inf
        plain = {name: _finite(asdict(getattr(self, name))) for name in ("champion", "anchor", "newest")}
        return {**plain, "effect": self.effect, "level": level, **_finite({"visible": visible})}


def compare(
    ratings: Floats, other: Floats, challenger: Floats, weight: Floats, sessions: Sequence[str] | NDArray[np.generic]
) -> Comparison:
    """ratings (n,) in [0, 1]; other, challenger (n,): the probabilities that each gives to a rating of 1; weight (n,);
    sessions (n,): which ratings belong together."""
    if not len(ratings):
        return Comparison(0, 0, 0.0, 0.0, 0.0, math.inf, 1.0)
    before, after = (ratings - other) ** 2, (ratings - challenger) ** 2
    difference = float(np.average(after - before, weights=weight))
    _, session = np.unique(np.asarray(sessions), return_inverse=True)
    total = np.bincount(session, weights=weight)
    return Comparison(
        ratings=len(ratings),
        sessions=len(total),
        other=float(np.average(before, weights=weight)),
        challenger=float(np.average(after, weights=weight)),
        difference=difference,
        error=_standard_error(after - before - difference, weight, session),
        freedom=max(float(total.sum() ** 2 / (total**2).sum()) - 1, 1.0),
    )


def quantile(level: float, freedom: float) -> float:
    """What a t distribution exceeds with probability `level` (Abramowitz and Stegun 26.7.5): to three digits from 29
    degrees of freedom on, at levels down to 1e-6."""
    if level <= 0:
        return math.inf
    z = min(-NormalDist().inv_cdf(level), _FURTHEST)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))


def _standard_error(residuals: Floats, weight: Floats, cluster: NDArray[np.int64]) -> float:
    """Of a weighted mean, by the linearised (sandwich) variance over clusters; infinite for a single one."""
    clusters = int(cluster.max()) + 1
    if clusters < 2:
        return math.inf
    sums = np.bincount(cluster, weights=weight * residuals)
    return float(np.sqrt(clusters / (clusters - 1) * (sums**2).sum()) / weight.sum())


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}
