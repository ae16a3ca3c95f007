"""Routing curves: what becomes of a benchmark as a method's threshold falls from all-cheapest to all-strongest.

A sweep is a start, every prompt with the cheapest model, and the moves up the ladder that the falling threshold makes,
in order. Its curve under any weighting of the prompts is a running sum, which is what makes the bootstrap quick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scorer.evaluation import metrics
from scorer.evaluation.metrics import DECILES, Floats

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Curve:
    """k points from all-cheapest to all-strongest, m models, strongest first; and each model's own level.

    mix (k, m): share of calls to each model; result (k,), cost (k,): means; results (m,), costs (m,): of every
    model on its own. cost and costs are zero where none are known.
    """

    mix: Floats
    result: Floats
    cost: Floats
    results: Floats
    costs: Floats

    @property
    def share(self) -> Floats:
        """(k,) of calls that go to the strongest model."""
        return self.mix[:, 0]

    @property
    def spent(self) -> Floats:
        """(k,) what APGR and CPT count: with two models, or without costs, the share of strong calls; else the money,
        0 at all-cheapest's cost and 1 at all-strongest's."""
        if self.mix.shape[1] == 2 or not self.costs.any():
            return self.share
        money: Floats = (self.cost - self.costs[-1]) / (self.costs[0] - self.costs[-1])
        return money

    @property
    def pgr(self) -> Floats:
        """(k,) between the cheapest model's level and the strongest's."""
        return metrics.pgr(self.result, self.results[-1], self.results[0])

    def shuffled(self) -> Curve:
        """The expectation of dealing the same calls, as many of each model, to prompts at random."""
        return Curve(self.mix, self.mix @ self.results, self.mix @ self.costs, self.results, self.costs)

    def thinned(self, points: int = 201) -> Curve:
        """As many points as a drawing needs, evenly spaced, the ends among them."""
        if len(self.mix) <= points:
            return self
        kept = np.unique(np.linspace(0, len(self.mix) - 1, points).round().astype(int))
        return Curve(self.mix[kept], self.result[kept], self.cost[kept], self.results, self.costs)


class Path(Protocol):
    """What has a curve under any weighting of the prompts."""

    def curve(self, times: Counts) -> Curve:
        """times (n,): how often each prompt counts."""
        ...


@dataclass(frozen=True)
class Sweep:
    """States have m + 2 columns: one-hot model, result, cost. first (n, m + 2): all prompts at the start; prompt (k,),
    move (k, m + 2): whose state changes by what; last (g,): the final move of each group that shares a threshold."""

    first: Floats
    prompt: NDArray[np.intp]
    move: Floats
    last: NDArray[np.intp]
    outcomes: Floats
    costs: Floats

    def curve(self, times: Counts) -> Curve:
        """Moves at one threshold are one straight step, the expectation over their orders."""
        n = times.sum()
        moved = np.cumsum(self.move * times[self.prompt, None], axis=0)[self.last]
        states = (times @ self.first + np.concatenate([np.zeros((1, moved.shape[1])), moved])) / n
        models = self.outcomes.shape[1]
        return Curve(
            states[:, :models],
            states[:, models],
            states[:, models + 1],
            times @ self.outcomes / n,
            times @ self.costs / n,
        )


def ladder_sweep(win_rates: Floats, outcomes: Floats, costs: Floats) -> Sweep:
    """The threshold rule on the ladder: the cheapest model whose win rate is below the threshold, else the strongest.

    All (n, m), strongest first. With two models this is RouteLLM's rule. Model i or a cheaper one is chosen while the
    threshold exceeds the least win rate from i down, so each rung is left once, at that number.
    """
    models = outcomes.shape[1]
    leaves = np.minimum.accumulate(win_rates[:, :0:-1], axis=1)  # (n, m - 1), the cheapest rung's first
    prompt, rung = (places.ravel() for places in np.indices(leaves.shape))
    # a prompt may leave several rungs at one threshold; stable, so that it leaves the lower one first
    order = np.argsort(-leaves.ravel(), kind="stable")
    from_ = models - 1 - rung[order]
    prompt = prompt[order]
    states = _states(outcomes, costs)
    move = states[prompt, from_ - 1] - states[prompt, from_]
    return Sweep(states[:, -1], prompt, move, _ends(leaves.ravel()[order]), outcomes, costs)


def oracle_sweep(outcomes: Floats, costs: Floats, price: Floats | None = None) -> Sweep:
    """The best that hindsight can do at each expense: moves in the order of what they gain per unit of `price` (n, m).

    The upper hull of each prompt's models, merged: the linear relaxation of the multiple-choice knapsack, exact at
    every point of it (Sinha and Zoltners 1979). Price defaults to one a strong call with two models, else to the costs.
    Once nothing gains any more, what is left is spent in one step without effect.
    """
    n, models = outcomes.shape
    if price is None:
        price = costs if models > 2 and costs.any() else np.tile(np.eye(models)[0], (n, 1))
    states, rows = _states(outcomes, costs), np.arange(n)
    now = _cheapest(price, outcomes)
    first = states[rows, now]
    prompts, moves, slopes = [], [], []
    for _ in range(models - 1):
        gain = outcomes - outcomes[rows, now][:, None]
        extra = price - price[rows, now][:, None]
        slope = np.where((gain > 0) & (extra > 0), gain / np.where(extra > 0, extra, 1), -np.inf)
        best = slope.max(axis=1)
        then = np.where(slope == best[:, None], extra, -np.inf).argmax(axis=1)  # the longest step along the hull
        going = np.flatnonzero(best > -np.inf)
        prompts.append(going)
        moves.append(states[going, then[going]] - states[going, now[going]])
        slopes.append(best[going])
        now = np.where(best > -np.inf, then, now)
    waste = states[:, 0] - states[rows, now]
    waste[:, models] = 0
    prompt, slope = np.concatenate([*prompts, rows]), np.concatenate([*slopes, np.full(n, -np.inf)])
    order = np.argsort(-slope, kind="stable")
    return Sweep(first, prompt[order], np.concatenate([*moves, waste])[order], _ends(slope[order]), outcomes, costs)


@dataclass(frozen=True)
class Mixture:
    """A routing that does not look: mix (k, m), shares of calls dealt to prompts at random. Its expectation."""

    mix: Floats
    outcomes: Floats
    costs: Floats

    def curve(self, times: Counts) -> Curve:
        """A mixture of the models' levels."""
        results, costs = times @ self.outcomes / times.sum(), times @ self.costs / times.sum()
        return Curve(self.mix, self.mix @ results, self.mix @ costs, results, costs)


