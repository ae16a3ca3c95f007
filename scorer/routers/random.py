"""The random router: the baseline that spends like the others and knows nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from scorer.routers.base import Prompts, Scores, spread

_SALT = b"routerd-random-1\0"  # another salt would be another router


class Random:
    """Win rates are a uniform hash of the text: reproducible, and independent of the batch."""

    name = "random"
    version = "1"

    def knows(self, model: str) -> bool:
        """It scores places on the ladder, so every name will do."""
        return True

    def score(self, prompts: Prompts, ladder: Sequence[str]) -> Scores:
        """Uniform on [0, 1) for the cheapest model, spread over the ladder."""
        uniform = np.array([_uniform(text) for text in prompts.texts], np.float64)
        return Scores(spread(uniform, len(ladder)))


def _uniform(text: str) -> float:
    digest = hashlib.sha256(_SALT + text.encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
