"""What a router's thresholds and prices of quality would have cost and been rated on logged traffic, level by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from feedback import costs, ope, policies
from feedback.logged import Log
from feedback.ope import Estimate, Floats
from scorer import calibration, policy

LEVELS = 41
_TINY = 1e-9


@dataclass(frozen=True)
class Point:
    """One level of a policy: the share of calls to the strongest model, dollars a call, mean rating among raters."""

    policy: Literal["threshold", "lambda"]
    level: float
    share: float
    cost: Estimate
    rating: Estimate


def frontier(log: Log, win_rates: Floats, exploration: float) -> list[Point]:
    """Of usable requests, by win rates (n, m); those without, NaN, are left out. From mostly strong to mostly cheap."""
    scored = np.flatnonzero(~np.isnan(win_rates).any(axis=1))
    log, win_rates = log.take(scored), win_rates[scored]
    if not len(log):
        return []
    expected = costs.expected(log.chosen, log.cost, log.tokens_in, len(log.models))
    found = []
    for threshold in np.unique(np.quantile(calibration.lowest(win_rates), np.linspace(0, 1, LEVELS))):
        target = policies.routed(win_rates, log.candidates, log.models, float(threshold), exploration)
        found.append(_point("threshold", float(threshold), log, target, expected))
    for rate in _rates(win_rates, expected):
        target = _priced(log, win_rates, expected, rate, exploration)
        found.append(_point("lambda", rate, log, target, expected))
    return found


def for_dollars(points: Sequence[Point], dollars: float) -> Point | None:
    """The one that spends the most of so many dollars a call; None: all cost more."""
    return max((p for p in points if p.cost.value <= dollars), key=lambda p: p.cost.value, default=None)


def for_rating(points: Sequence[Point], rating: float) -> Point | None:
    """The cheapest that is rated so; None: there is none."""
    return min((p for p in points if p.rating.value >= rating), key=lambda p: p.cost.value, default=None)


def for_share(points: Sequence[Point], share: float) -> Point | None:
    """The one nearest to that share of strong calls."""
    return min(points, key=lambda p: abs(p.share - share), default=None)


def _rates(win_rates: Floats, expected: Floats) -> list[float]:
    """Prices of quality at which the cheapest model becomes worth it, over the requests that it ever does for."""
    saved = expected[:, 0] - expected[:, -1]
    lost = 2 * win_rates[:, -1] - 1
    at_par = lost[(saved > _TINY) & (lost > 0)] / saved[(saved > _TINY) & (lost > 0)]
    return np.unique(np.quantile(at_par, np.linspace(0, 1, LEVELS))).tolist() if len(at_par) else []


def _priced(log: Log, win_rates: Floats, expected: Floats, rate: float, exploration: float) -> Floats:
    """(n, m) probabilities: the daemon's own policy, asked decision by decision."""
    target = np.zeros(win_rates.shape)
    for row, (rates, dollars, allowed) in enumerate(zip(win_rates, expected, log.candidates, strict=True)):
        names = [model for model, one in zip(log.models, allowed, strict=True) if one]
        known, prices = (dict(zip(log.models, column.tolist(), strict=True)) for column in (rates, dollars))
        choice = policy.Priced(rate).choose(policy.Facts(names, known, None, prices)).model
        spread = policy.probabilities(choice, names, exploration)
        target[row] = [spread.get(model, 0.0) for model in log.models]
    return target


def _point(name: Literal["threshold", "lambda"], level: float, log: Log, target: Floats, expected: Floats) -> Point:
    cost = ope.estimate(ope.dr(log.logged, target, log.cost, expected), log.cluster)
    rating = ope.estimate(ope.snips(log.logged, target, log.reward), log.cluster)
    return Point(name, level, float(target[:, 0].mean()), cost, rating)
