"""Made-up prompts, models planted on them, and routers fitted to their battles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scorer.battles import BAR, Battles, concatenate
from scorer.routers.base import Prompts
from scorer.routers.factorization import Factorization, Hyperparameters

ENCODER = "e" * 64
FEATURES = ("length", "digits")
MODELS = ("big", "middle", "small")
EXACT = Hyperparameters(rank=6, restarts=1, learning_rate=0.02, decay=0, noise=0, batch=100, epochs=80, patience=20)
QUICK = Hyperparameters(rank=3, restarts=2, learning_rate=0.02, epochs=6)


def made_up_prompts(n: int, seed: int = 0) -> Prompts:
    generator = np.random.default_rng(seed)
    embeddings = generator.normal(size=(n, 5)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    features = generator.normal([100, 0.1], [30, 0.05], size=(n, 2)).astype(np.float32)
    return Prompts([f"prompt {seed} {i}" for i in range(n)], embeddings, features)


def planted(prompts: Prompts) -> dict[str, NDArray[np.float64]]:
    """delta of every player on every prompt: a difficulty that all share, and something of each one's own."""
    x = np.concatenate([prompts.embeddings, (prompts.features - [100, 0.1]) / [30, 0.05]], axis=1)
    generator = np.random.default_rng(42)
    deltas = {model: x @ generator.normal(0, 0.5, 7) + 1.5 - i for i, model in enumerate(MODELS)}
    return deltas | {BAR: x @ generator.normal(0, 1, 7)}


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))


def battles_of(prompts: Prompts, pairs: list[tuple[str, str]], sampled: int | None = None) -> Battles:
    """Every pair on every prompt: the exact probability as a soft outcome, or a draw of it."""
    deltas, parts = planted(prompts), []
    for a, b in pairs:
        outcome = sigmoid(deltas[a] - deltas[b])
        if sampled is not None:
            outcome = (np.random.default_rng(sampled).random(len(outcome)) < outcome).astype(float)
        parts.append(Battles.of(prompts.texts, [a] * len(prompts), [b] * len(prompts), outcome))
    return concatenate(parts)


def fit(prompts: Prompts, battles: Battles, chosen: Hyperparameters = EXACT) -> Factorization:
    return Factorization.fit(battles, prompts, encoder_id=ENCODER, features=FEATURES, chosen=chosen)


def logits(router: Factorization, prompts: Prompts, models: Sequence[str]) -> NDArray[np.float64]:
    quality = router.score(prompts, models).quality
    assert quality is not None
    return np.log(quality / (1 - quality))
