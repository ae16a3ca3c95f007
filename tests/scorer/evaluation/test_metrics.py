"""Metrics against published numbers, closed forms and a second way to each number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from scorer.evaluation import baselines
from scorer.evaluation.metrics import (
    Curve,
    fine_curve,
    harness_curve,
    interval,
    resample,
    resampled_curves,
)

# RouteLLM's causal router on GSM8K, as printed by its own harness (anyscale/llm-router, README notebook).
STRONG_CALLS = [0, 131, 262, 392, 523, 654, 784, 916, 1045, 1176, 1307]
ACCURACY = [63.734, 67.559, 70.926, 73.604, 76.435, 79.495, 80.872, 82.938, 84.009, 84.851, 85.769]
GOLDEN = Curve(np.array(STRONG_CALLS) / 1307, np.array(ACCURACY))


def made_up(n: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Scores that know something, and correctness of a weak and a strong model."""
    generator = np.random.default_rng(seed)
    difficulty = generator.random(n)
    weak, strong = (generator.random(n) < 1 - power * difficulty for power in (0.7, 0.3))
    return difficulty + generator.normal(0, 0.3, n), weak.astype(float), strong.astype(float)


def test_the_golden_run_gives_the_published_apgr() -> None:
    assert GOLDEN.apgr == pytest.approx(0.626567, abs=5e-6)  # the points above are rounded to three decimals
    assert np.trapezoid(GOLDEN.result, GOLDEN.share) == pytest.approx(77.540277, abs=1e-4)


@pytest.mark.parametrize(("pgr", "published"), [(0.2, 11.75), (0.5, 34.06), (0.8, 62.38)])
def test_the_golden_run_gives_the_published_cpt(pgr: float, published: float) -> None:
    assert 100 * GOLDEN.cpt_harness(pgr) == pytest.approx(published, abs=0.015)
    assert GOLDEN.cpt(pgr) == pytest.approx(GOLDEN.cpt_harness(pgr), abs=1e-12)  # its accuracy rises all the way


def test_the_harness_routes_at_the_deciles() -> None:
    scores = np.arange(100.0)
    weak, strong = np.zeros(100), (scores >= 90).astype(float)
    curve = harness_curve(scores, weak, strong)
    np.testing.assert_allclose(curve.share, np.linspace(0, 1, 11), atol=1e-12)
    np.testing.assert_allclose(curve.result, [0, *[0.1] * 10], atol=1e-12)
    assert curve.apgr == pytest.approx(0.95)
    assert curve.cpt_harness(0.5) == pytest.approx(0.05)


def test_a_perfect_router_has_the_area_of_its_triangle() -> None:
    """A quarter of the prompts gain, all taken first: PGR rises to 1 at 1/4 and stays: area 1 - 1/8."""
    gain = np.repeat([1.0, 0.0], [25, 75])
    curve = fine_curve(gain + np.linspace(0, 0.1, 100), np.zeros(100), gain)
    assert curve.apgr == pytest.approx(1 - 1 / 8)
    assert [curve.cpt(0.5), curve.cpt(1.0)] == pytest.approx([0.125, 0.25])


def test_constant_scores_are_random_routing() -> None:
    _, weak, strong = made_up(500)
    curve, line = fine_curve(np.zeros(500), weak, strong), baselines.random_curve(weak, strong)
    assert curve.apgr == pytest.approx(0.5)
    assert line.apgr == pytest.approx(0.5)
    assert [line.cpt(x) for x in (0.2, 0.5, 0.8)] == pytest.approx([0.2, 0.5, 0.8])


def test_random_routing_averages_to_its_closed_form() -> None:
    _, weak, strong = made_up(400)
    generator = np.random.default_rng(1)
    runs = [harness_curve(generator.random(400), weak, strong).apgr for _ in range(600)]
    assert np.mean(runs) == pytest.approx(0.5, abs=4 * np.std(runs) / 600**0.5)


def test_ties_are_worth_the_mean_of_their_orders() -> None:
    scores, weak, strong = made_up(300)
    tied = np.round(scores, 1)
    generator = np.random.default_rng(2)
    broken = [fine_curve(tied + 1e-6 * generator.random(300), weak, strong).apgr for _ in range(400)]
    assert fine_curve(tied, weak, strong).apgr == pytest.approx(np.mean(broken), abs=4 * np.std(broken) / 400**0.5)


