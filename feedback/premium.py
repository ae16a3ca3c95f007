"""The premium: what a challenger costs more than the champion at the same quality, in US dollars a request.

Both are evaluated off-policy on the same rated decisions (feedback/ope.py, doubly robust), each at the threshold that
its own calibration gives the configured share. They differ in quality and in cost; how many dollars a point of quality
is worth is read off the champion's own curve, a tenth of the requests either side of that share:

    premium = (C' - C) - s (Q' - Q),    s = (C+ - C-) / (Q+ - Q-)

Its error is the delta method's, summed by session. It is what raters say: nothing here knows of who does not rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from feedback import costs, ope, policies, regression
from feedback.contexts import context
from feedback.logged import Log
from feedback.ope import Floats, Terms
from scorer.calibration import Calibration

_STEP = 0.1  # of the requests, either side of the share


@dataclass(frozen=True)
class Premium:
    """Dollars a request with a 95 % interval; NaN, and why, where there is none."""

    value: float
    low: float
    high: float
    why: str = ""

    @property
    def objection(self) -> str:
        """Why the challenger is not published, or ''."""
        if not self.low > 0:
            return ""
        return (
            f"dearer at the same quality: by ${1000 * self.value:.3f} ({1000 * self.low:.3f}, {1000 * self.high:.3f}) "
            "a thousand requests"
        )

    @property
    def text(self) -> str:
        """In a line."""
        if self.why:
            return f"cost not compared: {self.why}"
        interval = f"({1000 * self.low:+.3f}, {1000 * self.high:+.3f})"
        return f"cost at the same quality ${1000 * self.value:+.3f} {interval} a thousand requests"

    @property
    def record(self) -> dict[str, float | str | None]:
        """As JSON, which has no NaN."""
        numbers = {name: getattr(self, name) for name in ("value", "low", "high")}
        return {**{name: v if math.isfinite(v) else None for name, v in numbers.items()}, "why": self.why}


class Side(NamedTuple):
    """A version: what it gives the log's prompts (n, m), and what its scores mean."""

    win_rates: Floats
    calibration: Calibration


class _Influence(NamedTuple):
    """An estimate and what each decision (n,) moves it by; sums and ratios are taken of both."""

    value: float
    moves: Floats

    def less(self, other: _Influence) -> _Influence:
        return _Influence(self.value - other.value, self.moves - other.moves)

    def over(self, other: _Influence) -> _Influence:
        ratio = self.value / other.value
        return _Influence(ratio, (self.moves - ratio * other.moves) / other.value)

    def times(self, other: _Influence) -> _Influence:
        return _Influence(self.value * other.value, self.value * other.moves + other.value * self.moves)


def premium(log: Log, champion: Side, challenger: Side, share: float) -> Premium:
    """On the decisions that estimates can use and whose rating and cost are known; share: to the strongest model."""
    known = ~np.isnan(log.reward) & ~np.isnan(log.cost) & (log.left_out == "")
    known &= ~np.isnan(champion.win_rates).any(axis=1) & ~np.isnan(challenger.win_rates).any(axis=1)
    if known.sum() < ope.LEAST_SIZE:
        return _untold(f"{int(known.sum())} rated decisions have a cost and a choice, {ope.LEAST_SIZE:g} are needed")
    log = log.take(known)
    sides = [Side(side.win_rates[known], side.calibration) for side in (champion, challenger)]
    estimated = _estimator(log)

    def at(side: Side, wanted: float) -> tuple[_Influence, _Influence, Floats]:
        threshold = side.calibration.threshold(min(max(wanted, 0.0), 1.0))
        return estimated(policies.routed(side.win_rates, log.candidates, log.models, threshold, exploration=0.0))

    (cost, quality, _), (new_cost, new_quality, weights) = at(sides[0], share), at(sides[1], share)
    (more_cost, more, _), (less_cost, less, _) = at(sides[0], share + _STEP), at(sides[0], share - _STEP)
    gained = _interval(more.less(less), weights, log)
    if not gained.enough:
        return _untold(f"not enough overlap, {gained.size:.0f} effective decisions of {ope.LEAST_SIZE:g}")
    if not gained.low > 0:
        return _untold("of the champion, more strong calls are not seen to buy quality")
    worth = more_cost.less(less_cost).over(more.less(less))
    found = _interval(new_cost.less(cost).less(worth.times(new_quality.less(quality))), weights, log)
    return Premium(found.value, found.low, found.high)


def _estimator(log: Log) -> Callable[[Floats], tuple[_Influence, _Influence, Floats]]:
    """Of a target's probabilities (n, m): its cost, its quality, and the weights of the decisions in them."""
    logged = log.logged
    x = context(log.embeddings, log.features, log.win_rates)
    q = regression.cross_fitted(x, log.chosen, log.reward, log.cluster, len(log.models))
    expected = costs.expected(log.chosen, log.cost, log.tokens_in, len(log.models))

    def estimated(target: Floats) -> tuple[_Influence, _Influence, Floats]:
        cost = ope.dr(logged, target, log.cost, expected)
        return _influence(cost), _influence(ope.dr(logged, target, log.reward, q)), cost.weights

    return estimated


def _influence(terms: Terms) -> _Influence:
    total = terms.denominator.sum()
    value = float(terms.numerator.sum() / total)
    return _Influence(value, (terms.numerator - value * terms.denominator) / total)


def _interval(found: _Influence, weights: Floats, log: Log) -> ope.Estimate:
    ones = np.ones(len(log))
    return ope.estimate(Terms(found.value + len(log) * found.moves, ones, weights), log.cluster)


def _untold(why: str) -> Premium:
    return Premium(math.nan, math.nan, math.nan, why)
