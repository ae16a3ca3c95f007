"""Baselines against their definitions and small cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from scorer.evaluation import baselines
from scorer.routers.base import spread


def test_length_counts_characters() -> None:
    assert baselines.prompt_length(["a", "abc", ""]).tolist() == [1, 3, 0]


def test_scores_of_any_scale_become_quantiles_spread_over_the_ladder() -> None:
    win_rates = baselines.on_ladder(np.array([1000.0, -3.0, 7.0, 7.0]), 3)
    np.testing.assert_allclose(win_rates[:, 2], [7 / 8, 1 / 8, 1 / 2, 1 / 2])  # ties at their middle
    np.testing.assert_allclose(win_rates, spread(win_rates[:, 2], 3))


def test_neighbours_average_the_nearest_results() -> None:
    known = np.eye(3, dtype=np.float32)
    near = np.array([[0.9, 0.4, 0.0]], np.float32)
    outcomes = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    two = baselines.nearest_neighbours(near, known, outcomes, k=2)
    np.testing.assert_allclose(two, [[0.5, 0.5 + (1 - 0.5) / 2]])
    all_three = baselines.nearest_neighbours(near, known, outcomes, k=9)
    np.testing.assert_allclose(all_three, [[0.5, 0.5]])


def test_cross_fitting_keeps_a_prompt_and_its_twins_from_itself() -> None:
    """Every text has its own direction and label: only a leak could predict it; what is learned is the rest's mean."""
    n = 200
    texts = [f"question {i % 100}" for i in range(n)]  # each twice
    embeddings = np.eye(100, dtype=np.float32)[np.arange(n) % 100]
    label = (np.random.default_rng(0).random(100) < 0.5).astype(float)[np.arange(n) % 100]
    outcomes = np.stack([label, np.zeros(n)], axis=1)
    win_rates = baselines.cross_fitted_neighbours(texts, embeddings, outcomes, k=1)
    leaked = baselines.nearest_neighbours(embeddings, embeddings, outcomes, k=1)
    np.testing.assert_allclose(leaked[:, 1], 0.5 + label / 2)
    assert np.corrcoef(win_rates[:, 1], label)[0, 1] < 0.2


def test_cross_fitting_finds_what_neighbours_share() -> None:
    generator = np.random.default_rng(1)
    topic = generator.integers(0, 2, 300)
    embeddings = np.eye(2, dtype=np.float32)[topic]
    outcomes = np.stack([np.ones(300), (topic == 0).astype(float)], axis=1)
    texts = [f"question {i}" for i in range(300)]
    win_rates = baselines.cross_fitted_neighbours(texts, embeddings, outcomes, k=20)
    np.testing.assert_allclose(win_rates[:, 1], np.where(topic == 1, 1.0, 0.5))


def test_one_prompt_has_no_neighbours_and_no_opinion() -> None:
    one = baselines.cross_fitted_neighbours(["a"], np.eye(1, dtype=np.float32), np.array([[1.0, 0.0]]))
    assert one.tolist() == [[0.5, 0.5]]


def test_the_best_mixture_is_the_upper_hull() -> None:
    """Of five models: the second is dominated, the third lies below the line from the first to the fourth."""
    costs = np.array([1.0, 2.0, 3.0, 4.0, 9.0])
    results = np.array([0.2, 0.1, 0.3, 0.8, 0.9])
    assert baselines.best_mixture(costs, results).tolist() == [0, 3, 4]


def test_no_mixture_is_above_the_hull() -> None:
    generator = np.random.default_rng(2)
    costs, results = generator.random(7), generator.random(7)
    hull = baselines.best_mixture(costs, results)
    for weights in generator.dirichlet(np.full(7, 0.3), 3000):
        assert weights @ results <= np.interp(weights @ costs, costs[hull], results[hull]) + 1e-12


@pytest.mark.parametrize("models", [2, 3, 6])
def test_randoms_mix_is_a_distribution_from_all_cheapest_to_all_strongest(models: int) -> None:
    mix = baselines.random(np.zeros((1, models)), np.zeros((1, models))).mix
    np.testing.assert_allclose(mix.sum(axis=1), 1)
    assert (mix >= 0).all()
    assert mix[0, -1] == mix[-1, 0] == 1
