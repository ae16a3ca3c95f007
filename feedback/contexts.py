"""Contexts: what outcomes are predicted from, few columns of about unit variance, so that few ratings suffice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedback.ope import Floats

_DIRECTIONS = 32  # of the embeddings; more predict no better from some thousand ratings
_CLIP = 4.0
_SPREAD = 2.0  # of the leading direction; the others keep their proportions to it


def context(embeddings: NDArray[Any], features: NDArray[Any], win_rates: Floats) -> Floats:
    """(n, k) columns: the embeddings' (n, d) leading principal directions, features (n, f) and logged win rates (n, m).

    Outcomes have no part in it, so it needs no cross-fitting. Rows of NaN, where nothing was kept, become the mean.
    """
    return np.concatenate([_directions(embeddings), _standardised(features), _standardised(win_rates)], axis=1)


def _standardised(columns: NDArray[Any]) -> Floats:
    """In standard deviations, within four of them."""
    centred, _ = _centred(columns)
    scale = np.sqrt((centred**2).mean(axis=0)) if len(centred) else 1.0
    scaled: Floats = np.clip(centred / np.maximum(scale, 1e-6), -_CLIP, _CLIP)
    return scaled


def _directions(embeddings: NDArray[Any]) -> Floats:
    """(n, at most 32) principal components."""
    centred, kept = _centred(embeddings)
    if not kept or not centred.shape[1]:
        return np.zeros((len(centred), 0))
    variances, directions = np.linalg.eigh(centred.T @ centred / kept)
    scale = _SPREAD / max(float(variances[-1]), 1e-12) ** 0.5
    leading: Floats = scale * (centred @ directions[:, ::-1][:, :_DIRECTIONS]).astype(np.float64)
    return leading


def _centred(columns: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """(n, k) less their means, 0 in rows that were not kept, as precise as they come; how many were kept."""
    kept = np.isfinite(columns).all(axis=1)
    if not kept.any():
        return np.zeros_like(columns), 0
    mean = columns.mean(axis=0, dtype=np.float64, where=kept[:, None])
    centred = columns - mean.astype(columns.dtype)
    centred[~kept] = 0
    return centred, int(kept.sum())
