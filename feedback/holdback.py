"""Whether a version is rated worse than the one before it, by a test that may be looked at after every rating.

Both serve at the same time, each its share of the units, drawn by hashing. Observations, the first rating of each unit
in the order they came, are cut into blocks of a fixed length. Given how many of a block's observations are of the
version held back, every order of them is as likely as any other. So where the new version is not worse at any time, the
held mean less the new mean of a block expects at most 0: whatever both drift to, and even if one is rated more often.
Then wealth that bets on that difference, block by block, is a nonnegative supermartingale: the probability that it ever
grows 1/a-fold is at most a (Ville). Betting: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
betting", JRSS B 86 (2024). The wealth is the mean over a grid of bets, none of which need be chosen then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_BETS = np.array([0.05, 0.1, 0.2, 0.4, 0.8])  # of the wealth, on a block with one observation's worth of information
_HIGHEST = 0.9  # bet on any block: nobody is ruined by one
_SHORTEST = 10  # block; of n observations (n - 1) / n of the information is within, not between, blocks
_HALVINGS = 20


class Blocks(NamedTuple):
    """difference (k,): held mean less new mean, in [-1, 1]; 0 where an arm is missing. held, new (k,): how many
    observations of either arm."""

    difference: Floats
    held: Floats
    new: Floats

    @property
    def information(self) -> Floats:
        """(k,): the inverse variance of the difference, in units of one observation's."""
        return self.held * self.new / (self.held + self.new)


@dataclass(frozen=True)
class Finding:
    """What the observations so far say. Means are NaN without any.

    wealth: the most that one unit of it ever grew to. drop: held mean less new mean; low, high: bounds on it, each of
    which holds at all times with probability 1 - error_rate; where it changes in time, on an average of it.
    detectable: the smallest drop that so many observations are expected to find; None: not even one from all to none.
    """

    held: int
    new: int
    held_mean: float
    new_mean: float
    wealth: float
    error_rate: float
    low: float
    high: float
    detectable: float | None

    @property
    def alarm(self) -> bool:
        """The version is rated worse than the one before."""
        return self.wealth * self.error_rate >= 1

    @property
    def drop(self) -> float:
        return self.held_mean - self.new_mean

    @property
    def text(self) -> str:
        """In one line."""
        if not self.held or not self.new:
            return f"nothing to compare yet: {self.new} sessions rated it, {self.held} the version before"
        found = "no drop can be told yet" if self.detectable is None else f"a drop of {self.detectable:.3f} can be told"
        means = (
            f"rated {self.new_mean:.3f} by {self.new} sessions, the version before {self.held_mean:.3f} by {self.held}"
        )
        drop = f"drop {self.drop:+.3f} ({self.low:+.3f}, {self.high:+.3f})"
        return f"{means}: {drop}, evidence {self.wealth:.3g} of {1 / self.error_rate:.3g}; {found}"


def judge(values: Floats, held: Flags, share: float, error_rate: float) -> Finding:
    """values (n,) in [0, 1], in the order they came; held (n,): of the version held back, which serves `share` of the
    units; error_rate: the probability of ever raising an alarm about a version that is not worse."""
    cut = blocks(values, held, share)
    limit = -math.log(error_rate)
    mirrored = cut._replace(difference=-cut.difference)
    return Finding(
        held=int(held.sum()),
        new=int((~held).sum()),
        held_mean=_mean(values[held]),
        new_mean=_mean(values[~held]),
        wealth=math.exp(min(_most(cut, 0.0), 700.0)),
        error_rate=error_rate,
        low=_last(lambda drop: _most(cut, drop) >= limit),
        high=-_last(lambda drop: _most(mirrored, drop) >= limit),
        detectable=detectable(cut, _variance(values), error_rate),
    )


def blocks(values: Floats, held: Flags, share: float) -> Blocks:
    """The blocks that are full; each expects one observation of the arm that has fewer."""
    length = max(_SHORTEST, round(1 / min(share, 1 - share)))
    count = len(values) // length
    of_held = held[: count * length].reshape(count, length)
    of_all = values[: count * length].reshape(count, length)
    n_held = of_held.sum(axis=1).astype(np.float64)
    n_new = length - n_held
    means = ((of_all * arm).sum(axis=1) / np.maximum(n, 1) for arm, n in ((of_held, n_held), (~of_held, n_new)))
    held_mean, new_mean = means
    return Blocks(np.where((n_held > 0) & (n_new > 0), held_mean - new_mean, 0.0), n_held, n_new)


def log_wealth(cut: Blocks, drop: float = 0.0) -> Floats:
    """(k,): after each block, of betting on more than this drop, in (-1, 1). Falls as `drop` grows."""
    grown = np.log1p(_stakes(cut) * (cut.difference - drop) / (1 + drop)).cumsum(axis=1)
    wealth: Floats = np.logaddexp.reduce(grown, axis=0) - math.log(len(_BETS))
    return wealth


def detectable(cut: Blocks, variance: float, error_rate: float) -> float | None:
    """The smallest drop at which the expected log wealth reaches the alarm, where one rating has this variance; by the
    second-order growth of a bet b: b * drop - b^2 / 2 * (variance of the difference + drop^2)."""
    both = cut.information > 0
    stakes, noise = _stakes(cut)[:, both], variance / cut.information[both]

    def found(drop: float) -> bool:
        growth = (stakes * drop - stakes**2 / 2 * (noise + drop**2)).sum(axis=1)
        return bool(np.logaddexp.reduce(growth) - math.log(len(_BETS)) >= -math.log(error_rate))

    return _last(lambda drop: not found(drop), 0.0) if found(1.0) else None


def _stakes(cut: Blocks) -> Floats:
    """(bets, k): what each bet puts on each block, before its difference is seen."""
    stakes: Floats = np.minimum(_BETS[:, None] * cut.information, _HIGHEST)
    return stakes


def _most(cut: Blocks, drop: float) -> float:
    """The highest log wealth so far."""
    return float(log_wealth(cut, drop).max(initial=0.0))


def _last(holds: Callable[[float], bool], low: float = -1.0, high: float = 1.0) -> float:
    """Where a condition that is true below it, if anywhere, ends; `low` where it never holds."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan


def _variance(values: Floats) -> float:
    """Of a rating, as if one of each kind had been seen before: so that it is never nothing."""
    return float(np.append(values, [0.0, 1.0]).var())
