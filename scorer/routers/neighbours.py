"""Neighbours: what each row of a similarity-weighted ranking adds to the difference between two of its players.

    theta_i = centre_i + 1 / ridge  sum_rows weight (what i won there - what it was expected to win)

which is where the gradient of the ranking's objective (bradley_terry) is zero, solved for theta.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scorer.routers.bradley_terry import sigmoid
from scorer.routers.cells import Cells, Floats
from scorer.routers.grounds import Neighbour
from scorer.routers.origins import Origins

_SHOWN = 10


@dataclass(frozen=True)
class Rows:
    """All that is known, as in routers.similarity: names, pairs (p, 2) of models, player (models,) of each, blocks and
    the origins of their rows."""

    models: Sequence[str]
    pairs: NDArray[np.int32]
    player: NDArray[np.int32]
    blocks: Sequence[Cells]
    origins: Origins

    def surplus(self, theta: Floats, value: Floats) -> Floats:
        """(rows,): what players won on each beyond the ranking's expectation, a player's wins being worth its `value`
        (players,) less the loser's."""
        a, b = self.player[self.pairs].T
        side, p = value[a] - value[b], sigmoid(theta[a] - theta[b])
        each = np.stack([side * (1 - p), -side * p], axis=1)
        return np.concatenate([block.worth(each) for block in self.blocks])

    def nearest(
        self, weights: Floats, value: Floats, similarity: Floats, models: Sequence[int]
    ) -> tuple[Neighbour, ...]:
        """The rows with the most weight, and what these models won there; the rest is given by row."""
        rows = np.argsort(-weights, kind="stable")[: min(_SHOWN, np.count_nonzero(weights))]
        total = float(weights.sum())
        return tuple(
            Neighbour(
                similarity=float(similarity[row]),
                share=float(weights[row]) / total,
                value=float(value[row]),
                won=self._won(row, models),
                **self.origins.row(row)._asdict(),
            )
            for row in rows.tolist()
        )

    def _won(self, row: int, models: Sequence[int]) -> dict[str, float]:
        """By model, the share that it won of its battles on the row."""
        for block in self.blocks:
            if row < len(block):
                break
            row -= len(block)
        won, fought = np.zeros(len(self.models)), np.zeros(len(self.models))
        for pair, *wins in block.entries(row):
            won[self.pairs[pair]] += wins
            fought[self.pairs[pair]] += sum(wins)
        return {self.models[model]: float(won[model] / fought[model]) for model in models if fought[model]}
