"""Cells: prompts as int8 rows, and what was won on each, by pair of models. Immutable; what appending adds one of.

Cosines are exact integers before they are scaled: a row is no longer than 127 sqrt(d), a query is made so long that no
partial sum of their product reaches 2^24 (Cauchy-Schwarz), and float32 holds every integer below that. So BLAS may sum
in any order, and it takes another one for a batch: the result is the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorer import artifacts
from scorer.battles import BAR, Battles
from scorer.routers.base import Prompts, standardised

Floats = NDArray[np.float64]

_TENSORS = {"rows", "count", "pair", "wins", "pairs", "player", "mean", "scale"}

_PEAK = 127  # of an int8 row
_EXACT = 2**24  # float32 holds all whole numbers up to here
_TOGETHER = 16_384  # entries that a moment is summed over at once
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
        self._won = np.ascontiguousarray(wins, np.float64)
        self._fought = np.zeros((int(pairs.max(initial=-1)) + 1, len(rows)), bool)
        for side in pairs.T:
            self._fought[side[self._pair], row] = True
        entry, side = np.nonzero(self._won)
        sides = 2 * self._pair[entry] + side
        order = np.argsort(sides, kind="stable")  # by pair and winner: sums over all rows run through memory in order
        self._met, self._starts = np.unique(sides[order], return_index=True)
        self._by_winner = row[entry][order], self._won[entry, side][order]
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
        if weights.min(initial=1) == 0 and 2 * np.count_nonzero(weights) < len(self):  # counting takes a while
            return self._summed_few(np.flatnonzero(weights), weights, pairs)
        (row, won), sums = self._by_winner, np.zeros(2 * pairs)
        if len(row):
            weighed = weights.take(row)
            weighed *= won
            sums[self._met] = np.add.reduceat(weighed, self._starts)
        return sums.reshape(pairs, 2)

    def moment(self, weights: Floats, pairs: int) -> NDArray[np.float32]:
        """(pairs, 2, d): the same times the rows' unit vectors."""
        row, won = self._by_winner
        side = np.repeat(self._met, np.diff(self._starts, append=len(row)))
        sums = np.zeros((2 * pairs, self.rows.shape[1]))
        for begin in range(0, len(row), _TOGETHER):
            part = slice(begin, begin + _TOGETHER)
            scale = won[part] * weights[row[part]] / self._norms[row[part]]
            met, starts = np.unique(side[part], return_index=True)
            sums[met] += np.add.reduceat(self.rows[row[part]] * scale[:, None], starts)
        return sums.reshape(pairs, 2, -1).astype(np.float32)

    def taken(self, rows: NDArray[np.intp], counting: Floats, pairs: NDArray[np.int32]) -> Cells:
        """Some rows (m,), what was won on them counting so many times (m,)."""
        entries, length = self._entries(rows), self.count[rows]
        wins = (self._won[entries] * np.repeat(counting, length)[:, None]).astype(np.float32)
        return Cells(self.rows[rows], length, self.pair[entries], wins, pairs)

    def worth(self, each: Floats) -> Floats:
        """(n,): what each row's wins come to if one of the first and of the second model of a pair is worth `each`
        (pairs, 2)."""
        row = np.repeat(np.arange(len(self)), self.count)
        worths = (self._won * each[self._pair]).sum(axis=1)
        return np.bincount(row, worths, len(self)).astype(np.float64, copy=False)

    def entries(self, row: int) -> Iterator[tuple[int, float, float]]:
        """Of a row: a pair's number, and what its first and its second model won."""
        for entry in range(self._begin[row], self._begin[row + 1]):
            yield int(self._pair[entry]), float(self._won[entry, 0]), float(self._won[entry, 1])

    def _summed_few(self, rows: NDArray[np.intp], weights: Floats, pairs: int) -> Floats:
        """The same, touching the entries of some rows alone."""
        entries = self._entries(rows)
        pair, weight = self._pair[entries], np.repeat(weights[rows], self.count[rows])
        won = self._won[entries] * weight[:, None]
        return np.stack([np.bincount(pair, each, minlength=pairs) for each in won.T], axis=1)

    def _entries(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Of some rows, in their order."""
        length = self.count[rows].astype(np.intp)
        entries: NDArray[np.intp] = np.arange(length.sum())
        return entries + np.repeat(self._begin[rows] - np.cumsum(length) + length, length)


def joined(blocks: Sequence[Cells], pairs: NDArray[np.int32]) -> Cells:
    """Their rows in one."""
    if len(blocks) == 1:
        return blocks[0]
    rows, count, pair, wins = (
        np.concatenate([getattr(block, name) for block in blocks]) for name in ("rows", "count", "pair", "wins")
    )
    return Cells(rows, count, pair, wins, pairs)


def mirrored(pairs: NDArray[np.int32], model: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Of the pairs that the model is in: their numbers, and whether it comes first."""
    theirs = np.flatnonzero((pairs == model).any(axis=1))
    return theirs, pairs[theirs, 0] == model


def copied(cells: Cells, pairs: NDArray[np.int32], model: int, copy: int) -> tuple[Cells, NDArray[np.int32]]:
    """Cells in which `copy`, a number above all others, has fought every battle of `model`; and the pairs, extended."""
    theirs, flipped = mirrored(pairs, model)  # the copy comes second: the other one's number is the lower
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


def units(prompts: Prompts, mean: NDArray[np.float32], scale: NDArray[np.float32], features: float) -> Floats:
    """(n, d) unit embeddings or, with `features`, (n, d + f) units of [embedding; features * standardised / sqrt f]."""
    x = prompts.embeddings.astype(np.float64)
    if features and mean.size:
        scaled = standardised(prompts.features, mean, scale)
        x = np.concatenate([x, scaled * (features / mean.size**0.5)], axis=1)
    norms = np.sqrt(np.square(x).sum(axis=1, keepdims=True))
    unit: Floats = x / np.maximum(norms, np.finfo(np.float32).tiny)
    return unit


def queries(vectors: Floats) -> NDArray[np.float32]:
    """Unit vectors (q, d) as whole numbers, as long as exactness allows: cosines are good to about 1e-4."""
    dimension = vectors.shape[1]
    length = _EXACT / (_PEAK * dimension**0.5) - dimension**0.5 / 2 - 1  # what rounding may add is taken off
    whole: NDArray[np.float32] = np.round(vectors * length).astype(np.float32)
    return whole


def check(directory: Path, manifest: artifacts.Manifest, tensors: Mapping[str, NDArray[Any]], features: bool) -> None:
    """What artifacts.read cannot know: that tensors fit each other, the models, and the features if rows have them.
    Raises ArtifactError."""
    where = directory / artifacts.TENSORS
    if missing := sorted(_TENSORS - tensors.keys()):
        raise artifacts.ArtifactError(f"{where}: no tensor {missing[0]!r}")
    n, e, p = (np.atleast_1d(tensors[name]).shape[:1] for name in ("rows", "pair", "pairs"))
    models, measured = (len(manifest.models),), (len(manifest.features),)
    shapes = {"rows": (*n, *tensors["rows"].shape[1:2]), "count": n, "pair": e, "wins": (*e, 2), "pairs": (*p, 2)}
    for name, shape in (shapes | {"player": models, "mean": measured, "scale": measured}).items():
        if tensors[name].shape != shape:
            raise artifacts.ArtifactError(f"{where}: tensor {name!r} is {tensors[name].shape}, expected {shape}")
    for name, below in {"pair": p[0], "pairs": models[0], "player": models[0], "count": e[0] + 1}.items():
        if tensors[name].dtype.kind not in "iu" or not (tensors[name] < below).all() or (tensors[name] < 0).any():
            raise artifacts.ArtifactError(f"{where}: tensor {name!r} is not whole numbers from 0 to {below - 1}")
    if tensors["rows"].dtype != np.int8 or tensors["rows"].ndim != 2 or len(tensors["rows"]) == 0:
        raise artifacts.ArtifactError(f"{where}: tensor 'rows' is not int8 rows")
    if features and tensors["rows"].shape[1] <= measured[0]:
        raise artifacts.ArtifactError(
            f"{where}: tensor 'rows' is {tensors['rows'].shape}, expected d + {measured[0]} columns"
        )
    if tensors["count"].sum() != e[0] or (tensors["wins"] < 0).any():
        raise artifacts.ArtifactError(f"{where}: tensors 'count' and 'wins' do not describe {e[0]} entries")
    if BAR not in manifest.models:
        raise artifacts.ArtifactError(f"{directory / artifacts.MANIFEST}: the bar is not among the models")
