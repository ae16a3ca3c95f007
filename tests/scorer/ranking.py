"""Made-up prompts and battles, and rankings of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorer.battles import BAR, Battles, concatenate
from scorer.routers.base import Prompts
from scorer.routers.similarity import Similarity
from scorer.routers.variants import Variant

ENCODER = "e" * 64
FEATURES = ("length", "digits")
MODELS = ("big", "middle", "small")
Floats = NDArray[np.float64]


def made_up_prompts(n: int, seed: int = 0, d: int = 5) -> Prompts:
    generator = np.random.default_rng(seed)
    embeddings = generator.normal(size=(n, d)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    features = generator.normal([100, 0.1], [30, 0.05], size=(n, 2)).astype(np.float32)
    return Prompts([f"prompt {seed} {i}" for i in range(n)], embeddings, features)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def arena(prompts: Prompts, rows: int, players: int, seed: int = 0) -> Battles:
    """Battles between models of planted strength, wins, ties and soft outcomes, of several weights."""
    generator = np.random.default_rng(seed)
    a = generator.integers(0, players, rows)
    b = (a + generator.integers(1, players, rows)) % players
    p = sigmoid(0.7 * (b - a))  # model 0 is the strongest
    outcome = np.where(generator.random(rows) < 0.2, 0.5, generator.random(rows) < p)
    outcome = np.where(generator.random(rows) < 0.1, generator.random(rows), outcome)
    names = np.array([f"m{i}" for i in range(players - 1)] + [BAR])
    texts = [
        prompts.texts[i] for i in np.concatenate([np.arange(len(prompts)), generator.integers(0, len(prompts), rows)])
    ]
    weight = generator.choice([1.0, 0.25, 3.0], rows)
    first = Battles.of(texts[: len(prompts)], ["m0"] * len(prompts), [BAR] * len(prompts), [0.5] * len(prompts))
    return concatenate(
        [first, Battles.of(texts[len(prompts) :], names[a].tolist(), names[b].tolist(), outcome, weight)]
    )


def thumbs(prompts: Prompts, models: tuple[str, ...] = MODELS, seed: int = 0) -> Battles:
    """Every model against the bar on every prompt."""
    generator = np.random.default_rng(seed)
    parts = []
    for i, model in enumerate(models):
        good = sigmoid(1.0 - i + 2 * prompts.embeddings[:, 0])
        outcome = (generator.random(len(prompts)) < good).astype(float)
        parts.append(Battles.of(prompts.texts, [model] * len(prompts), [BAR] * len(prompts), outcome))
    return concatenate(parts)


def fit(prompts: Prompts, battles: Battles, chosen: Variant | None = None) -> Similarity:
    return Similarity.fit(battles, prompts, encoder_id=ENCODER, features=FEATURES, chosen=chosen)


def take(prompts: Prompts, rows: list[int]) -> Prompts:
    return Prompts([prompts.texts[i] for i in rows], prompts.embeddings[rows], prompts.features[rows])


def quality_of(router: Similarity, prompts: Prompts, ladder: list[str]) -> Floats:
    quality = router.score(prompts, ladder).quality
    assert quality is not None
    return quality
