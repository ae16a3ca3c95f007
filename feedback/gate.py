"""The gate: whether a challenger may take the champion's place, by what each said of ratings that neither learned from.

Both are asked for the quality of the model that served, P(its answer beats the bar), and are charged the log loss
against the rating. A rating counts by the inverse of its propensity, so that the models which the champion seldom chose
count as if they had been tried at random; ratings of one session count as one observation for the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST_RATINGS = 30  # held out; fewer show nothing
_HEAVIEST = 20.0  # weight of one rating: that of a model chosen by 5 % exploration
_SURE = 1e-3  # a quality is taken for no more certain than this
_Z = 1.959963984540054


@dataclass(frozen=True)
class Comparison:
    """Mean log losses (nats) on held-out ratings; difference is challenger's less champion's, with a 95 % interval."""

    ratings: int
    sessions: int
    champion: float
    challenger: float
    difference: float
    low: float
    high: float

    @property
    def publishes(self) -> bool:
        """Not credibly worse, on ratings enough to tell."""
        return self.ratings >= LEAST_RATINGS and self.low <= 0

    @property
    def verdict(self) -> str:
        """Why, in one line."""
        if self.ratings < LEAST_RATINGS:
            return f"{self.ratings} ratings are held out to compare on, {LEAST_RATINGS} are needed"
        told = "worse" if self.low > 0 else "better" if self.high < 0 else "not told apart"
        losses = f"held-out loss {self.challenger:.4f} against {self.champion:.4f}"
        interval = f"difference {self.difference:+.4f} ({self.low:+.4f}, {self.high:+.4f})"
        return f"{told}: {losses}, {interval}, {self.ratings} ratings in {self.sessions} sessions"


def compare(
    ratings: Floats, champion: Floats, challenger: Floats, propensity: Floats, sessions: Sequence[str]
) -> Comparison:
    """ratings (n,) in [0, 1]; champion, challenger (n,): qualities of the models that served; propensity (n,) of the
    choices; sessions (n,): which ratings belong together."""
    if not len(ratings):
        return Comparison(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)
    weight = np.minimum(1 / propensity, _HEAVIEST)
    before, after = log_loss(ratings, champion), log_loss(ratings, challenger)
    difference = float(np.average(after - before, weights=weight))
    _, session = np.unique(np.asarray(sessions), return_inverse=True)
    error = _standard_error(after - before - difference, weight, session)
    return Comparison(
        ratings=len(ratings),
        sessions=int(session.max()) + 1,
        champion=float(np.average(before, weights=weight)),
        challenger=float(np.average(after, weights=weight)),
        difference=difference,
        low=difference - _Z * error,
        high=difference + _Z * error,
    )


def log_loss(ratings: Floats, quality: Floats) -> Floats:
    """(n,) nats; a rating between 0 and 1 is the probability of a thumbs-up."""
    sure = np.clip(quality, _SURE, 1 - _SURE)
    loss: Floats = -(ratings * np.log(sure) + (1 - ratings) * np.log(1 - sure))
    return loss


def _standard_error(residuals: Floats, weight: Floats, cluster: NDArray[np.int64]) -> float:
    """Of a weighted mean, by the linearised (sandwich) variance over clusters; infinite for a single one."""
    clusters = int(cluster.max()) + 1
    if clusters < 2:
        return float("inf")
    sums = np.bincount(cluster, weights=weight * residuals)
    return float(np.sqrt(clusters / (clusters - 1) * (sums**2).sum()) / weight.sum())
