"""Curves from feedback: what raters say of a router at every share of strong calls, from decisions that explored.

A benchmark knows every model's result on every prompt; a log knows one rating of one model's answer. So a point of the
curve is estimated, by SNIPS (feedback/ope.py): the rated decisions on which the router, at that threshold and without
exploring, would have chosen the same model, each weighted 1 / its propensity. Shares need no estimate: the router's
choice is known on every decision, rated or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from feedback import costs, ope, policies
from feedback.logged import Log
from feedback.ope import LEAST_SIZE, Floats
from scorer.evaluation.bootstrap import Interval, interval
from scorer.evaluation.metrics import DECILES

_NOTHING = Interval(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Point:
    """At a threshold: the share of calls to the strongest model, the mean rating among raters, and the effective number
    of rated sessions behind it; below LEAST_SIZE there is no rating. cost: US dollars a request; NaN: not known."""

    share: float
    rating: Interval
    size: float
    cost: float = float("nan")


@dataclass(frozen=True)
class Curve:
    """points: from all-cheapest to all-strongest. apgr: the area under them in units of the distance between these two
    (the paper's APGR; 1/2 is chance), NaN unless every point has a rating. decisions, rated: how many."""

    method: str
    points: tuple[Point, ...]
    apgr: Interval
    decisions: int
    rated: int


def curve(method: str, log: Log, win_rates: Floats, draws: int = 1000, seed: int = 0) -> Curve:
    """Of usable decisions, by win rates (n, m); those without, NaN, are left out. Intervals are 95 %, percentiles of
    resampled sessions."""
    scored = np.flatnonzero(~np.isnan(win_rates).any(axis=1))
    log, win_rates = log.take(scored), win_rates[scored]
    rated = int((~np.isnan(log.reward)).sum())
    if not rated:
        return Curve(method, (), _NOTHING, len(log), 0)
    targets = [_at(log, win_rates, threshold) for threshold in _thresholds(win_rates)]
    shares = np.array([target[:, 0].mean() for target in targets])
    terms = [ope.snips(log.logged, target, log.reward) for target in targets]
    sizes = [ope.effective_size(each.weights, log.cluster) for each in terms]
    totals = _by_session(np.stack([each.numerator for each in terms], axis=1), log.cluster)
    weights = _by_session(np.stack([each.denominator for each in terms], axis=1), log.cluster)
    times = np.random.default_rng(seed).multinomial(len(totals), np.full(len(totals), 1 / len(totals)), size=draws)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratings = totals.sum(axis=0) / weights.sum(axis=0)
        drawn = (times @ totals) / (times @ weights)
    points = tuple(
        Point(float(share), interval(float(rating), samples) if size >= LEAST_SIZE else _NOTHING, size, cost)
        for share, rating, samples, size, cost in zip(
            shares, ratings, drawn.T, sizes, _costs(log, targets), strict=True
        )
    )
    enough = min(sizes) >= LEAST_SIZE
    area = interval(float(_apgr(shares, ratings)), _apgr(shares, drawn)) if enough else _NOTHING
    return Curve(method, points, area, len(log), rated)


def _thresholds(win_rates: Floats) -> Floats:
    """(11,): everything to the cheapest model, then a tenth more to the strongest each time."""
    lowest = win_rates[:, 1:].min(axis=1)
    between = np.quantile(lowest, 1 - DECILES[1:-1])
    return np.concatenate([[np.inf], between, [-np.inf]])


def _at(log: Log, win_rates: Floats, threshold: float) -> Floats:
    return policies.routed(win_rates, log.candidates, log.models, threshold, exploration=0.0)


def _costs(log: Log, targets: Sequence[Floats]) -> list[float]:
    """Of each policy, as the report estimates it."""
    expected = costs.expected(log.chosen, log.cost, log.tokens_in, len(log.models))
    return [ope.estimate(ope.dr(log.logged, target, log.cost, expected), log.cluster).value for target in targets]


def _apgr(shares: Floats, ratings: Floats) -> Floats:
    """Of ratings (..., k) at shares (k,)."""
    weak, strong = ratings[..., :1], ratings[..., -1:]
    gap = (ratings - weak) / np.where(strong == weak, np.nan, strong - weak)
    return np.asarray(np.trapezoid(gap, shares, axis=-1))


def _by_session(values: Floats, cluster: ope.Ints) -> Floats:
    """(G, k): sums of (n, k) over the decisions of each session."""
    _, place = np.unique(cluster, return_inverse=True)
    sums = np.zeros((int(place.max()) + 1, values.shape[1]))
    np.add.at(sums, place, values)
    return sums
