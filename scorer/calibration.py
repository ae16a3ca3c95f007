"""Calibration: which threshold sends which share to the strongest model, on a named sample of prompts.

Raw win rates mean different things on different routers, ladders and versions; a share means one thing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scorer import artifacts
from scorer.routers.base import Encodes, Prompts, ReadsText, Router, spread

PRETRAINED = Path(__file__).parent / "pretrained"
SAMPLE = "calibration"  # the directory of an encoder's sample in there, and what its artifact says it is for

_BLOCK = 64  # prompts between two reports


@dataclass(frozen=True)
class Calibration:
    """sample: its name; lowest (n,): each prompt's smallest win rate over the cheaper models of the full ladder.

    A prompt goes to the strongest model iff its lowest win rate reaches the threshold.
    """

    sample: str
    lowest: NDArray[np.float64]

    def threshold(self, share: float) -> float:
        """In [0, 1], halfway between two neighbours in the sample; equal scores move together, to the nearest share."""
        values, reach = self._reached
        nearest = int(np.argmin(np.abs(reach - share * len(self.lowest))))
        if nearest == 0:
            return 0.0
        if nearest == len(values):
            return 1.0
        return float((values[nearest - 1] + values[nearest]) / 2)

    @cached_property
    def _reached(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The distinct values, ascending, and how many prompts reach each of them, then none. Sorted once: every
        request asks for a threshold."""
        values, counts = np.unique(self.lowest, return_counts=True)
        return values, np.append(np.cumsum(counts[::-1])[::-1], 0)

    def share(self, threshold: float) -> float:
        """The share of the sample that goes to the strongest model."""
        return float((self.lowest >= threshold).mean())

    def prediction_interval(self, threshold: float, requests: int, level: float = 0.95) -> tuple[float, float]:
        """Bounds, each in [0, 1], of the share of the next `requests` that goes to the strongest model.

        With c of n prompts above a threshold between two of them, a new prompt's chance to be above it is distributed
        as Beta(c + 1/2, n - c + 1/2), halfway between those of the neighbouring order statistics; the number of
        requests above it is then beta-binomial, which carries the error of both samples. Holds for requests drawn
        like the sample.
        """
        above = float((self.lowest >= threshold).sum())
        mass = beta_binomial(requests, above + 0.5, len(self.lowest) - above + 0.5)
        low, high = np.searchsorted(np.cumsum(mass), [(1 - level) / 2, (1 + level) / 2])
        return float(low / requests), float(min(high, requests) / requests)


def lowest(win_rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) smallest win rate over the cheaper models, of (n, m) with the strongest first."""
    least: NDArray[np.float64] = win_rates[:, 1:].min(axis=1, initial=1.0)
    return least


def beta_binomial(trials: int, a: float, b: float) -> NDArray[np.float64]:
    """(trials + 1,) probabilities of 0 to `trials` successes, from the ratio of each to the one before it."""
    k = np.arange(trials)
    ratios = np.log((trials - k) / (k + 1) * (a + k) / (b + trials - k - 1))
    logs = np.concatenate([[0.0], np.cumsum(ratios)])
    mass = np.exp(logs - logs.max())
    probabilities: NDArray[np.float64] = mass / mass.sum()
    return probabilities


def calibrate(
    router: Router,
    ladder: tuple[str, ...],
    sample: str,
    prompts: Prompts,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Calibration:
    """Of a router on a ladder of known names, strongest first."""
    parts = [np.zeros(0)]
    for start in range(0, len(prompts), _BLOCK):
        parts.append(lowest(router.score(prompts[start : start + _BLOCK], ladder).win_rates))
        progress(min(start + _BLOCK, len(prompts)), len(prompts))
    return Calibration(sample, np.concatenate(parts))


def as_shipped(router: Router, ladder: tuple[str, ...], encoder: Encodes) -> Calibration | None:
    """Until there is traffic: on the sample in the package, of which there are vectors for routers that read those, and
    of those that read texts the win rates in their artifacts. None where one has none."""
    if not isinstance(router, ReadsText):
        return calibrate(router, ladder, *shipped_sample(encoder.name, encoder.id))
    if router.sample is None:
        return None
    name, win_rates = router.sample
    return Calibration(name, lowest(spread(win_rates.astype(np.float64), len(ladder))))


def save_sample(directory: Path, encoder_id: str, features: Sequence[str], prompts: Prompts, name: str) -> Path:
    """Writes a sample's artifact: embeddings in int8, features in float16, SHA-256 of the texts, never the texts."""
    peak = np.abs(prompts.embeddings).max(axis=1, keepdims=True)
    tensors = {
        "embeddings": np.round(prompts.embeddings * (127 / peak)).astype(np.int8),  # of any length: it is known to be 1
        "features": prompts.features.astype(np.float16),
        "hashes": np.array([list(hashlib.sha256(text.encode()).digest()) for text in prompts.texts], np.uint8),
    }
    return artifacts.write(directory, tensors, router=SAMPLE, version=name, encoder_id=encoder_id, features=features)


def load_sample(directory: Path, encoder_id: str | None) -> tuple[str, Prompts]:
    """A sample's name and prompts, whose texts are the digests of the real ones: for routers that read vectors, or
    hash. Raises ArtifactError, as for a sample that was made with another encoder."""
    manifest, tensors = artifacts.read(directory, router=SAMPLE, encoder_id=encoder_id)
    embeddings = tensors["embeddings"].astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    texts = tuple(digest.tobytes().hex() for digest in tensors["hashes"])
    return manifest.version, Prompts(texts, embeddings, tensors["features"].astype(np.float32))


def shipped_sample(encoder: str, encoder_id: str | None) -> tuple[str, Prompts]:
    """The sample in the package, as the encoder of that name and id reads it."""
    return load_sample(PRETRAINED / encoder / SAMPLE, encoder_id)