def test_both_curves_agree_on_many_prompts() -> None:
    scores, weak, strong = made_up(20_000)
    harness, fine = harness_curve(scores, weak, strong), fine_curve(scores, weak, strong)
    assert harness.apgr == pytest.approx(fine.apgr, abs=0.01)
    assert harness.cpt_harness(0.5) == pytest.approx(fine.cpt(0.5), abs=0.02)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_apgr_is_the_mean_gain_over_thresholds_and_their_ties(rows: list[tuple[int, bool, bool]]) -> None:
    """Second way: a prompt is served strongly at every share above its rank, so it counts 1 - (rank share)."""
    scores, weak, strong = (np.array(column, float) for column in zip(*rows, strict=True))
    if strong.mean() == weak.mean():
        return
    rank = np.array([(scores > s).sum() + (scores == s).sum() / 2 for s in scores]) / len(scores)
    expected = ((strong - weak) * (1 - rank)).mean() / (strong - weak).mean()
    assert fine_curve(scores, weak, strong).apgr == pytest.approx(expected)


def test_cpt_reads_the_first_crossing_where_the_curve_is_not_monotone() -> None:
    curve = Curve(np.array([0, 0.25, 0.5, 1]), np.array([0, 0.6, 0.4, 1.0]))
    assert curve.cpt(0.5) == pytest.approx(0.25 * 5 / 6)


def test_equal_models_have_no_pgr() -> None:
    assert np.isnan(fine_curve(np.arange(3.0), np.ones(3), np.ones(3)).apgr)


def test_the_bootstrap_agrees_with_the_closed_form_standard_error() -> None:
    """APGR is a ratio of means, so the delta method gives its standard error."""
    scores, weak, strong = made_up(2000)
    curves = resampled_curves(scores, weak, strong, resample(2000, 400, seed=3))
    gain = strong - weak
    later = 1 - np.argsort(np.argsort(-scores)) / 2000
    apgr = (gain * later).mean() / gain.mean()
    influence = (gain * (later - apgr)) / gain.mean()
    # a resample also moves the ranks of the others: add what it changes of everybody's place
    order = np.argsort(-scores)
    tail = np.empty(2000)
    tail[order] = np.cumsum(gain[order][::-1])[::-1] / 2000 / gain.mean()
    influence = influence - (tail - tail.mean())
    assert np.std([c.apgr for c in curves]) == pytest.approx(influence.std() / 2000**0.5, rel=0.12)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    truth = fine_curve(*made_up(200_000, seed=99)).apgr
    covered = 0
    for seed in range(60):
        sample = made_up(600, seed)
        draws = np.array([curve.apgr for curve in resampled_curves(*sample, resample(600, 150, seed))])
        between = interval(fine_curve(*sample).apgr, draws)
        covered += between.low <= truth <= between.high
    assert 51 <= covered <= 60  # 57 expected, sd 1.7


def test_the_same_counts_make_draws_paired() -> None:
    scores, weak, strong = made_up(1000)
    counts = resample(1000, 200)
    nearly = scores + np.random.default_rng(5).normal(0, 0.02, 1000)
    a, b = (np.array([c.apgr for c in resampled_curves(s, weak, strong, counts)]) for s in (scores, nearly))
    assert np.std(a - b) < np.std(a) / 4
    again = np.array([c.apgr for c in resampled_curves(scores, weak, strong, resample(1000, 200))])
    np.testing.assert_array_equal(a, again)


def test_dealing_the_same_choices_at_random_has_a_closed_form() -> None:
    generator = np.random.default_rng(0)
    outcomes, choice = generator.random((300, 3)), generator.integers(0, 3, 300)
    runs = [outcomes[np.arange(300), generator.permutation(choice)].mean() for _ in range(500)]
    assert baselines.shuffled(choice, outcomes) == pytest.approx(np.mean(runs), abs=4 * np.std(runs) / 500**0.5)


def test_neighbours_average_the_nearest_gains() -> None:
    known = np.eye(3, dtype=np.float32)
    near = np.array([[0.9, 0.4, 0.0]], np.float32)
    assert baselines.nearest_neighbours(near, known, np.array([1.0, 0.0, -1.0]), k=2) == pytest.approx([0.5])
    assert baselines.nearest_neighbours(near, known, np.array([1.0, 0.0, -1.0]), k=9) == pytest.approx([0.0])


def test_single_models_are_points_of_cost_and_outcome() -> None:
    points = baselines.single_model(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[0.03, 0.01], [0.05, 0.01]]))
    np.testing.assert_allclose(points, [[0.04, 0.5], [0.01, 0.0]])
