"""Policy: the threshold rule, exploration, and exact probabilities."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer import policy
from scorer.policy import Facts, Policy, Priced, Target, Threshold

LADDER = ("large", "medium", "small")
PRICES = {"large": 0.01, "medium": 0.002, "small": 0.0005}


def facts(medium: float, small: float, large: float = 0.9, candidates: tuple[str, ...] = LADDER) -> Facts:
    """From qualities, with win rates as routers that know quality give them."""
    quality = {"large": large, "medium": medium, "small": small}
    win_rates = {model: 0.5 + (large - one) / 2 for model, one in quality.items()}
    return Facts(candidates, win_rates, quality, PRICES)


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


@pytest.mark.parametrize(
    ("rate", "model", "threshold"),
    [
        (0, "large", 0.5),  # the best, at any price
        (10, "large", 0.54),  # medium: 0.8 - 0.02 < 0.9 - 0.1; 1/2 + 10 * 0.008 / 2
        (20, "medium", 0.58),  # 0.76 > 0.7, small: 0.59; 1/2 + 20 * 0.008 / 2
        (200, "small", 1.0),  # 0.5 > 0.4; bounded
    ],
)
def test_most_quality_less_what_it_costs_is_chosen(rate: float, model: str, threshold: float) -> None:
    choice = Priced(rate).choose(facts(0.8, 0.6))
    assert choice.model == model
    assert choice.threshold == pytest.approx(threshold)


@given(quality=st.tuples(*[st.floats(0, 1)] * 3), rate=st.floats(0, 500))
def test_the_priced_choice_is_that_of_quality_less_dollars(quality: tuple[float, ...], rate: float) -> None:
    """By qualities, and by win rates alone, which say as much."""
    known = facts(quality[1], quality[2], quality[0])
    assert known.quality is not None
    worth = {model: known.quality[model] - rate * PRICES[model] for model in LADDER}
    for given_facts in (known, known._replace(quality=None)):
        assert worth[Priced(rate).choose(given_facts).model] == pytest.approx(max(worth.values()))


@given(quality=st.tuples(*[st.floats(0, 1)] * 2), rate=st.floats(0, 500))
def test_with_two_models_the_price_is_a_threshold_for_each_prompt(quality: tuple[float, float], rate: float) -> None:
    choice = Priced(rate).choose(facts(quality[1], 0, quality[0], candidates=("large", "medium")))
    win_rate = 0.5 + (quality[0] - quality[1]) / 2
    if abs(win_rate - choice.threshold) > 1e-9:
        assert (choice.model == "medium") == (win_rate < choice.threshold)


@pytest.mark.parametrize(
    ("target", "model", "why"),
    [
        (0.5, "small", "quality 0.600 reaches 0.500"),
        (0.7, "medium", "quality 0.800 reaches 0.700"),
        (0.85, "large", "quality 0.900 reaches 0.850"),
        (0.95, "large", "no candidate's quality reaches 0.950: the best"),
    ],
)
def test_the_cheapest_model_that_reaches_the_target_is_chosen(target: float, model: str, why: str) -> None:
    choice = Target(target).choose(facts(0.8, 0.6))
    assert (choice.model, choice.why) == (model, why)
    assert choice.threshold == pytest.approx(0.5 + (0.9 - target) / 2)


def test_where_none_reaches_the_target_the_best_is_chosen_wherever_it_stands() -> None:
    assert Target(0.95).choose(facts(0.92, 0.6)).model == "medium"


@given(
    quality=st.tuples(*[st.floats(0, 1)] * 3),
    rule=st.sampled_from([Threshold, Priced, Target]),
    levels=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    candidates=st.sets(st.sampled_from(LADDER), min_size=1),
)
def test_raising_the_level_moves_the_price_one_way(
    quality: tuple[float, ...], rule: type[Policy], levels: tuple[float, float], candidates: set[str]
) -> None:
    """A higher threshold or price of quality never chooses a dearer model, a higher target never a cheaper one."""
    given_facts = facts(quality[1], quality[2], quality[0], tuple(m for m in LADDER if m in candidates))
    scale = 100 if rule is Priced else 1
    low, high = (PRICES[rule(scale * level).choose(given_facts).model] for level in sorted(levels))  # type: ignore[call-arg]
    assert low <= high if rule is Target else high <= low
