"""Coresets: rows that stand for all, so that a prompt costs no more as battles come in.

Row i is kept with probability pi_i = min(1, share * worth_i), each for itself, the share being such that about as many
are kept as asked for; what was won on it then counts 1 / pi_i times. It is worth what was won on it, over the root of
what its pair of models won on all rows: rare pairs may be asked for as well as common ones. Two sums are of all rows,
by pair and winner: of the wins, and of the wins times the rows' unit vectors. Less those of the kept rows they are the
`Remainder`. A prompt's weights are w(s) = a + b s + r(s), the line being a least-squares fit over the kept rows. It is
summed exactly, the rest estimated:

    cells = sum_kept w(s_i) won_i / pi_i  +  a total + b (query . moment)

The bound. Strengths move with the cells by H^-1 gradient, H being the Hessian (bradley_terry). So the difference of
strong and weak is off, to first order, by  sum_i (xi_i - 1) psi_i,  xi_i = 1 / pi_i if i was kept, else 0,

    psi_i = r(s_i) sum_(what j won of k on i) P(k beats j) (phi_j - phi_k),    phi = H^-1 (e_strong - e_weak).

Its terms are independent and of mean 0, so that Bernstein's inequality holds: with probability 1 - delta it is below

    sqrt(2 V L) + M L / 3,    L = log(2 / delta),    V = sum_i psi_i^2 (1 / pi_i - 1),    M = max_i |psi_i| / pi_i

and the win rate is off by a quarter of that at most, sigmoid's steepest slope. V is estimated from the kept rows, by
sum_kept (psi_i / pi_i)^2 (1 - pi_i), M taken among them. It falls with the root of the rows kept, and does not grow
with the log. Neglected is what is of second order in the cells' error. A coreset of a coreset is one: probabilities
multiply. Not in the bound is upstream's normaliser, the similarity of the nearest row: of the nearest that was kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorer.artifacts import TENSORS, ArtifactError
from scorer.routers.cells import Cells, Floats, joined, mirrored

_LEAST = 1e-9  # won by a pair that never met


@dataclass(frozen=True)
class Remainder:
    """What kept rows lack of all. total (p, 2): won by the first and the second model of a pair; moment (p, 2, d): the
    same times the rows' unit vectors; chance (n,): with which each of the first n rows was kept, later ones by 1."""

    total: Floats
    moment: NDArray[np.float32]
    chance: NDArray[np.float32]

    def summed(self, weights: Floats, similarity: Floats, query: NDArray[np.float32], pairs: int) -> Floats:
        """(pairs, 2): to be added to the kept rows' cells, for a prompt's weights and similarities (rows,); query (d,)
        of any length."""
        intercept, slope = line(weights, similarity)
        length = max(float(np.sqrt(np.square(query, dtype=np.float64).sum())), 1.0)
        sums = np.zeros((pairs, 2))
        sums[: len(self.total)] = intercept * self.total + slope / length * (self.moment @ query)
        return sums

    def of_pairs(self, pairs: int) -> Remainder:
        """With room for those that met since."""
        more = pairs - len(self.total)
        total, moment = np.pad(self.total, ((0, more), (0, 0))), np.pad(self.moment, ((0, more), (0, 0), (0, 0)))
        return replace(self, total=total, moment=moment)

    def copied(self, pairs: NDArray[np.int32], model: int) -> Remainder:
        """As cells.copied extends the pairs."""
        theirs, flipped = mirrored(pairs, model)
        sides = theirs[:, None], np.where(flipped[:, None], [1, 0], [0, 1])
        whole = self.of_pairs(len(pairs))
        total = np.concatenate([whole.total, whole.total[sides]])
        return replace(self, total=total, moment=np.concatenate([whole.moment, whole.moment[sides]]))

    def of_rows(self, rows: int) -> NDArray[np.float32]:
        """Chances of all rows."""
        return np.pad(self.chance, (0, rows - len(self.chance)), constant_values=1)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """For an artifact."""
        return {"lacking": self.total, "lacking_moment": self.moment, "chance": self.chance}

    @classmethod
    def read(cls, directory: Path, tensors: Mapping[str, NDArray[Any]], pairs: int) -> Remainder | None:
        """None where all rows were kept. Raises ArtifactError."""
        if "lacking" not in tensors:
            return None
        total, moment, chance = (tensors.get(name, np.zeros(0)) for name in ("lacking", "lacking_moment", "chance"))
        dimension, rows = tensors["rows"].shape[1], len(tensors["rows"])
        whole = total.shape[1:] == (2,) and len(total) <= pairs and moment.shape == (*total.shape, dimension)
        finite = all(np.isfinite(each).all() for each in (total, moment))
        if (
            not whole
            or not finite
            or chance.ndim != 1
            or len(chance) > rows
            or not ((chance > 0) & (chance <= 1)).all()
        ):
            raise ArtifactError(f"{directory / TENSORS}: tensors 'lacking' and 'chance' do not describe a coreset")
        return cls(total, moment, chance)


