"""Who rates: P(a decision is rated | its model, the model's score, how likely the choice was)."""

from __future__ import annotations

import numpy as np

from feedback.ope import Floats, Logged
from feedback.regression import logistic, sigmoid

_LEAST = 1e-3  # P(rated) is at least this, so that no rating counts more than a thousand times


def rated(logged: Logged, win_rates: Floats) -> Floats:
    """(n, m): P(rated) had the decision gone to each model, by a logistic regression on who did rate.

    On the model, its logged win rate (n, m), and the log of its probability: an explored choice is rated otherwise than
    an expected one. A model that was never a candidate counts as certain; it never enters an estimate.
    """
    known = (~np.isnan(logged.reward)).astype(np.float64)
    if known.all():
        return np.ones_like(win_rates)
    probability = np.where(logged.probabilities > 0, logged.probabilities, 1.0)
    n, m = win_rates.shape
    places = np.broadcast_to(np.eye(m), (n, m, m))
    x = np.concatenate([places, win_rates[:, :, None] - 0.5, np.log(probability)[:, :, None]], axis=2)
    coefficients = logistic(x[np.arange(n), logged.chosen], known)
    return np.maximum(sigmoid(x @ coefficients), _LEAST)
