"""Policy: the threshold rule, exploration, and exact probabilities."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer import policy

LADDER = ("large", "medium", "small")


@pytest.mark.parametrize(
    ("medium", "small", "threshold", "chosen"),
    [
        (0.2, 0.2, 0.3, "small"),
        (0.2, 0.4, 0.3, "medium"),
        (0.4, 0.4, 0.3, "large"),
        (0.4, 0.2, 0.3, "small"),  # a dearer model that loses does not bar a cheaper one that does not
        (0.2, 0.3, 0.3, "medium"),  # the threshold itself is not below it
        (0.9, 0.9, 1.0, "small"),
        (0.0, 0.0, 0.0, "large"),
    ],
)
def test_cheapest_model_whose_win_rate_is_below_the_threshold_is_chosen(
    medium: float, small: float, threshold: float, chosen: str
) -> None:
    assert policy.greedy({"large": 0.5, "medium": medium, "small": small}, LADDER, threshold) == chosen


@given(win_rate=st.floats(0, 1), threshold=st.floats(0, 1))
def test_two_models_follow_the_rule_of_routellm(win_rate: float, threshold: float) -> None:
    """Upstream: strong iff win rate >= threshold."""
    chosen = policy.greedy({"strong": 0.5, "weak": win_rate}, ("strong", "weak"), threshold)
    assert chosen == ("strong" if win_rate >= threshold else "weak")


def test_strongest_candidate_stands_in_when_the_strongest_model_is_not_allowed() -> None:
    assert policy.greedy({"large": 0.5, "medium": 0.9, "small": 0.9}, ("medium", "small"), 0.1) == "medium"


def test_exploration_is_spread_evenly_over_all_candidates() -> None:
    probabilities = policy.probabilities("small", LADDER, 0.06)
    assert list(probabilities) == list(LADDER)
    assert probabilities == pytest.approx({"large": 0.02, "medium": 0.02, "small": 0.96})


def test_no_exploration_is_certain() -> None:
    assert policy.probabilities("medium", LADDER, 0.0) == {"large": 0.0, "medium": 1.0, "small": 0.0}


@given(models=st.integers(1, 12), exploration=st.floats(0, 1), pick=st.integers(0, 11))
def test_probabilities_sum_to_one_and_each_is_at_least_its_exploration_share(
    models: int, exploration: float, pick: int
) -> None:
    candidates = [f"m{i}" for i in range(models)]
    probabilities = policy.probabilities(candidates[pick % models], candidates, exploration)
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-12)
    assert min(probabilities.values()) >= exploration / models
