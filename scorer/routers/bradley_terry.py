"""Bradley-Terry rankings: strengths of k players from weighted wins, solved exactly and many at a time.

    P(i beats j) = sigmoid(theta_i - theta_j)
    theta = argmin  sum_ij wins_ij log(1 + exp(theta_j - theta_i))  +  1/2 sum_i ridge_i (theta_i - centre_i)^2

The ridge fixes the gauge, keeps players without defeats finite, and is what pulls a ranking towards `centre`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_TOLERANCE = 1e-6  # nats: a step below it is the last, and leaves an error of about its square
_TINY = np.finfo(float).tiny  # beside a step of nothing
_MOST_STEPS = 200  # never seen to be reached: under 10 are usual


def strengths(wins: Floats, ridge: Floats | float, centre: Floats | float = 0.0, start: Floats | None = None) -> Floats:
    """theta (n, k), in nats, of n rankings; wins (n, k, k): weight of i's wins over j; ridge > 0, centre: (k,) or one;
    start (k,): where to begin if not at the centre, which changes how long it takes and nothing else.

    Newton's method, damped by log(1 + d) / d where d is the spread of a step, which makes it converge from anywhere
    (Sun and Tran-Dinh 2019, Math. Program. 178, on generalised self-concordant functions) and quadratically at the
    end. A ranking stops by its own steps, so it does not depend on what it is solved with. A player's wins over itself
    cancel.
    """
    n, k, _ = wins.shape
    ridge, centre = np.broadcast_to(ridge, k), np.broadcast_to(centre, k)
    theta = np.tile(np.asarray(centre if start is None else start, np.float64), (n, 1))
    games, active = np.ascontiguousarray(wins + wins.transpose(0, 2, 1)), np.arange(n)
    won = wins.sum(axis=2) - _diagonal(wins)
    _diagonal(games)[...] = 0
    for _ in range(_MOST_STEPS):
        at = theta[active]
        p = sigmoid(at[:, :, None] - at[:, None, :])
        expected = games * p
        gradient = expected.sum(axis=2) - won + ridge * (at - centre)
        hessian = expected * (p - 1)
        _diagonal(hessian)[...] = ridge - hessian.sum(axis=2)
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        spread = np.ptp(step, axis=1, keepdims=True) + _TINY
        theta[active] = at - np.log1p(spread) / spread * step
        going = np.abs(step).max(axis=1) > _TOLERANCE
        if not going.any():
            break
        if not going.all():
            active, games, won = active[going], games[going], won[going]
    return theta


def curvature(wins: Floats, theta: Floats, ridge: float) -> Floats:
    """(k, k) Hessian of one ranking's objective; wins (k, k), theta (k,)."""
    p = sigmoid(theta[:, None] - theta)
    hessian = np.empty_like(wins)
    hessian[...] = (wins + wins.T) * p * (p - 1)
    np.fill_diagonal(hessian, 0)
    np.fill_diagonal(hessian, ridge - hessian.sum(axis=1))
    return hessian


def _diagonal(matrices: Floats) -> Floats:
    """(n, k) view of (n, k, k)."""
    view: Floats = np.einsum("nii->ni", matrices)
    return view


def sigmoid(x: Floats) -> Floats:
    """Of differences in nats, without overflow."""
    half: Floats = 0.5 + 0.5 * np.tanh(0.5 * x)
    return half
