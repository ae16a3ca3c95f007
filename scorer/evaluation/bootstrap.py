"""How sure a number is: the bootstrap over prompts, paired tests of two methods on them, and their power."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from scorer.evaluation.metrics import Floats

_NORMAL = NormalDist()
SIGNIFICANCE = 0.05
POWER = 0.8


@dataclass(frozen=True)
class Interval:
    """A point estimate and its percentile bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Whether method a is better than method b: difference, a's minus b's; p, two-sided, and p adjusted for the number
    of comparisons (Holm); detectable: the least true difference that a test of this size finds with power 80 %;
    power: with which it finds a true difference of `effect`."""

    a: str
    b: str
    difference: Interval
    p: float
    adjusted: float
    detectable: float
    effect: float
    power: float


def resample(n: int, draws: int, seed: int = 0) -> NDArray[np.int64]:
    """(draws, n): how often each prompt is in each bootstrap sample."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)


def interval(value: float, draws: Floats, level: float = 0.95) -> Interval:
    """The percentile interval of bootstrap draws around a point estimate; draws without a value are left out."""
    known = draws[~np.isnan(draws)]
    if not len(known) or np.isnan(value):
        return Interval(value, float("nan"), float("nan"))
    tail = (1 - level) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def compare(points: Sequence[tuple[str, str, float, Floats]], effect: float) -> list[Comparison]:
    """Paired tests: names a and b, the difference, and its draws on common resamples.

    Wald's test with the bootstrap's standard error: z = difference / sd. Power as of any z-test (Cohen 1988).
    """
    deviations = [float(np.nanstd(draws)) for _, _, _, draws in points]
    p = [p_value(value, sd) for (_, _, value, _), sd in zip(points, deviations, strict=True)]
    return [
        Comparison(a, b, interval(value, draws), p[i], adjusted, detectable(sd), effect, power(effect, sd))
        for i, ((a, b, value, draws), sd, adjusted) in enumerate(zip(points, deviations, holm(p), strict=True))
    ]


def p_value(difference: float, sd: float) -> float:
    """Two-sided, of a normal estimate; 1 where nothing differs."""
    return 2 * _NORMAL.cdf(-abs(difference) / sd) if sd > 0 else float(difference == 0)


def power(effect: float, sd: float) -> float:
    """P(the two-sided z-test at 5 % rejects) when the true difference is `effect` and the estimate has this sd."""
    if sd <= 0:
        return 1.0
    critical = _NORMAL.inv_cdf(1 - SIGNIFICANCE / 2)
    return _NORMAL.cdf(abs(effect) / sd - critical) + _NORMAL.cdf(-abs(effect) / sd - critical)


def detectable(sd: float) -> float:
    """The difference found with power 80 % at 5 %: (z_.975 + z_.80) sd = 2.80 sd."""
    return (_NORMAL.inv_cdf(1 - SIGNIFICANCE / 2) + _NORMAL.inv_cdf(POWER)) * sd


def holm(p: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm 1979): the chance of any false rejection stays below 5 %."""
    order = np.argsort(p, kind="stable")
    factors = len(p) - np.arange(len(p))
    stepped = np.minimum(1, np.maximum.accumulate(np.asarray(p)[order] * factors))
    adjusted = np.empty(len(p))
    adjusted[order] = stepped
    return [float(value) for value in adjusted]
