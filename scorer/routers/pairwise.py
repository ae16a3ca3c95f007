"""Who wins, as logistic regression on pairs of players, each with a vector and a belief about it.

    P(a beats b on q) = sigmoid((u_a - u_b) . x_q)
    U = argmin  sum_i weight_i loss_i(U)  +  1/2 sum_kj precision_kj (U_kj - centre_kj)^2

The log loss of matrix factorization with its factors multiplied out, so convex: one answer, whatever the beginning.
Solved by Newton's method. Rows are seen only through sums over pairs of players, X^T W X of d x d each, so the work
grows linearly with them and the memory not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scorer.routers.bradley_terry import sigmoid

Floats = NDArray[np.float64]
Inputs = NDArray[np.float32]
Ints = NDArray[np.int64]
Grams = dict[tuple[int, int], Floats]  # of pairs of players, the lower number first

_CHUNK = 4096  # rows whose inputs are gathered at once
_MOST_STEPS = 50  # never seen to be reached: 4 to 8 are usual
_ENOUGH = 1e-8  # Newton decrement over the number of rows, in nats: about twice what the loss can still fall
_LEAST_STEP = 1e-6
_RESIDUAL = 1e-8  # of the conjugate gradients, of the gradient's length; the next step makes up for it


@dataclass(frozen=True)
class Duels:
    """n battles by number: x (p, d) of prompts; prompt, a, b (n,); outcome (n,) in [0, 1]; weight (n,) > 0."""

    x: Inputs
    prompt: Ints
    a: Ints
    b: Ints
    outcome: Floats
    weight: Floats

    def __len__(self) -> int:
        return len(self.prompt)


def loss(duels: Duels, vectors: Floats) -> float:
    """Sum of the weighted log losses, in nats; vectors (players, d)."""
    total = 0.0
    for some, logits in _logits(duels, vectors):
        total += float(duels.weight[some] @ (np.logaddexp(0, logits) - duels.outcome[some] * logits))
    return total


def mode(duels: Duels, centre: Floats, precision: Floats) -> Floats:
    """U (players, d); centre and precision > 0 of the same shape. Who has no battle stays at its centre, exactly."""
    vectors, inverses = centre, None
    for _ in range(_MOST_STEPS):
        gradient, grams = _sums(duels, vectors)
        gradient += precision * (vectors - centre)
        inverses = inverses or _inverses(grams, precision)  # good enough for the later steps, too
        step = _solved(grams, precision, gradient, inverses)
        decrement = float((step * gradient).sum())
        if decrement <= _ENOUGH * len(duels):
            return vectors - step
        vectors = _descended(duels, vectors, step, decrement, centre, precision)
    return vectors


def _descended(
    duels: Duels, vectors: Floats, step: Floats, decrement: float, centre: Floats, precision: Floats
) -> Floats:
    """After the step, or after as small a part of it as lowers the objective enough (Armijo's rule)."""

    def objective(at: Floats) -> float:
        return loss(duels, at) + 0.5 * float((precision * (at - centre) ** 2).sum())

    value, size = objective(vectors), 1.0
    while objective(vectors - size * step) > value - 0.1 * size * decrement and size > _LEAST_STEP:
        size /= 2
    return vectors - size * step


def _logits(duels: Duels, vectors: Floats) -> Iterator[tuple[slice, Floats]]:
    """Rows, a chunk at a time, and (u_a - u_b) . x of each."""
    players, sides = np.unique(np.stack([duels.a, duels.b]), return_inverse=True)
    a, b = sides.reshape(2, -1)
    for start in range(0, len(duels), _CHUNK):
        some = slice(start, start + _CHUNK)
        scores = duels.x[duels.prompt[some]] @ vectors[players].T
        row = np.arange(len(scores))
        yield some, scores[row, a[some]] - scores[row, b[some]]


def _sums(duels: Duels, vectors: Floats) -> tuple[Floats, Grams]:
    """The gradient (players, d) of the loss, and its Hessian: X^T W X of every pair that fought.

    The Hessian only steers the steps, so single precision does; the gradient says where they end.
    """
    gradient = np.zeros_like(vectors)
    grams: Grams = {}
    low, high = np.minimum(duels.a, duels.b), np.maximum(duels.a, duels.b)
    for code in np.unique(low * len(vectors) + high).tolist():
        pair = divmod(code, len(vectors))
        rows = np.flatnonzero((low == pair[0]) & (high == pair[1]))
        slope, grams[pair] = _sums_of_pair(duels, rows, pair[0], vectors[pair[0]] - vectors[pair[1]])
        gradient[pair[0]] += slope
        gradient[pair[1]] -= slope
    return gradient, grams


def _sums_of_pair(duels: Duels, rows: Ints, first: int, difference: Floats) -> tuple[Floats, Floats]:
    """X^T (p - y) (d,) and X^T W X (d, d), y being the outcome for the `first` of the two."""
    outcome = np.where(duels.a[rows] == first, duels.outcome[rows], 1 - duels.outcome[rows])
    slope, gram = np.zeros(len(difference)), np.zeros((len(difference), len(difference)))
    for start in range(0, len(rows), _CHUNK):
        some = rows[start : start + _CHUNK]
        x, weight = duels.x[duels.prompt[some]], duels.weight[some]
        p = sigmoid(x @ difference)
        slope += (weight * (p - outcome[start : start + _CHUNK])) @ x
        half = x * np.sqrt(weight * p * (1 - p)).astype(np.float32)[:, None]
        gram += half.T @ half
    return slope, gram


def _inverses(grams: Grams, precision: Floats) -> dict[int, Inputs]:
    """By player, the inverse (d, d) of its own block of the Hessian: a preconditioner, so single precision does."""
    own = {player: np.diag(precision[player]) for pair in grams for player in pair}
    for pair, gram in grams.items():
        for player in pair:
            own[player] += gram
    return {player: np.linalg.inv(block.astype(np.float32)).astype(np.float32) for player, block in own.items()}


def _solved(grams: Grams, precision: Floats, gradient: Floats, inverses: Mapping[int, Inputs]) -> Floats:
    """Newton's step (players, d), by preconditioned conjugate gradients."""

    def hessian(v: Floats) -> Floats:
        product = precision * v
        for (a, b), gram in grams.items():
            pulled = gram @ (v[a] - v[b])
            product[a] += pulled
            product[b] -= pulled
        return product

    def preconditioned(v: Floats) -> Floats:
        z = v / precision
        for player, block in inverses.items():
            z[player] = block @ v[player].astype(np.float32)
        return z

    step, residual = np.zeros_like(gradient), gradient.copy()
    z = direction = preconditioned(residual)
    size, enough = float((residual * z).sum()), _RESIDUAL**2 * float((gradient * gradient).sum())
    for _ in range(gradient.size):
        if float((residual * residual).sum()) <= enough:
            break
        product = hessian(direction)
        along = size / float((direction * product).sum())
        step += along * direction
        residual -= along * product
        z = preconditioned(residual)
        size, before = float((residual * z).sum()), size
        direction = z + (size / before) * direction
    return step
