"""The test of a version against the one held back: against enumeration, brute force and simulation."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from feedback import holdback

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Rate = Callable[[Floats], Floats]  # of thumbs-up, by when in the holdback, in [0, 1]

RATE, SHARE = 0.05, 0.1


def flat(rate: float) -> Rate:
    return lambda when: np.full_like(when, rate)


def rising(when: Floats) -> Floats:
    return 0.1 + 0.8 * when


def stepping(when: Floats) -> Floats:
    return np.where(when * 20 % 2 < 1, 0.1, 0.9)


def thumbs(
    generator: np.random.Generator, count: int, new: Rate, held: Rate, eager: float = 1.0
) -> tuple[Floats, Flags]:
    """Ratings as they come; `eager`: how much more often units of the version held back rate."""
    odds = eager * SHARE / (1 - SHARE)
    arm = generator.random(count) < odds / (1 + odds)
    when = np.linspace(0, 1, count)
    return (generator.random(count) < np.where(arm, held(when), new(when))).astype(float), arm


def stars(generator: np.random.Generator, count: int, arm: Flags) -> Floats:
    """Of a kind that drifts: from mostly one star to mostly five."""
    when = np.linspace(0, 1, count)
    return np.round(4 * generator.beta(1 + 3 * when, 4 - 3 * when)) / 4


def alarms(runs: int, count: int, new: Rate, held: Rate, eager: float = 1.0, error_rate: float = RATE) -> float:
    """The share of runs in which the wealth reaches the alarm at any time: looked at after every block."""
    generator = np.random.default_rng(7)
    raised = 0
    for _ in range(runs):
        cut = holdback.blocks(*thumbs(generator, count, new, held, eager), SHARE)
        raised += bool((holdback.log_wealth(cut) >= -math.log(error_rate)).any())
    return raised / runs


@given(st.lists(st.floats(0, 1), min_size=10, max_size=10), st.integers(1, 4))
def test_over_all_orders_of_the_arms_a_bet_neither_wins_nor_loses(values: list[float], of_held: int) -> None:
    """What the guarantee rests on: the mean over every way to place the held ones in a block, whatever was rated."""
    given_values = np.array(values)
    differences = []
    for places in combinations(range(10), of_held):
        arm = np.isin(np.arange(10), places)
        differences.append(holdback.blocks(given_values, arm, SHARE).difference[0])
    assert np.mean(differences) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("new", "held", "eager"),
    [
        (flat(0.7), flat(0.7), 1.0),
        (rising, rising, 1.0),
        (stepping, stepping, 1.0),
        (rising, rising, 3.0),
        (flat(0.75), flat(0.7), 1.0),
    ],
    ids=["level", "rising", "in steps", "one arm rates more often", "better"],
)
def test_a_version_that_is_not_worse_is_seldom_rolled_back(new: Rate, held: Rate, eager: float) -> None:
    """At an error rate of 20 %: three standard deviations above it are 26 % of 400 runs."""
    assert alarms(400, 2000, new, held, eager, error_rate=0.2) <= 0.26


def test_stars_that_drift_raise_no_more_alarms() -> None:
    generator = np.random.default_rng(8)
    raised = 0
    for _ in range(300):
        arm = generator.random(2000) < SHARE
        cut = holdback.blocks(stars(generator, 2000, arm), arm, SHARE)
        raised += bool((holdback.log_wealth(cut) >= math.log(5)).any())
    assert raised / 300 <= 0.27


def test_before_and_after_is_fooled_by_a_change_in_time_and_this_is_not() -> None:
    """Everybody becomes harder to please when the version changes; it is no worse than the one before."""
    generator = np.random.default_rng(9)
    before = (generator.random(1000) < 0.8).astype(float)
    after, arm = thumbs(generator, 1000, flat(0.65), flat(0.65))
    error = math.sqrt(before.var() / 1000 + after.var() / 1000)
    assert (before.mean() - after.mean()) / error > 5  # the verdict of before and after: worse, beyond any doubt
    finding = holdback.judge(after, arm, SHARE, RATE)
    assert not finding.alarm
    assert finding.low < 0 < finding.high
    assert alarms(300, 1000, flat(0.65), flat(0.65)) <= 0.09


def test_what_is_worse_by_the_detectable_drop_is_found_about_as_often_as_not() -> None:
    generator = np.random.default_rng(10)
    found = [holdback.judge(*thumbs(generator, 3000, flat(0.8), flat(0.8)), SHARE, RATE).detectable for _ in range(20)]
    drop = float(np.mean([one for one in found if one is not None]))
    assert 0.05 < drop < 0.12
    ends, raised = [], 0
    for _ in range(300):
        cut = holdback.blocks(*thumbs(generator, 3000, flat(0.8 - drop), flat(0.8)), SHARE)
        wealth = holdback.log_wealth(cut)
        ends.append(wealth[-1])
        raised += bool((wealth >= math.log(20)).any())
    assert np.mean(ends) == pytest.approx(math.log(20), abs=0.5)  # which is what the formula expects
    assert 0.45 < raised / 300 < 0.75
    assert alarms(100, 3000, flat(0.8 - 2 * drop), flat(0.8)) > 0.97


def test_the_detectable_drop_is_where_the_expected_wealth_reaches_the_alarm() -> None:
    """Found again by looking at drops one by one, each bet on each block by itself."""
    values, arm = thumbs(np.random.default_rng(11), 2000, flat(0.7), flat(0.7))
    finding = holdback.judge(values, arm, SHARE, RATE)
    variance = np.var([*values, 0.0, 1.0])

    def expected(drop: float) -> float:
        total = 0.0
        for bet in (0.05, 0.1, 0.2, 0.4, 0.8):
            grown = 0.0
            for start in range(0, 2000, 10):
                n = int(arm[start : start + 10].sum())
                if 0 < n < 10:
                    stake = min(bet * n * (10 - n) / 10, 0.9)
                    grown += stake * drop - stake**2 / 2 * (variance * (1 / n + 1 / (10 - n)) + drop**2)
            total += math.exp(grown) / 5
        return total

    drops = np.arange(0, 1, 0.001)
    first = next(drop for drop in drops if expected(drop) >= 20)
    assert finding.detectable == pytest.approx(first, abs=0.0011)


def test_wealth_is_that_of_a_bettor_who_plays_block_after_block() -> None:
    values, arm = thumbs(np.random.default_rng(12), 505, flat(0.5), flat(0.9))
    purses, richest = [0.2] * 5, 1.0
    for start in range(0, 500, 10):  # the last five are no block yet
        block, held = values[start : start + 10], arm[start : start + 10]
        if held.any() and not held.all():
            n = held.sum()
            difference = block[held].mean() - block[~held].mean()
            stakes = [min(bet * n * (10 - n) / 10, 0.9) for bet in (0.05, 0.1, 0.2, 0.4, 0.8)]
            purses = [purse * (1 + stake * difference) for purse, stake in zip(purses, stakes, strict=True)]
        richest = max(richest, sum(purses))
    finding = holdback.judge(values, arm, SHARE, RATE)
    assert finding.wealth == pytest.approx(richest, rel=1e-9)
    assert finding.alarm == (richest >= 20)


def test_the_interval_holds_the_truth_at_every_time_and_excludes_zero_exactly_with_the_alarm() -> None:
    """Each bound at an error rate of 10 %, looked at ten times in each of 150 runs."""
    generator = np.random.default_rng(13)
    missed = 0
    for _ in range(150):
        values, arm = thumbs(generator, 1500, flat(0.6), flat(0.75))
        found = [holdback.judge(values[:n], arm[:n], SHARE, 0.1) for n in range(150, 1501, 150)]
        missed += any(one.low > 0.15 or one.high < 0.15 for one in found)
        assert all(one.alarm == (one.low > 0) for one in found)
    assert missed / 150 <= 0.27  # three standard deviations above 20 %


def test_a_wider_holdback_and_more_ratings_find_smaller_drops() -> None:
    generator = np.random.default_rng(14)

    def detectable(count: int, share: float) -> float:
        arm = generator.random(count) < share
        found = holdback.judge((generator.random(count) < 0.8).astype(float), arm, share, RATE).detectable
        return 1.0 if found is None else found

    assert detectable(4000, 0.05) < detectable(1000, 0.05)
    assert detectable(1000, 0.5) < detectable(1000, 0.05)


@pytest.mark.parametrize("count", [0, 1, 9, 30])
def test_a_few_ratings_say_nothing(count: int) -> None:
    values, arm = np.ones(count), np.arange(count) % 10 == 3
    finding = holdback.judge(values, arm, SHARE, RATE)
    assert (finding.wealth, finding.alarm, finding.detectable) == (1.0, False, None)
    assert (finding.low, finding.high) == (-1.0, 1.0) if count < 10 else finding.low < 0 < finding.high
    assert "nothing to compare yet" in finding.text or "no drop can be told yet" in finding.text


def test_a_finding_is_one_line_with_its_figures() -> None:
    values, arm = thumbs(np.random.default_rng(15), 2000, flat(0.5), flat(0.9))
    finding = holdback.judge(values, arm, SHARE, RATE)
    assert finding.alarm
    assert finding.drop == pytest.approx(values[arm].mean() - values[~arm].mean())
    assert f"rated {finding.new_mean:.3f} by {int((~arm).sum())} sessions" in finding.text
    assert f"by {int(arm.sum())}: drop {finding.drop:+.3f} (" in finding.text
    assert "of 20; a drop of 0." in finding.text
    assert "\n" not in finding.text
