"""Grades: what the bar made of the weak models' answers, as the scores from 1 to 5 that a judge would give."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scorer.battles import BAR, Battles

Floats = NDArray[np.float32]

SCORES = 5


@dataclass(frozen=True)
class Graded:
    """n prompts: their texts, shares (n, 5) of the scores 1 to 5, rows sum to 1, weight (n,) > 0 and source (n,)."""

    texts: tuple[str, ...]
    shares: Floats
    weight: Floats
    source: NDArray[np.str_]

    def take(self, rows: NDArray[np.int64]) -> Graded:
        """Some of them."""
        return Graded(tuple(self.texts[i] for i in rows), self.shares[rows], self.weight[rows], self.source[rows])


def grades(battles: Battles, weak: Collection[str]) -> Graded:
    """What the bar made of the weak models' answers: outcomes 0, 1/4, 1/2, 3/4 and 1 are scores 1 to 5, the nearest.

    Several battles of a prompt share it by their weights. A prompt weighs what they weigh together, but 1 at most: it
    is one prompt, however many models answered it.
    """
    names = list(weak)
    forward = np.isin(battles.model_a, names) & (battles.model_b == BAR)
    backward = np.isin(battles.model_b, names) & (battles.model_a == BAR)
    rows = np.flatnonzero(forward | backward)
    outcome = np.where(forward, battles.outcome, 1 - battles.outcome)[rows]
    score = np.floor((SCORES - 1) * outcome + 0.5).astype(np.int64)
    cells = battles.prompt[rows] * SCORES + score
    total = np.bincount(cells, battles.weight[rows], len(battles.prompts) * SCORES).reshape(-1, SCORES)
    weight = total.sum(axis=1)
    source = np.zeros(len(battles.prompts), battles.source.dtype)
    source[battles.prompt[rows[::-1]]] = battles.source[rows[::-1]]  # its first battle's
    known = np.flatnonzero(weight > 0)
    return Graded(
        tuple(battles.prompts[i] for i in known),
        (total[known] / weight[known, None]).astype(np.float32),
        np.minimum(weight[known], 1).astype(np.float32),
        source[known],
    )


def thinned(graded: Graded, most: int, seed: int) -> Graded:
    """At most so many prompts: whole sources from the smallest on, of the one that is too much a random part."""
    _, index, sizes = np.unique(graded.source, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(index))
    by_size = np.argsort(np.argsort(sizes, kind="stable"))[index]
    return graded.take(np.sort(order[np.argsort(by_size[order], kind="stable")[:most]]))
