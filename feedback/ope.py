"""Off-policy evaluation: from logged decisions, what another policy would have cost and what raters would have said.

Decision i's model a_i was drawn with the logged probabilities p_i; a target policy would have drawn it with pi_i. Its
outcome y_i (a rating or a cost) therefore counts with the weight w_i = pi_i(a_i) / p_i(a_i).

    IPS    mean of w y                                          Horvitz and Thompson 1952
    SNIPS  sum of w y / sum of w                                Swaminathan and Joachims, NeurIPS 2015
    DR     mean of sum_a pi(a) q(a) + w (y - q(a_i))            Dudik, Langford and Li, ICML 2011

q_i(a) is a model of the outcome that has not seen decision i. IPS and DR are unbiased whatever q is, for p is exact; a
good q makes DR's error smaller. Few decisions are rated. What the target's raters would have said, E[y | rated], is a
ratio of two means that every decision tells something about, so DR is taken of both: of R y and of R, where R is 1 for
a rated decision and 0 for another. That needs no assumption on who rates; to speak for the others needs one.

Every estimate is a ratio of sums, so all have one standard error: that of its linearisation, summed by cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_SIZE = 100.0  # effective decisions; with fewer there is not enough overlap for an interval
_LEAST_OBSERVED = 10.0  # the same where nothing is weighted
_Z = 1.959963984540054  # the normal distribution's 97.5 % point


@dataclass(frozen=True)
class Logged:
    """n decisions among m models, each drawn with a known probability. Raises ValueError for what cannot be."""

    chosen: Ints  # (n,): which of the m models
    probabilities: Floats  # (n, m): the logging policy's
    reward: Floats  # (n,): the rating, in [0, 1]; NaN: not rated
    cost: Floats  # (n,): US dollars; NaN: unknown
    cluster: Ints  # (n,): decisions of one session share a number

    def __post_init__(self) -> None:
        n = len(self.chosen)
        if self.probabilities.ndim != 2 or {len(self.probabilities), *map(len, self._columns)} != {n}:
            raise ValueError("the columns of a log differ in length")
        if n and not (self.propensity > 0).all():
            raise ValueError("a decision whose propensity is 0 cannot have been made")
        if not np.allclose(self.probabilities.sum(axis=1), 1):
            raise ValueError("the probabilities of a decision do not sum to 1")

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def _columns(self) -> tuple[NDArray[np.generic], ...]:
        return self.reward, self.cost, self.cluster

    @property
    def propensity(self) -> Floats:
        """(n,): with which probability each model was chosen."""
        return at(self.probabilities, self.chosen)


class Terms(NamedTuple):
    """An estimate that is sum(numerator) / sum(denominator), each (n,), and the weights (n,) of the outcomes in it."""

    numerator: Floats
    denominator: Floats
    weights: Floats


@dataclass(frozen=True)
class Estimate:
    """A mean, its 95 % interval and standard error, and the effective number of decisions behind it.

    The interval is NaN where there is not enough overlap: fewer than LEAST_SIZE, or of what was observed than ten.
    """

    value: float
    low: float
    high: float
    error: float
    size: float

    @property
    def enough(self) -> bool:
        """Whether there is an interval."""
        return not np.isnan(self.low)


def weights(logged: Logged, target: Floats) -> Floats:
    """(n,): pi(a) / p(a) of the chosen models, for a target's probabilities (n, m).

    Raises ValueError for a target that chooses what the log cannot have chosen.
    """
    if target.shape != logged.probabilities.shape:
        raise ValueError(f"target: {target.shape} probabilities for a log of {logged.probabilities.shape}")
    if (target[logged.probabilities <= 0] > 0).any():
        raise ValueError("the target chooses models that were never chosen there: no overlap")
    return at(target, logged.chosen) / logged.propensity


def ips(logged: Logged, target: Floats, outcome: Floats) -> Terms:
    """Of the decisions whose outcome (n,) is known. Right if who rates does not depend on the model."""
    w, y, known = _weighted(logged, target, outcome)
    return Terms(w * y, known, w)


def snips(logged: Logged, target: Floats, outcome: Floats) -> Terms:
    """Of the decisions whose outcome (n,) is known: the mean of those that would be known under the target."""
    w, y, _ = _weighted(logged, target, outcome)
    return Terms(w * y, w, w)


def dr(logged: Logged, target: Floats, outcome: Floats, q: Floats, rated: Floats | None = None) -> Terms:
    """The mean outcome of those that would be known under the target, E[R y] / E[R].

    q (n, m): what outcome to expect of each model where it is known. rated (n, m): P(it is known); without, the
    decisions whose outcome is unknown are left out, which is right if all are known.
    """
    w, y, known = _weighted(logged, target, outcome)
    if rated is None:
        direct = known * (target * q).sum(axis=1)
        return Terms(direct + w * (y - at(q, logged.chosen)), known, w)
    w_all = weights(logged, target)
    numerator = (target * rated * q).sum(axis=1) + w_all * (known * y - at(rated * q, logged.chosen))
    denominator = (target * rated).sum(axis=1) + w_all * (known - at(rated, logged.chosen))
    return Terms(numerator, denominator, w)


def dr_everyone(logged: Logged, target: Floats, outcome: Floats, q: Floats, rated: Floats) -> Terms:
    """The mean over all decisions, rated or not: DR, each rating counted 1 / P(rated) times (Robins, Rotnitzky and Zhao
    1994). Right if, given what `rated` (n, m) or q (n, m) is made from, who rates does not depend on the rating."""
    w, y, known = _weighted(logged, target, outcome)
    w = w / at(rated, logged.chosen)
    return Terms((target * q).sum(axis=1) + w * (y - at(q, logged.chosen)), np.ones(len(known)), w)


def estimate(terms: Terms, cluster: Ints, least: float = LEAST_SIZE) -> Estimate:
    """With the interval of a t distribution, of one degree less than the effective size; below `least`, without."""
    total = terms.denominator.sum()
    size = effective_size(terms.weights, cluster)
    if size == 0 or total <= 0:
        return Estimate(np.nan, np.nan, np.nan, np.nan, 0.0)
    value = float(terms.numerator.sum() / total)
    error = _standard_error((terms.numerator - value * terms.denominator) / total, cluster)
    return _estimate(value, error, size, least)


def difference(a: Terms, b: Terms, cluster: Ints) -> Estimate:
    """a minus b, estimated on the same log; the effective size is the smaller one."""
    sizes = [effective_size(terms.weights, cluster) for terms in (a, b)]
    totals = [terms.denominator.sum() for terms in (a, b)]
    if min(sizes) == 0 or min(totals) <= 0:
        return Estimate(np.nan, np.nan, np.nan, np.nan, 0.0)
    values = [terms.numerator.sum() / total for terms, total in zip((a, b), totals, strict=True)]
    first, second = (
        (terms.numerator - value * terms.denominator) / total
        for terms, value, total in zip((a, b), values, totals, strict=True)
    )
    return _estimate(float(values[0] - values[1]), _standard_error(first - second, cluster), min(sizes), LEAST_SIZE)


def mean(values: Floats, cluster: Ints) -> Estimate:
    """Of what was observed (n,), NaN left out: nothing off-policy, the same intervals."""
    known = (~np.isnan(values)).astype(np.float64)
    return estimate(Terms(np.nan_to_num(values), known, known), cluster, _LEAST_OBSERVED)


def share(values: Floats, cluster: Ints) -> Estimate:
    """The mean of what was observed (n,) in [0, 1], NaN left out, with Wilson's interval (1927), which is as long as it
    should be near 0 and 1: that of as many lone decisions as have the standard error, at most the effective size."""
    found = mean(values, cluster)
    p, n = found.value, found.size
    if not n:
        return found
    if found.error > 0:
        n = min(n, p * (1 - p) / found.error**2 + 1)
    middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * (p * (1 - p) / n + _Z**2 / (4 * n**2)) ** 0.5
    return Estimate(p, middle - half, middle + half, found.error, found.size)


def effective_size(weights: Floats, cluster: Ints) -> float:
    """Kish's (sum w)^2 / sum w^2 (1965), of the clusters' sums: so many equally weighted clusters are worth as much."""
    sums = _by_cluster(weights, cluster)
    return float(sums.sum() ** 2 / (sums**2).sum()) if sums.any() else 0.0


def under_selection(share: float, gamma: float) -> float:
    """What a mean rating in [0, 1] would be among all, if raters were selected by what they think.

    With bad answers gamma times as likely to be rated as good ones, P(good | rated) has 1 / gamma of the odds of
    P(good); the odds are put right. Exact for thumbs on requests alike; of a mean over unlike ones a bound from above
    if gamma > 1 and from below if gamma < 1, by Jensen's inequality. A rating between 0 and 1 is so much of a thumb.
    """
    share = min(max(share, 0.0), 1.0)
    return gamma * share / (gamma * share + 1 - share)


def at(table: Floats, chosen: Ints) -> Floats:
    """(n,): of each row of (n, m), the chosen column."""
    taken: Floats = np.take_along_axis(table, chosen[:, None], axis=1)[:, 0]
    return taken


def _weighted(logged: Logged, target: Floats, outcome: Floats) -> tuple[Floats, Floats, Floats]:
    """Weights, outcomes and whether they are known, (n,) each; weights and outcomes are 0 where they are not."""
    known = (~np.isnan(outcome)).astype(np.float64)
    return weights(logged, target) * known, np.nan_to_num(outcome), known


def _estimate(value: float, error: float, size: float, least: float) -> Estimate:
    if size < least:
        return Estimate(value, np.nan, np.nan, error, size)
    half = _t(size - 1) * error
    return Estimate(value, value - half, value + half, error, size)


def _standard_error(influence: Floats, cluster: Ints) -> float:
    """The root of the sum of squared clusters' sums, times G / (G - 1) for G clusters: the sandwich of a ratio."""
    sums = _by_cluster(influence, cluster)
    return float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1))) if len(sums) > 1 else np.nan


def _by_cluster(values: Floats, cluster: Ints) -> Floats:
    """(G,): sums over the decisions of each cluster."""
    _, place = np.unique(cluster, return_inverse=True)
    return np.bincount(place, weights=values).astype(np.float64)


def _t(freedom: float) -> float:
    """Student's 97.5 % point (Abramowitz and Stegun 26.7.5), to five digits at 99, the fewest asked for."""
    first = (_Z**3 + _Z) / 4
    second = (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / 96
    return _Z + first / freedom + second / freedom**2
