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
    games, won = np.ascontiguousarray(wins + wins.transpose(0, 2, 1)), wins.sum(axis=2)
    active = np.arange(n)
    for _ in range(_MOST_STEPS):
        at = theta[active]
        p = sigmoid(at[:, :, None] - at[:, None, :])
        expected = games * p
        gradient = expected.sum(axis=2) - won + ridge * (at - centre)
        hessian = -expected * (1 - p)
        diagonal = np.einsum("nii->ni", hessian)
        diagonal[...] = 0
        diagonal[...] = ridge - hessian.sum(axis=2)
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        spread = step.max(axis=1) - step.min(axis=1)
        damping = np.where(spread > 0, np.log1p(spread) / np.maximum(spread, np.finfo(float).tiny), 1)
        theta[active] = at - damping[:, None] * step
        going = np.abs(step).max(axis=1) > _TOLERANCE
        if not going.any():
            break
        if not going.all():
            active, games, won = active[going], games[going], won[going]
    return theta


def sigmoid(x: Floats) -> Floats:
    """Of differences in nats, without overflow."""
    half: Floats = 0.5 + 0.5 * np.tanh(0.5 * x)
    return half
