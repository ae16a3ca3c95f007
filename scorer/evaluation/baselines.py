"""Baselines: what a router must beat before it has learned anything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scorer.evaluation.metrics import DECILES, Curve

Floats = NDArray[np.float64]


def random_curve(weak: Floats, strong: Floats) -> Curve:
    """The expectation of random routing: the straight line. APGR 1/2, CPT(x) = x."""
    return Curve(DECILES, weak.mean() + DECILES * (strong.mean() - weak.mean()))


def prompt_length(texts: Sequence[str]) -> Floats:
    """(n,) scores: characters; the longer, the stronger."""
    return np.array([len(text) for text in texts], np.float64)


def nearest_neighbours(
    embeddings: NDArray[np.float32], known: NDArray[np.float32], gain: Floats, k: int = 50
) -> Floats:
    """(n,) scores: mean gain of the strong model over the k known prompts (unit rows) nearest by cosine."""
    similarity = embeddings @ known.T
    nearest = np.argpartition(-similarity, min(k, len(known)) - 1, axis=1)[:, :k]
    mean: Floats = gain[nearest].mean(axis=1)
    return mean


def single_model(outcomes: Floats, costs: Floats) -> Floats:
    """(m, 2): mean cost and mean outcome of sending everything to each model; both inputs are (n, m)."""
    return np.stack([costs.mean(axis=0), outcomes.mean(axis=0)], axis=1)


def shuffled(choice: NDArray[np.intp], outcomes: Floats) -> float:
    """Mean outcome (n, m) when the same choices (n,) are dealt to prompts at random: as many calls of each model.

    The expectation in closed form: the sum over models of share times mean outcome.
    """
    share = np.bincount(choice, minlength=outcomes.shape[1]) / len(choice)
    return float(share @ outcomes.mean(axis=0))
