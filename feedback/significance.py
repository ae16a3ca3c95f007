"""Whether two samples are of one kind: p-values that keep their level where sessions make requests alike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorer.calibration import beta_binomial

Floats = NDArray[np.float64]

_ENOUGH = 20  # permutations as far apart as the samples: then p is known well enough, and it is not small
_BLOCK = 256  # permutations at once
_STEPS = 4001


def independent(flags: NDArray[np.bool_], cluster: NDArray[np.int64]) -> float:
    """How many independent requests would say as much about the share of `flags` (n,): at most n.

    n over the design effect (Kish 1965), the variance of the share with whole clusters drawn over that of n requests.
    Where all flags are equal, as if all requests of a cluster were one.
    """
    n = len(flags)
    _, groups = np.unique(cluster, return_inverse=True)
    share, sizes = float(flags.mean()), np.bincount(groups)
    if share in (0.0, 1.0):
        return n * n / float((sizes**2).sum())
    sums = np.bincount(groups, weights=flags - share)
    variance = len(sums) / max(len(sums) - 1, 1) * float((sums**2).sum()) / n**2
    return n / max(1.0, variance / (share * (1 - share) / n))


def kolmogorov(first: Floats, second: Floats, size: float, other: float) -> tuple[float, float]:
    """(p, D) of the two-sample Kolmogorov-Smirnov test; D is the largest distance of the distribution functions.

    `size` and `other` are the numbers of independent values in each. p by the limit with Stephens' (1970) correction.
    """
    values = np.concatenate([first, second])
    reached = [np.searchsorted(np.sort(one), values, side="right") / len(one) for one in (first, second)]
    distance = float(np.abs(reached[0] - reached[1]).max())
    root = math.sqrt(size * other / (size + other))
    return kolmogorov_tail((root + 0.12 + 0.11 / root) * distance), distance


def kolmogorov_tail(x: float) -> float:
    """P(K > x) of Kolmogorov's distribution."""
    if x < 0.2:  # where the alternating sum needs many terms, and P is 1 to twelve digits
        return 1.0
    k = np.arange(1, 101)
    return float(min(max(2 * (np.where(k % 2, 1, -1) * np.exp(-2 * (k * x) ** 2)).sum(), 0.0), 1.0))


def binomial(count: float, trials: float, reference: float, of: float) -> float:
    """Two-sided p of `count` in `trials` where the reference had so many `of` its own; both samples' errors count.

    The count to expect is beta-binomial, as in Calibration.prediction_interval. Numbers of independent requests, which
    need not be whole.
    """
    n = max(round(trials), 1)
    k = min(round(count), n)
    mass = beta_binomial(n, reference + 0.5, of - reference + 0.5)
    return min(2 * float(min(mass[: k + 1].sum(), mass[k:].sum())), 1.0)


def energy(first: NDArray[Any], second: NDArray[Any], level: float, seed: int) -> tuple[float, float]:
    """(p, H) of the energy test (Székely and Rizzo 2013) of two samples of points; H in [0, 1] is 0 between like ones.

    p by permutations: exact where the points could have been dealt to either sample. They end where enough were as far
    apart (Besag and Clifford 1991), and else are as many as it takes to tell p from `level`.
    """
    points = np.concatenate([first, second]).astype(np.float32)
    distances = _distances(points)
    signs = np.concatenate([np.full(len(first), 1 / len(first)), np.full(len(second), -1 / len(second))])
    signs = signs.astype(np.float32)
    between = float(distances[: len(first), len(first) :].mean())
    observed = float(-signs @ distances @ signs)
    generator = np.random.default_rng(seed)
    further, made, most = 0, 0, math.ceil(4 / level)
    while made < most:
        dealt = generator.permuted(np.tile(signs, (min(_BLOCK, most - made), 1)), axis=1)
        as_far = -np.einsum("bi,bi->b", dealt @ distances, dealt) >= observed * (1 - 1e-5)
        reached = further + np.cumsum(as_far)
        if reached[-1] >= _ENOUGH:
            made += int(np.argmax(reached >= _ENOUGH)) + 1
            return _ENOUGH / made, _share(observed, between)
        further, made = int(reached[-1]), made + len(dealt)
    return (further + 1) / (made + 1), _share(observed, between)


def _distances(points: NDArray[np.float32]) -> NDArray[np.float32]:
    squares = (points * points).sum(axis=1)
    between = squares[:, None] + squares[None, :] - 2 * (points @ points.T)
    np.fill_diagonal(between, 0.0)
    distances: NDArray[np.float32] = np.sqrt(np.maximum(between, 0.0))
    return distances


def _share(observed: float, between: float) -> float:
    return max(observed, 0.0) / (2 * between) if between else 0.0


def rate(counts: NDArray[np.int64], of: NDArray[np.int64]) -> tuple[float, float, float]:
    """(p, the newest rate, the usual one) of daily counts, oldest first: whether the last day's rate is of the others'
    kind, whose differences from day to day may be any.

    A t test for one new observation, on the scale of arc sines, where the noise of a count does not depend on the rate
    (Anscombe 1948); what days differ by beyond it is the excess of their variance.
    """
    scaled = np.arcsin(np.sqrt((counts + 0.375) / (of + 0.75)))
    noise = 1 / (4 * of + 2)
    before, usual = scaled[:-1], float(counts[:-1].sum() / of[:-1].sum())
    spread, own = float(before.var(ddof=1)), float(noise[:-1].mean())
    varied = max(spread - own, 0.0)
    expected = varied + float(noise[-1]) + max(spread, own) / len(before)
    p = student_tail(abs(float(scaled[-1] - before.mean())) / math.sqrt(expected), len(before) - 1)
    return p, float(counts[-1] / of[-1]), usual


def student_tail(t: float, freedom: float) -> float:
    """P(|T| > t) of Student's distribution: with t = sqrt(freedom) tan(a), the density of a is cos(a)^(freedom - 1)."""
    weight = [
        np.trapezoid(np.cos(np.linspace(start, math.pi / 2, _STEPS)) ** (freedom - 1)) * (math.pi / 2 - start)
        for start in (math.atan(t / math.sqrt(freedom)), 0.0)
    ]
    return float(weight[0] / weight[1])
