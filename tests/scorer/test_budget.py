"""Budgets: the plan against closed forms, and whole days of bursty traffic that it must keep to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer import budget
from scorer.budget import DAY_SECONDS, SLOT_SECONDS, Sample, Slot, Steering
from scorer.models import Price
from scorer.sections import Budget
from tests.scorer.days import Traffic, simulate

MIDNIGHT = 20_000 * DAY_SECONDS
NOON = MIDNIGHT + DAY_SECONDS / 2


def two(n: int = 1000) -> Sample:
    """Win rates 0 to 1, evenly; a strong call costs $10, a cheap one $1."""
    rates = (np.arange(n) + 0.5) / n
    return Sample(np.stack([np.full(n, 0.5), rates], axis=1), np.tile([10.0, 1.0], (n, 1)))


def slot(start: float, calls: int, dollars: float = 0.0, strong: int = 0, expected: float | None = None) -> Slot:
    return Slot(int(start), calls, strong, dollars, dollars if expected is None else expected)


@pytest.mark.parametrize(("dollars", "threshold"), [(10, 0), (5.5, 0.5), (1.9, 0.9), (1, 1), (0.5, 1), (-3, 1)])
def test_the_threshold_spends_what_a_call_may_cost(dollars: float, threshold: float) -> None:
    """A share s of strong calls costs 1 + 9 s; the threshold of these win rates is 1 - s."""
    assert budget.threshold_for(dollars, two()) == pytest.approx(threshold, abs=0.006)


def test_what_exploring_costs_is_counted() -> None:
    """0.2 * 5.5 + 0.8 * (1 + 9 s) = 5.5 where s = 1/2; and 4.6 where s = 0.375."""
    assert budget.threshold_for(5.5, two(), exploration=0.2) == pytest.approx(0.5, abs=0.006)
    assert budget.threshold_for(4.6, two(), exploration=0.2) == pytest.approx(0.625, abs=0.006)


@given(
    rates=st.lists(st.tuples(*[st.floats(0, 1)] * 2), min_size=1, max_size=30),
    dollars=st.floats(0, 12),
)
def test_the_sample_never_costs_more_than_asked_where_it_can_cost_less(
    rates: list[tuple[float, float]], dollars: float
) -> None:
    win_rates = np.array([(0.5, *row) for row in rates])
    costs = np.tile([10.0, 3.0, 1.0], (len(rates), 1))
    threshold = budget.threshold_for(dollars, Sample(win_rates, costs))
    chosen = [10.0 if min(row) >= threshold else 1.0 if row[1] < threshold else 3.0 for row in rates]
    cheapest = [10.0 if min(row) >= 1 else 1.0 if row[1] < 1 else 3.0 for row in rates]
    assert sum(chosen) <= max(dollars * len(rates), sum(cheapest)) + 1e-9


def test_without_history_calls_come_as_the_day_goes() -> None:
    assert budget.remaining([slot(MIDNIGHT, 300)], MIDNIGHT + DAY_SECONDS / 4) == pytest.approx(900)


def test_without_history_no_fewer_than_lately_are_expected() -> None:
    """100 calls in the last hour: 1,800 in the 18 that are left, though 300 since midnight would say 900."""
    slots = [slot(MIDNIGHT, 200), slot(MIDNIGHT + 5.5 * 3600, 100)]
    assert budget.remaining(slots, MIDNIGHT + DAY_SECONDS / 4) == pytest.approx(1800)


def test_with_history_calls_come_when_they_used_to() -> None:
    """Yesterday 800 calls, a quarter of them before noon; evenly it were half, so 3/8. Of 300 before noon: 500 more."""
    yesterday = MIDNIGHT - DAY_SECONDS
    slots = [slot(yesterday + 8 * 3600, 200), slot(yesterday + 16 * 3600, 600)]
    assert budget.remaining([*slots, slot(MIDNIGHT, 300)], NOON) == pytest.approx(500)
    quiet = budget.remaining([*slots, slot(MIDNIGHT, 100)], NOON)
    assert quiet == pytest.approx((100 + 0.1 * 800) / (0.375 + 0.1) * 0.625)


def test_a_slot_that_goes_on_counts_in_part() -> None:
    slots = [slot(MIDNIGHT - DAY_SECONDS / 2, 100)]  # yesterday at noon
    by_now = (0.25 + 0.5 + SLOT_SECONDS / 4 / DAY_SECONDS) / 2
    expected = 0.1 * 100 / (by_now + 0.1) * (1 - by_now)
    assert budget.remaining(slots, NOON + SLOT_SECONDS / 4) == pytest.approx(expected)


def test_the_plan_spends_what_is_left_on_the_calls_to_come() -> None:
    """At noon, 1,000 calls and $2,000 later: 1,000 more are due, so $5,500 more allow $5.5 a call, $3,000 allow $3."""
    slots = [slot(MIDNIGHT, 1000, 2000.0)]
    for dollars, threshold in ((7500.0, 0.5), (5000.0, 1 - 2 / 9), (2000.0, 1.0)):
        planned = budget.plan(Budget(daily_dollars=dollars), slots, two(), NOON, 0.0)
        assert planned == pytest.approx(threshold, abs=0.006)


def test_answers_that_cost_twice_what_was_expected_are_planned_for() -> None:
    slots = [slot(MIDNIGHT, 1000, 2000.0, expected=1000.0)]
    planned = budget.plan(Budget(daily_dollars=13_000.0), slots, two(), NOON, 0.0)
    assert planned == pytest.approx(0.5, abs=0.006)  # $11 a call are $5.5 as expected


def test_a_share_makes_good_what_it_missed() -> None:
    """30 % of 2,000 calls are 600; 100 of the first 1,000 were strong, so half of the next 1,000."""
    slots = [slot(MIDNIGHT, 1000, strong=100)]
    planned = budget.plan(Budget(strong_share=0.3), slots, two(), NOON, 0.0)
    assert planned == pytest.approx(0.5, abs=0.006)


def test_there_is_no_plan_by_a_handful_of_decisions() -> None:
    assert budget.plan(Budget(daily_dollars=1.0), [], two(99), NOON, 0.0) is None


def test_a_plan_is_for_the_version_that_it_was_made_for() -> None:
    steering = Steering()
    assert steering.threshold("1") is None
    steering.steer("1", 0.3)
    steering.steer("1", None)
    assert steering.threshold("1") == 0.3
    assert steering.threshold("2") is None


def traffic(**changes: object) -> Traffic:
    """Half of the prompts are hard; some 150 tokens each."""
    generator = np.random.default_rng(1)
    rates = generator.beta(4, 4, size=2000)
    win_rates = np.stack([np.full(len(rates), 0.5), rates], axis=1)
    made = Traffic(win_rates, np.exp(5 + generator.standard_normal(len(rates))), calls=5000)
    return replace(made, **changes)  # type: ignore[arg-type]


PRICES = (Price(2.5, 10), Price(0.15, 0.6))  # gpt-4o and gpt-4o-mini


@pytest.mark.parametrize("part", [0.25, 0.6])
def test_days_of_bursts_keep_to_the_budget_and_use_it(part: float) -> None:
    """A demand of $35 a day at least. The first day knows nothing of the hours; the second knows the first one's."""
    dollars = part * 35
    first, second = simulate(Budget(daily_dollars=dollars), traffic(), PRICES, days=2, step=120)
    assert min(first.demand, second.demand) > 1.2 * dollars
    assert 0.8 <= first.spent / dollars <= 1.02
    assert 0.9 <= second.spent / dollars <= 1.02


def test_a_budget_above_the_demand_changes_nothing() -> None:
    (day,) = simulate(Budget(daily_dollars=1e6), traffic(), PRICES, days=1, step=600, exploration=0.0)
    assert day.strong / day.calls > 0.97  # all but those before there was a plan


def test_a_share_is_met_over_a_day_of_bursts() -> None:
    (day,) = simulate(Budget(strong_share=0.3), traffic(), PRICES, days=1, step=120)
    assert day.strong / day.calls == pytest.approx(0.3, abs=0.01)