def harness_points(scores: Floats, weak: Floats, strong: Floats) -> tuple[Floats, Floats]:
    """The code's 11 points of share and mean result, all weak first: thresholds at the deciles of the scores (pd.qcut),
    strong if score >= threshold, at the last one if score > threshold. All (n,); higher score = stronger needed."""
    edges = np.quantile(scores, DECILES)
    points = []
    for i, edge in enumerate(edges):
        chosen = scores >= edge if i < len(edges) - 1 else scores > edge
        points.append((chosen.mean(), np.where(chosen, strong, weak).mean()))
    share, result = np.array(points[::-1]).T
    return share, result


def _states(outcomes: Floats, costs: Floats) -> Floats:
    """(n, m, m + 2): for every prompt and model, the state of being served by it."""
    n, models = outcomes.shape
    one_hot = np.broadcast_to(np.eye(models), (n, models, models))
    return np.concatenate([one_hot, outcomes[:, :, None], costs[:, :, None]], axis=2)


def _ends(ranked: Floats) -> NDArray[np.intp]:
    """The last place of each run of equal numbers."""
    return np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))


def _cheapest(price: Floats, outcomes: Floats) -> NDArray[np.intp]:
    """(n,) the cheapest model of each prompt, the best of those that cost the same."""
    least = price == price.min(axis=1, keepdims=True)
    best: NDArray[np.intp] = np.where(least, outcomes, -np.inf).argmax(axis=1)
    return best
