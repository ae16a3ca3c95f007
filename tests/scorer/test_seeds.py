"""The spread over seeds is that of fits which differ in nothing but the seed."""

from __future__ import annotations

import numpy as np
import pytest

from scorer.battles import BAR, Battles
from scorer.routers.base import Prompts
from scorer.seeds import spread
from scorer.tables import DataError


def test_seeds_differ_a_little_and_agree_on_what_there_is_to_learn() -> None:
    """The strong model is right on all prompts, the weak one on those of one half: APGR 3/4 is the most there is."""
    n = 300
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(n, 4)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    prompts = Prompts(tuple(str(i) for i in range(n)), embeddings, np.zeros((n, 1), np.float32))
    outcome = np.concatenate([np.ones(n), embeddings[:, 0] > 0])
    battles = Battles.of(list(prompts.texts) * 2, ["strong"] * n + ["weak"] * n, [BAR] * 2 * n, outcome)
    found = list(spread(battles, prompts, ("strong", "weak"), 3, "e" * 64, ("f",)))
    assert [luck.seed for luck in found] == [0, 1, 2]
    assert len({luck.loss for luck in found}) == 3
    assert np.std([luck.loss for luck in found]) < 0.05
    assert all(0.7 < luck.apgr <= 0.8 for luck in found)


def test_a_pair_without_battles_is_refused() -> None:
    battles = Battles.of(["a prompt"], ["strong"], [BAR], [1.0])
    prompts = Prompts(battles.prompts, np.ones((1, 2), np.float32), np.ones((1, 1), np.float32))
    with pytest.raises(DataError, match="no battle of 'weak'; players: bar, strong"):
        next(spread(battles, prompts, ("strong", "weak"), 1, "e" * 64, ("f",)))