def thinned(
    blocks: Sequence[Cells], pairs: NDArray[np.int32], before: Remainder | None, most: int
) -> tuple[Cells, Remainder, NDArray[np.intp]]:
    """About `most` rows of all, what they lack of them and of what these lacked `before`, and their numbers."""
    whole = joined(blocks, pairs)
    known = Remainder(np.zeros((0, 2)), np.zeros((0, 2, whole.rows.shape[1]), np.float32), np.zeros(0, np.float32))
    known = (before or known).of_pairs(len(pairs))
    of_pair = (known.total + whole.summed(np.ones(len(whole)), len(pairs))).sum(axis=1, keepdims=True)
    worth = whole.worth(np.broadcast_to(1 / np.sqrt(np.maximum(of_pair, _LEAST)), (len(pairs), 2)))
    chance = chances(worth, most)
    chance[worth.argmax()] = 1  # there is always one
    # Drawn alike from the same rows, and anew when there are others.
    kept = np.flatnonzero(np.random.default_rng([len(whole), int(of_pair.sum())]).random(len(whole)) < chance)
    counted = np.zeros(len(whole))
    counted[kept] = 1 / chance[kept]
    remainder = Remainder(
        known.total + whole.summed(1 - counted, len(pairs)),
        known.moment + whole.moment(1 - counted, len(pairs)),
        (known.of_rows(len(whole)) * chance)[kept].astype(np.float32),
    )
    return whole.taken(kept, counted[kept], pairs), remainder, kept


def chances(worth: Floats, most: int) -> Floats:
    """(n,) in proportion to each row's worth, but 1 at most, so that about `most` of them are kept."""
    if most >= len(worth):
        return np.ones(len(worth))
    ranked = np.sort(worth)[::-1]
    left = np.maximum(np.cumsum(ranked[::-1])[::-1], np.finfo(float).tiny)
    share = (most - np.arange(len(worth))) / left  # if so many are kept for certain
    enough = share * ranked <= 1
    found: Floats = np.minimum(1, share[enough.argmax()] * worth)
    return found


def line(weights: Floats, similarity: Floats) -> tuple[float, float]:
    """Intercept and slope, by least squares."""
    mean = similarity.mean()
    apart = similarity - mean
    squares = float(apart @ apart)
    slope = float(apart @ weights) / squares if squares > 1e-12 * len(apart) else 0.0  # else they are all alike
    return float(weights.mean() - slope * mean), slope


def off_line(weights: Floats, similarity: Floats) -> Floats:
    """What the weights are beside their line."""
    intercept, slope = line(weights, similarity)
    return weights - intercept - slope * similarity


def bernstein(terms: Floats, chance: NDArray[np.float32], delta: float) -> float:
    """What sum_kept terms / chance is off by, at most, with probability 1 - delta; terms (n,) of the kept, divided by
    their chance."""
    log = np.log(2 / delta)
    dropped = chance < 1
    variance = np.square(terms[dropped]) @ (1 - chance[dropped])
    return float(np.sqrt(2 * variance * log) + np.abs(terms[dropped]).max(initial=0) * log / 3)
