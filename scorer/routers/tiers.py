"""Tiers: models of like strength that share one player, as in RouteLLM (arXiv 2406.18665, appendix A)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray


def tiers(strengths: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """(n,) tier of every model, 0 the strongest: runs of the ranking with the least sum of within-tier variances.

    Variances, not sums of squares: upstream's objective, in which a tier's size has no weight. Solved exactly by
    dynamic programming over where the last tier begins. With fewer models than `count`, every model is a tier.
    """
    n = len(strengths)
    if n <= count:
        return np.argsort(np.argsort(-strengths, kind="stable"), kind="stable")
    order = np.argsort(-strengths, kind="stable")
    ranked = strengths[order]
    variance = np.full((n, n + 1), np.inf)  # [i, j]: of the run i .. j - 1
    for i in range(n):
        for j in range(i + 1, n + 1):
            variance[i, j] = np.var(ranked[i:j])
    cost, begins = variance[0], []  # of the first j models in one tier, then in two ...
    for _ in range(count - 1):
        total = cost[:n, None] + variance
        begins.append(np.argmin(total, axis=0))
        cost = total.min(axis=0)
    tier = np.zeros(n, np.intp)
    end = n
    for k in range(len(begins), 0, -1):
        begin = int(begins[k - 1][end])
        tier[order[begin:end]] = k
        end = begin
    return tier


def players(
    models: Sequence[str], ranking: NDArray[np.float64], alone: Collection[str], count: int
) -> NDArray[np.int32]:
    """(models,): who plays as whom: those that are `alone` first, then the tiers of the rest, by their ranking."""
    own = [i for i, model in enumerate(models) if model in alone]
    rest = [i for i in range(len(models)) if i not in own]
    player = np.empty(len(models), np.int32)
    player[own] = np.arange(len(own))
    player[rest] = len(own) + tiers(ranking[rest], count)
    return player
