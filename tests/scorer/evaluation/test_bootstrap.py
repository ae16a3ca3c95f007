"""The bootstrap against closed-form standard errors; tests and their power against tables and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from scorer.evaluation import bootstrap
from scorer.evaluation.bootstrap import interval, resample
from scorer.evaluation.measures import drawn, measure
from scorer.evaluation.routing import Sweep, ladder_sweep

Floats = NDArray[np.float64]


def made_up(n: int, seed: int = 0, noise: float = 0.3) -> tuple[Floats, Floats, Floats]:
    """Scores that know something, and correctness of a weak and a strong model."""
    generator = np.random.default_rng(seed)
    difficulty = generator.random(n)
    weak, strong = (generator.random(n) < 1 - power * difficulty for power in (0.7, 0.3))
    return difficulty + generator.normal(0, noise, n), weak.astype(float), strong.astype(float)


def sweep(scores: Floats, weak: Floats, strong: Floats) -> Sweep:
    outcomes = np.stack([strong, weak], axis=1)
    return ladder_sweep(np.stack([scores, scores], axis=1), outcomes, np.zeros_like(outcomes))


def area(scores: Floats, weak: Floats, strong: Floats) -> float:
    return measure(sweep(scores, weak, strong).curve(np.ones(len(scores), np.int64)))["apgr"]


def test_the_bootstrap_agrees_with_the_closed_form_standard_error_of_a_mean() -> None:
    outcome = made_up(2000)[1]
    means = resample(2000, 2000, seed=3) @ outcome / 2000
    assert means.std() == pytest.approx(outcome.std() / 2000**0.5, rel=0.06)


def test_the_bootstrap_agrees_with_the_closed_form_standard_error_of_apgr() -> None:
    """APGR is a ratio of means, so the delta method gives its standard error."""
    scores, weak, strong = made_up(2000)
    draws = drawn(sweep(scores, weak, strong), resample(2000, 400, seed=3))["apgr"]
    gain = strong - weak
    later = 1 - np.argsort(np.argsort(-scores)) / 2000
    apgr = (gain * later).mean() / gain.mean()
    influence = (gain * (later - apgr)) / gain.mean()
    # a resample also moves the ranks of the others: add what it changes of everybody's place
    order = np.argsort(-scores)
    tail = np.empty(2000)
    tail[order] = np.cumsum(gain[order][::-1])[::-1] / 2000 / gain.mean()
    influence = influence - (tail - tail.mean())
    assert draws.std() == pytest.approx(influence.std() / 2000**0.5, rel=0.12)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    truth = area(*made_up(200_000, seed=99))
    covered = 0
    for seed in range(60):
        sample = made_up(600, seed)
        between = interval(area(*sample), drawn(sweep(*sample), resample(600, 150, seed))["apgr"])
        covered += between.low <= truth <= between.high
    assert 51 <= covered <= 60  # 57 expected, sd 1.7


def test_the_same_counts_make_draws_paired() -> None:
    scores, weak, strong = made_up(1000)
    counts = resample(1000, 200)
    nearly = scores + np.random.default_rng(5).normal(0, 0.02, 1000)
    a, b = (drawn(sweep(s, weak, strong), counts)["apgr"] for s in (scores, nearly))
    assert np.std(a - b) < np.std(a) / 4
    again = drawn(sweep(scores, weak, strong), resample(1000, 200))["apgr"]
    np.testing.assert_array_equal(a, again)


def test_an_interval_leaves_out_draws_without_a_value() -> None:
    draws = np.append(np.linspace(0, 1, 101), [np.nan] * 50)
    between = interval(0.5, draws)
    assert (between.low, between.high) == pytest.approx((0.025, 0.975))
    assert np.isnan(interval(0.5, np.full(3, np.nan)).low)


def test_power_has_its_textbook_values() -> None:
    """Cohen's convention: 80 % at an effect of 2.80 standard errors; the size of the test, 5 %, without any."""
    assert bootstrap.power(2.8016, 1.0) == pytest.approx(0.8, abs=1e-4)
    assert bootstrap.power(1.96, 1.0) == pytest.approx(0.5, abs=1e-3)
    assert bootstrap.power(0, 1.0) == pytest.approx(0.05)
    assert bootstrap.power(bootstrap.detectable(0.013), 0.013) == pytest.approx(0.8, abs=1e-4)
    assert bootstrap.p_value(1.96, 1.0) == pytest.approx(0.05, abs=1e-4)
    assert bootstrap.p_value(0.0, 0.0) == 1
    assert bootstrap.p_value(0.1, 0.0) == 0


def test_power_is_how_often_a_simulated_test_rejects() -> None:
    generator = np.random.default_rng(0)
    estimates = generator.normal(0.04, 0.02, 20_000)
    rejected = np.mean([bootstrap.p_value(estimate, 0.02) < 0.05 for estimate in estimates])
    assert rejected == pytest.approx(bootstrap.power(0.04, 0.02), abs=0.012)


def test_a_true_difference_is_found_as_often_as_predicted() -> None:
    """The whole of it, on real resamples: two routers of different skill, fifty fresh benchmarks."""
    many = made_up(400_000, 99, noise=0.15)
    truth = area(*many) - area(many[0] + np.random.default_rng(98).normal(0, 0.5, 400_000), *many[1:])
    found, predicted = 0, []
    for seed in range(50):
        scores, weak, strong = made_up(400, seed, noise=0.15)
        worse = scores + np.random.default_rng(1000 + seed).normal(0, 0.5, 400)
        counts = resample(400, 150, seed)
        a, b = (drawn(sweep(s, weak, strong), counts)["apgr"] for s in (scores, worse))
        difference = area(scores, weak, strong) - area(worse, weak, strong)
        (test,) = bootstrap.compare([("a", "b", difference, a - b)], effect=truth)
        found += test.p < 0.05
        predicted.append(test.power)
    assert found / 50 == pytest.approx(np.mean(predicted), abs=0.2)  # three standard errors


def test_holm_adjusts_as_in_the_textbook() -> None:
    """Holm's example: p of .01, .04, .03, .005 become .03, .06, .06, .02."""
    assert bootstrap.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert bootstrap.holm([0.7, 0.9]) == [1, 1]


def test_a_comparison_reports_what_it_was_given() -> None:
    draws = np.random.default_rng(0).normal(0.1, 0.02, 4000)
    (test,) = bootstrap.compare([("mf", "length", 0.1, draws)], effect=0.05)
    assert (test.a, test.b, test.difference.value, test.effect) == ("mf", "length", 0.1, 0.05)
    assert (test.difference.low, test.difference.high) == pytest.approx((0.061, 0.139), abs=0.003)
    assert test.detectable == pytest.approx(0.056, abs=0.002)
    assert test.power == pytest.approx(0.705, abs=0.02)
    assert test.p == pytest.approx(5.7e-7, rel=0.5)
