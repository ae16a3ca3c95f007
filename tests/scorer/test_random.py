"""The random router: uniform, reproducible, and spread over the ladder by the rule it states."""

from __future__ import annotations

import numpy as np

from scorer.routers.base import Prompts, Router
from scorer.routers.random import Random


def prompts(texts: list[str]) -> Prompts:
    return Prompts(texts, np.zeros((len(texts), 2), np.float32), np.zeros((len(texts), 1), np.float32))


TEXTS = [f"prompt {i}" for i in range(4000)]


def test_scores_are_uniform() -> None:
    win = np.sort(Random().score(prompts(TEXTS), ["big", "small"]).win_rates[:, 1])
    assert 0 <= win[0] <= win[-1] < 1
    distance = np.abs(win - (np.arange(4000) + 0.5) / 4000).max()
    assert distance < 1.63 / 4000**0.5  # Kolmogorov-Smirnov, 1 %


def test_a_text_scores_the_same_in_any_batch_and_instance() -> None:
    whole = Random().score(prompts(TEXTS[:50]), ["big", "small"]).win_rates
    for i in (0, 7, 49):
        np.testing.assert_array_equal(Random().score(prompts([TEXTS[i]]), ["big", "small"]).win_rates[0], whole[i])


def test_the_score_of_a_known_text_does_not_change_between_releases() -> None:
    assert Random().score(prompts(["hello"]), ["big", "small"]).win_rates[0, 1] == 0.18773027468470682


def test_a_longer_ladder_is_climbed_in_equal_steps() -> None:
    router: Router = Random()
    win = router.score(prompts(["hello"]), ["a", "b", "c", "d"]).win_rates[0]
    np.testing.assert_allclose(win, win[3] * np.array([0, 1 / 3, 2 / 3, 1]))
    assert router.knows("anything")


def test_a_lone_model_and_an_unpaired_surrogate_are_scored() -> None:
    assert Random().score(prompts(["\ud800"]), ["only"]).win_rates.tolist() == [[0.0]]
