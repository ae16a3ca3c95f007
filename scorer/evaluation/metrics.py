"""Metrics of two-model routing: how much of the strong model's lead is kept at what share of strong calls.

PGR = (r - r_weak) / (r_strong - r_weak) for a routing whose mean result is r; APGR = its mean over the strong share;
CPT(x) = the least strong share that reaches PGR x (RouteLLM, arXiv 2406.18665, section 3).

Two curves: `harness_curve` is upstream's 11 points (evals/evaluate.py), for numbers that compare with published ones;
`fine_curve` has a point a prompt and does not depend on how ties were ordered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DECILES = np.linspace(0, 1, 11)


@dataclass(frozen=True)
class Curve:
    """Mean result (k,) at strong share (k,) in [0, 1], ascending from all weak to all strong."""

    share: Floats
    result: Floats

    @property
    def pgr(self) -> Floats:
        """(k,): 0 where everything goes to the weak model, 1 where everything goes to the strong; NaN if they tie."""
        weak, strong = self.result[0], self.result[-1]
        gain: Floats = (self.result - weak) / ((strong - weak) or np.nan)
        return gain

    @property
    def apgr(self) -> float:
        """Area under PGR by trapezoids; equals (AUC - AUC_weak) / (AUC_strong - AUC_weak)."""
        return float(np.trapezoid(self.pgr, self.share))

    def cpt(self, pgr: float) -> float:
        """The least share that reaches `pgr`, interpolated; NaN if none does."""
        gain = self.pgr
        reached = np.flatnonzero(gain >= pgr)
        if not len(reached):
            return float("nan")
        k = int(reached[0])
        if k == 0:
            return float(self.share[0])
        step = (pgr - gain[k - 1]) / (gain[k] - gain[k - 1])
        return float(self.share[k - 1] + step * (self.share[k] - self.share[k - 1]))

    def cpt_harness(self, pgr: float) -> float:
        """As upstream: np.interp of share over PGR, which assumes that PGR rises with the share."""
        return float(np.interp(pgr, self.pgr, self.share))


def harness_curve(scores: Floats, weak: Floats, strong: Floats) -> Curve:
    """Upstream's 11 points: thresholds at the deciles of the scores (pd.qcut), strong if score >= threshold.

    scores (n,): higher = stronger needed; weak, strong (n,): results of the two models.
    """
    edges = np.quantile(scores, DECILES)
    points = []
    for i, edge in enumerate(edges):
        chosen = scores >= edge if i < len(edges) - 1 else scores > edge
        points.append((chosen.mean(), np.where(chosen, strong, weak).mean()))
    share, result = np.array(points[::-1]).T
    return Curve(share, result)


def fine_curve(scores: Floats, weak: Floats, strong: Floats) -> Curve:
    """A point a distinct score, from the highest down; tied prompts share one straight step, their expectation."""
    starts, order = _groups(scores)
    gain = np.add.reduceat((strong - weak)[order], starts)
    size = np.diff(np.append(starts, len(scores)))
    n = len(scores)
    share = np.concatenate([[0.0], np.cumsum(size) / n])
    share[-1] = 1.0
    return Curve(share, weak.mean() + np.concatenate([[0.0], np.cumsum(gain) / n]))


def _groups(scores: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where each group of equal scores starts in `order`, and the order: highest score first."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    return np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])), order


@dataclass(frozen=True)
class Interval:
    """A point estimate and its percentile bootstrap interval."""

    value: float
    low: float
    high: float


def resample(n: int, draws: int, seed: int = 0) -> NDArray[np.int64]:
    """(draws, n): how often each prompt is in each bootstrap sample."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)


def resampled_curves(scores: Floats, weak: Floats, strong: Floats, counts: NDArray[np.int64]) -> list[Curve]:
    """A curve for each bootstrap sample of prompts, at upstream's 11 shares, so that intervals belong to its numbers.

    The same `counts` for two routers make their curves paired.
    """
    starts, order = _groups(scores)
    weak, gain = weak[order], (strong - weak)[order]
    curves = []
    for times in counts[:, order]:
        n = times.sum()
        share = np.concatenate([[0.0], np.cumsum(np.add.reduceat(times, starts)) / n])
        gained = np.concatenate([[0.0], np.cumsum(np.add.reduceat(times * gain, starts)) / n])
        curves.append(Curve(DECILES, (times @ weak) / n + np.interp(DECILES, share, gained)))
    return curves


def interval(value: float, draws: Floats, level: float = 0.95) -> Interval:
    """The percentile interval of bootstrap draws around a point estimate."""
    tail = (1 - level) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return Interval(value, float(low), float(high))
