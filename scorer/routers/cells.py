"""Cells: prompts as int8 rows, and what was won on each, by pair of models. Immutable; what appending adds one of.

Cosines are exact integers before they are scaled: a row is no longer than 127 sqrt(d), a query is made so long that no
partial sum of their product reaches 2^24 (Cauchy-Schwarz), and float32 holds every integer below that. So BLAS may sum
in any order, and it takes another one for a batch: the result is the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scorer.battles import Battles

Floats = NDArray[np.float64]

_PEAK = 127  # of an int8 row
_EXACT = 2**24  # float32 holds all whole numbers up to here
_CHUNK = 1024  # rows made float32 at once, since numpy multiplies no int8: they stay in the processor's cache


class Cells:
    """n rows and their e entries."""

    def __init__(
        self,
        rows: NDArray[np.int8],
        count: NDArray[np.integer],
        pair: NDArray[np.integer],
        wins: NDArray[np.float32],
        pairs: NDArray[np.int32],
    ) -> None:
        """rows (n, d), their length without meaning; count (n,): entries of each row, which lie one after the other;
        pair (e,): index into pairs (p, 2) of models; wins (e, 2): weight won by the first model and by the second."""
        self.rows, self.count, self.pair, self.wins = rows, count, pair, wins
        self._norms = np.maximum(np.sqrt(np.square(rows, dtype=np.int64).sum(axis=1)), 1.0)
        row = np.repeat(np.arange(len(rows)), count)
        self._begin = np.concatenate([[0], np.cumsum(count)])
        self._pair = pair.astype(np.intp)
        self._first, self._second = np.ascontiguousarray(wins.T, np.float64)
        self._fought = np.zeros((int(pairs.max(initial=-1)) + 1, len(rows)), bool)
        for side in pairs.T:
            self._fought[side[self._pair], row] = True
        order = np.argsort(self._pair, kind="stable")  # by pair: sums over all rows run through memory once, in order
        self._met, self._starts = np.unique(self._pair[order], return_index=True)
        self._by_pair = row[order], self._first[order], self._second[order]
        self.total = self.summed(np.ones(len(rows)), len(pairs))

    def __len__(self) -> int:
        return len(self.rows)

    def fought(self, model: int) -> NDArray[np.bool_]:
        """(n,): on which rows the model has battles."""
        return self._fought[model] if model < len(self._fought) else np.zeros(len(self), bool)

    def similarity(self, queries: NDArray[np.float32]) -> Floats:
        """(q, n) cosines to `queries` (q, d), each of which is the same alone and in any batch."""
        cosines = np.empty((len(queries), len(self)))
        for begin in range(0, len(self), _CHUNK):
            rows = self.rows[begin : begin + _CHUNK].astype(np.float32)
            cosines[:, begin : begin + _CHUNK] = queries @ rows.T
        norms = np.sqrt(np.square(queries, dtype=np.float64).sum(axis=1))
        cosines /= self._norms
        cosines /= np.maximum(norms, 1.0)[:, None]
        return cosines

    def summed(self, weights: Floats, pairs: int) -> Floats:
        """(pairs, 2): what the first and the second model of each pair won, rows counting with `weights` (n,)."""
        if 2 * np.count_nonzero(weights) < len(self):
            return self._summed_few(np.flatnonzero(weights), weights, pairs)
        row, *won = self._by_pair
        weight, sums = weights[row], np.zeros((pairs, 2))
        if len(row):
            sums[self._met] = np.stack([np.add.reduceat(weight * each, self._starts) for each in won], axis=1)
        return sums

    def _summed_few(self, rows: NDArray[np.intp], weights: Floats, pairs: int) -> Floats:
        """The same, touching the entries of some rows alone."""
        length = self.count[rows].astype(np.intp)
        entries = np.arange(length.sum()) + np.repeat(self._begin[rows] - np.cumsum(length) + length, length)
        pair, weight = self._pair[entries], np.repeat(weights[rows], length)
        won = (self._first[entries], self._second[entries])
        return np.stack([np.bincount(pair, weight * each, minlength=pairs) for each in won], axis=1)


def copied(cells: Cells, pairs: NDArray[np.int32], model: int, copy: int) -> tuple[Cells, NDArray[np.int32]]:
    """Cells in which `copy`, a number above all others, has fought every battle of `model`; and the pairs, extended."""
    theirs = np.flatnonzero((pairs == model).any(axis=1))
    flipped = pairs[theirs, 0] == model  # the other one's number is the lower
    others = np.where(flipped, pairs[theirs, 1], pairs[theirs, 0])
    extended = np.concatenate([pairs, np.stack([others, np.full(len(others), copy)], axis=1)]).astype(np.int32)
    row, pair = np.repeat(np.arange(len(cells)), cells.count), cells.pair.astype(np.intp)
    entries = np.flatnonzero(np.isin(pair, theirs))
    which = np.searchsorted(theirs, pair[entries])
    wins = np.where(flipped[which, None], cells.wins[entries, ::-1], cells.wins[entries])
    rows = np.concatenate([row, row[entries]])
    order = np.argsort(rows, kind="stable")
    both = np.concatenate([pair, len(pairs) + which])[order].astype(np.min_scalar_type(len(extended)))
    count = np.bincount(rows, minlength=len(cells)).astype(np.int32)
    return Cells(cells.rows, count, both, np.concatenate([cells.wins, wins])[order], extended), extended


def gathered(
    battles: Battles, vectors: Floats, models: Sequence[str], pairs: NDArray[np.int32]
) -> tuple[Cells, NDArray[np.int32]]:
    """The cells of battles on prompts with such unit vectors (n, d), and `pairs` (p, 2) with those that were not in it.

    An outcome y counts as y wins of a and 1 - y of b, times the weight.
    """
    number = {model: i for i, model in enumerate(models)}
    a, b = (np.array([number[name] for name in side.tolist()], np.intp) for side in (battles.model_a, battles.model_b))
    codes, which = np.unique(np.minimum(a, b) * len(models) + np.maximum(a, b), return_inverse=True)
    place = {pair: i for i, pair in enumerate(map(tuple, pairs.tolist()))}
    met = [divmod(code, len(models)) for code in codes.tolist()]
    index = np.array([place.setdefault(pair, len(place)) for pair in met], np.intp)[which.reshape(-1)]
    entries, inverse = np.unique(battles.prompt * len(place) + index, return_inverse=True)
    outcome = np.where(a > b, 1 - battles.outcome, battles.outcome)
    wins = [np.bincount(inverse, won * battles.weight, len(entries)) for won in (outcome, 1 - outcome)]
    row, pair = np.divmod(entries, len(place))
    peak = np.maximum(np.abs(vectors).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    extended = np.array(list(place), np.int32).reshape(-1, 2)
    cells = Cells(
        np.round(vectors * (_PEAK / peak)).astype(np.int8),
        np.bincount(row, minlength=len(vectors)).astype(np.int32),
        pair.astype(np.min_scalar_type(len(place))),
        np.stack(wins, axis=1).astype(np.float32),
        extended,
    )
    return cells, extended


def queries(vectors: Floats) -> NDArray[np.float32]:
    """Unit vectors (q, d) as whole numbers, as long as exactness allows: cosines are good to about 1e-4."""
    dimension = vectors.shape[1]
    length = _EXACT / (_PEAK * dimension**0.5) - dimension**0.5 / 2 - 1  # what rounding may add is taken off
    whole: NDArray[np.float32] = np.round(vectors * length).astype(np.float32)
    return whole
