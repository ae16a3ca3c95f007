"""Each test against its textbook values and a second way to the same number; and the levels that they keep."""

from __future__ import annotations

import numpy as np
import pytest

from feedback import significance
from feedback.significance import Floats


def test_kolmogorov_tail_is_the_textbooks() -> None:
    """Smirnov's table: 0.828 for 1/2, 1.358 for 5 %, 1.628 for 1 %, 1.949 for 0.1 %."""
    found = [significance.kolmogorov_tail(x) for x in (0.1, 0.82757, 1.3581, 1.6276, 1.9495)]
    assert found == pytest.approx([1, 0.5, 0.05, 0.01, 0.001], rel=1e-3)


@pytest.mark.parametrize("shift", [0.2, 0.4])
def test_kolmogorov_agrees_with_permutations(shift: float) -> None:
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=120), rng.normal(size=150) + shift
    p, distance = significance.kolmogorov(first, second, 120, 150)
    pooled, further = np.concatenate([first, second]), 0
    for _ in range(2000):
        rng.shuffle(pooled)
        further += significance.kolmogorov(pooled[:120], pooled[120:], 120, 150)[1] >= distance - 1e-12
    assert p == pytest.approx((further + 1) / 2001, rel=0.25, abs=0.005)


def test_student_tail_is_the_textbooks() -> None:
    found = [significance.student_tail(*at) for at in ((12.706, 1), (2.571, 5), (2.763, 28), (6.869, 5), (0.0, 7))]
    assert found == pytest.approx([0.05, 0.05, 0.01, 0.001, 1], rel=1e-3)


def test_binomial_of_one_trial_is_closed_form() -> None:
    """P(one success) = (c + 1/2) / (n + 1); two-sided p doubles the smaller tail."""
    assert significance.binomial(1, 1, 9, 99) == pytest.approx(2 * 9.5 / 100)
    assert significance.binomial(0, 1, 9, 99) == 1.0


def test_binomial_agrees_with_draws() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.binomial(200, rng.beta(60.5, 140.5, size=400_000))
    assert significance.binomial(75, 200, 60, 200) == pytest.approx(2 * (drawn >= 75).mean(), rel=0.03)
    assert significance.binomial(45, 200, 60, 200) == pytest.approx(2 * (drawn <= 45).mean(), rel=0.03)


def test_requests_that_are_all_alike_in_their_sessions_count_once_each() -> None:
    """With G clusters of equal size, equal within, the variance of a share is p (1 - p) / (G - 1)."""
    flags, cluster = np.repeat(np.arange(40) % 4 == 0, 10), np.repeat(np.arange(40), 10)
    assert significance.independent(flags, cluster) == pytest.approx(39)
    assert significance.independent(np.ones(400, bool), cluster) == pytest.approx(40)
    assert significance.independent(flags, np.arange(400)) == pytest.approx(399)


def test_independent_says_how_widely_shares_of_whole_clusters_spread() -> None:
    """A second way: the variance of the share over 4,000 fresh draws of the same traffic."""
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 8, size=(4000, 60))
    alike = rng.random((4000, 60)) < 0.5  # sessions that are hard throughout, or easy
    counts = rng.binomial(sizes, np.where(alike, 0.8, 0.2))
    shares = counts.sum(axis=1) / sizes.sum(axis=1)
    found = []
    for row in range(400):
        flags = np.concatenate([np.arange(size) < count for size, count in zip(sizes[row], counts[row], strict=True)])
        found.append(significance.independent(flags, np.repeat(np.arange(60), sizes[row])))
    assert np.mean(found) == pytest.approx(0.25 / shares.var(), rel=0.1)


def test_energy_is_nothing_between_equals_and_all_between_two_places() -> None:
    here, there = np.zeros((30, 3)), np.ones((30, 3))
    assert list(significance.energy(here, there, 0.01, 1)) == pytest.approx([1 / 401, 1])
    assert significance.energy(here, here, 0.01, 1) == (1.0, 0.0)


def test_energy_is_twice_the_distance_between_less_those_within() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(40, 5)), rng.normal(size=(50, 5)) + 0.5

    def distance(a: Floats, b: Floats) -> float:
        return float(np.mean([np.linalg.norm(one - other) for one in a for other in b]))

    between = 2 * distance(x, y)
    expected = (between - distance(x, x) - distance(y, y)) / between
    assert significance.energy(x, y, 0.01, 1)[1] == pytest.approx(expected, rel=1e-4)


def test_energy_keeps_its_level_and_finds_a_shift() -> None:
    """400 pairs of like samples: within three standard errors; with a shift of half a deviation in 1 of 20 axes."""
    rng = np.random.default_rng(3)
    pairs = rng.normal(size=(400, 2, 60, 20))
    p = np.array([significance.energy(one, other, 0.02, seed)[0] for seed, (one, other) in enumerate(pairs)])
    for level in (0.05, 0.2):
        assert (p < level).mean() == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / 400))
    shift = np.eye(20)[0]
    found = [
        significance.energy(rng.normal(size=(60, 20)), rng.normal(size=(60, 20)) + shift, 0.02, s) for s in range(50)
    ]
    assert np.mean([p < 0.02 for p, _ in found]) > 0.8


@pytest.mark.parametrize("between", [0.0, 0.3])
@pytest.mark.parametrize("decisions", [150, 3000])
def test_rate_keeps_its_level_whatever_days_differ_by(between: float, decisions: int) -> None:
    """3,000 months; `between` is the standard deviation of a day's log odds, at about 8 % rated."""
    rng = np.random.default_rng(6)
    odds = np.exp(rng.normal(np.log(0.087), between, size=(3000, 15)))
    made = rng.poisson(decisions, size=odds.shape)
    said = rng.binomial(made, odds / (1 + odds))
    p = np.array([significance.rate(*row)[0] for row in zip(said, made, strict=True)])
    assert (p < 0.05).mean() < 0.065
    assert (p < 0.003).mean() < 0.007


def test_rate_says_which_day_was_unlike_the_others() -> None:
    made = np.full(29, 1000)
    said = np.array([*[80, 95, 70, 88, 76, 91, 84] * 4, 20])
    p, value, usual = significance.rate(said, made)
    assert p < 1e-6
    assert (value, usual) == pytest.approx((0.02, 0.0834), abs=1e-4)
