"""Target policies: the daemon's own rule, and what it must beat."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback import costs, policies

MODELS = ("strong", "medium", "cheap")
ALL = np.ones((1, 3), bool)


@given(
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3).filter(any),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_routed_explores_evenly_around_the_threshold_rule(
    rates: list[float], allowed: list[bool], threshold: float, exploration: float
) -> None:
    """A second way: the cheapest of the candidates below the threshold, by arrays."""
    candidates = np.array([allowed])
    (found,) = policies.routed(np.array([rates]), candidates, MODELS, threshold, exploration)
    places = np.flatnonzero(candidates[0])
    below = [place for place in places[1:] if rates[place] < threshold]
    choice = max(below, default=places[0])
    expected = np.where(candidates[0], exploration / len(places), 0)
    expected[choice] += 1 - exploration
    assert found == pytest.approx(expected, abs=1e-12)


def test_always_the_strongest_or_cheapest_that_may_be_used() -> None:
    candidates = np.array([[True, True, True], [False, True, True], [True, True, False]])
    assert policies.strongest(candidates).argmax(axis=1).tolist() == [0, 1, 0]
    assert policies.cheapest(candidates).argmax(axis=1).tolist() == [2, 2, 1]


def made_up() -> tuple[Any, Any, Any]:
    """A target, what each request may use, and what it would cost: long prompts go to the strongest."""
    generator = np.random.default_rng(0)
    candidates = np.ones((200, 3), bool)
    candidates[150:, 0] = False
    price = generator.exponential(size=200)[:, None] * np.array([10.0, 3.0, 1.0])
    rates = np.stack([np.full(200, 0.5), price[:, 1] / 30, price[:, 2] / 5], axis=1)
    return policies.routed(np.clip(rates, 0, 1), candidates, MODELS, 0.2, 0.1), candidates, price


def test_shuffle_costs_the_same_and_does_not_look() -> None:
    target, candidates, price = made_up()
    shuffled = policies.shuffled(target, candidates, price)
    assert (shuffled * price).sum() == pytest.approx((target * price).sum(), rel=1e-12)
    assert shuffled.sum(axis=1) == pytest.approx(np.ones(200))
    assert (shuffled[~candidates] == 0).all()
    assert np.ptp(shuffled[:150], axis=0).max() == pytest.approx(0)


def test_shuffle_has_the_same_calls_where_prompts_cost_the_same() -> None:
    target, candidates, _ = made_up()
    shuffled = policies.shuffled(target, candidates, np.tile([10.0, 3.0, 1.0], (200, 1)))
    assert shuffled.mean(axis=0) == pytest.approx(target.mean(axis=0), abs=1e-12)


def test_cost_is_a_price_of_tokens_and_an_answer() -> None:
    generator = np.random.default_rng(0)
    chosen, tokens = generator.integers(0, 2, 100), generator.integers(1, 1000, 100).astype(float)
    cost = np.where(chosen == 0, 5e-6 * tokens + 0.01, 1e-7 * tokens + 0.0005)
    tokens[0] = np.nan
    expected = costs.expected(chosen, cost, tokens, 3)
    assert expected[1:, 0] == pytest.approx(5e-6 * tokens[1:] + 0.01, rel=1e-6)
    assert expected[1:, 1] == pytest.approx(1e-7 * tokens[1:] + 0.0005, rel=1e-6)
    assert expected[0, :2] == pytest.approx([cost[chosen == 0].mean(), cost[chosen == 1].mean()])
    assert expected[:, 2] == pytest.approx(np.full(100, cost.mean()))  # it never served


def test_few_answers_cost_their_mean() -> None:
    cost = np.array([1.0, 3.0, np.nan])
    assert costs.expected(np.zeros(3, int), cost, np.array([10.0, 20.0, 30.0]), 1)[:, 0].tolist() == [2, 2, 2]
    assert costs.expected(np.zeros(1, int), np.array([np.nan]), np.array([1.0]), 1).tolist() == [[0]]
