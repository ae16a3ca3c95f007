"""Routing curves against every threshold tried one by one, exhaustive search, and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from scorer import policy
from scorer.evaluation import baselines, metrics
from scorer.evaluation.routing import Curve, harness_points, ladder_sweep, oracle_sweep

Floats = NDArray[np.float64]


def made_up(n: int, models: int = 2, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Win rates (n, m) that know something, outcomes and costs, strongest first."""
    generator = np.random.default_rng(seed)
    difficulty = generator.random(n)
    power = np.linspace(0.3, 0.8, models)
    outcomes = (generator.random((n, models)) < 1 - power * difficulty[:, None]).astype(float)
    guess = np.clip(0.5 + 0.3 * (difficulty - 0.5) + generator.normal(0, 0.1, n), 0, 1)
    win_rates = guess[:, None] * np.linspace(0.2, 1, models) + generator.normal(0, 0.02, (n, models))
    costs = np.geomspace(5, 0.2, models) * generator.uniform(0.5, 1.5, (n, 1))
    return win_rates, outcomes, costs


def once(n: int) -> NDArray[np.int64]:
    return np.ones(n, np.int64)


def routed(win_rates: Floats, threshold: float) -> NDArray[np.intp]:
    """The daemon's own rule, prompt by prompt."""
    models = [str(i) for i in range(win_rates.shape[1])]
    rows = [dict(zip(models, row.tolist(), strict=True)) for row in win_rates]
    return np.array([int(policy.greedy(row, models, threshold)) for row in rows])


@pytest.mark.parametrize("models", [2, 3, 5])
def test_a_curve_has_the_point_of_every_threshold_that_the_daemon_could_use(models: int) -> None:
    win_rates, outcomes, costs = made_up(40, models)
    curve = ladder_sweep(win_rates, outcomes, costs).curve(once(40))
    thresholds = np.unique(win_rates[:, 1:])[::-1]
    thresholds = np.concatenate([[2.0], (thresholds[:-1] + thresholds[1:]) / 2, [-1.0]])
    tried = set()
    for threshold in thresholds:
        choice = routed(win_rates, threshold)
        rows = np.arange(40)
        mix = np.bincount(choice, minlength=models) / 40
        tried.add((*mix.round(9), outcomes[rows, choice].mean().round(9), costs[rows, choice].mean().round(9)))
    points = np.column_stack([curve.mix, curve.result, curve.cost]).round(9)
    assert {tuple(point + 0.0) for point in points} == {tuple(np.array(point) + 0.0) for point in tried}


def test_weighted_prompts_are_repeated_prompts() -> None:
    win_rates, outcomes, costs = made_up(60, 3)
    times = np.random.default_rng(1).integers(0, 4, 60)
    rows = np.repeat(np.arange(60), times)
    weighted = ladder_sweep(win_rates, outcomes, costs).curve(times)
    repeated = ladder_sweep(win_rates[rows], outcomes[rows], costs[rows]).curve(once(len(rows)))
    assert metrics.apgr(weighted.spent, weighted.pgr) == pytest.approx(metrics.apgr(repeated.spent, repeated.pgr))
    np.testing.assert_allclose(weighted.results, repeated.results)
    assert metrics.cpt(weighted.spent, weighted.pgr, 0.5) == pytest.approx(
        metrics.cpt(repeated.spent, repeated.pgr, 0.5)
    )


def test_curves_run_from_all_cheapest_to_all_strongest() -> None:
    win_rates, outcomes, costs = made_up(50, 4)
    curve = ladder_sweep(win_rates, outcomes, costs).curve(once(50))
    np.testing.assert_allclose(curve.mix[[0, -1]], [[0, 0, 0, 1], [1, 0, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(curve.result[[0, -1]], outcomes.mean(axis=0)[[-1, 0]])
    np.testing.assert_allclose(curve.spent[[0, -1]], [0, 1], atol=1e-12)
    np.testing.assert_allclose(curve.pgr[[0, -1]], [0, 1], atol=1e-12)


def test_the_harness_routes_at_the_deciles() -> None:
    scores = np.arange(100.0)
    share, result = harness_points(scores, np.zeros(100), (scores >= 90).astype(float))
    np.testing.assert_allclose(share, np.linspace(0, 1, 11), atol=1e-12)
    np.testing.assert_allclose(result, [0, *[0.1] * 10], atol=1e-12)


def test_harness_and_curve_agree_on_many_prompts() -> None:
    win_rates, outcomes, costs = made_up(20_000)
    share, result = harness_points(win_rates[:, 1], outcomes[:, 1], outcomes[:, 0])
    curve = ladder_sweep(win_rates, outcomes, costs).curve(once(20_000))
    np.testing.assert_allclose(np.interp(share, curve.share, curve.result), result, atol=1e-9)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_apgr_is_the_mean_gain_over_thresholds_and_their_ties(rows: list[tuple[int, bool, bool]]) -> None:
    """Second way: a prompt is served strongly at every share above its rank, so it counts 1 - (rank share)."""
    scores, weak, strong = (np.array(column, float) for column in zip(*rows, strict=True))
    if strong.mean() == weak.mean():
        return
    outcomes = np.stack([strong, weak], axis=1)
    curve = ladder_sweep(np.stack([scores, scores], axis=1), outcomes, np.zeros_like(outcomes)).curve(once(len(rows)))
    rank = np.array([(scores > s).sum() + (scores == s).sum() / 2 for s in scores]) / len(scores)
    expected = ((strong - weak) * (1 - rank)).mean() / (strong - weak).mean()
    assert metrics.apgr(curve.share, curve.pgr) == pytest.approx(expected)


def test_ties_are_worth_the_mean_of_their_orders() -> None:
    win_rates, outcomes, costs = made_up(300)
    tied, generator = np.round(win_rates, 1), np.random.default_rng(2)

    def area(win_rates: Floats) -> float:
        curve = ladder_sweep(win_rates, outcomes, costs).curve(once(300))
        return metrics.apgr(curve.share, curve.pgr)

    broken = [area(tied + 1e-6 * generator.random(tied.shape)) for _ in range(400)]
    assert area(tied) == pytest.approx(np.mean(broken), abs=4 * np.std(broken) / 400**0.5)


def test_a_perfect_router_has_the_area_of_its_triangle() -> None:
    """A quarter of the prompts gain, all taken first: PGR rises to 1 at 1/4 and stays: area 1 - 1/8."""
    gain = np.repeat([1.0, 0.0], [25, 75])
    outcomes = np.stack([gain, np.zeros(100)], axis=1)
    curve = ladder_sweep(np.stack([gain, gain], axis=1), outcomes, np.zeros((100, 2))).curve(once(100))
    assert metrics.apgr(curve.share, curve.pgr) == pytest.approx(1 - 1 / 8)


def test_the_oracle_takes_gains_first_and_harm_never() -> None:
    """Of eight prompts two gain, one loses: PGR is 2 at a quarter of the calls and stays there: 2 - 2/8."""
    strong, weak = np.array([1, 1, 0, 1, 1, 0, 0, 1.0]), np.array([0, 0, 1, 1, 1, 0, 0, 1.0])
    outcomes = np.stack([strong, weak], axis=1)
    curve = oracle_sweep(outcomes, np.zeros((8, 2))).curve(once(8))
    assert outcomes.mean(axis=0) == pytest.approx([5 / 8, 4 / 8])
    assert curve.result.max() == pytest.approx(6 / 8)
    assert metrics.cpt(curve.share, curve.pgr, 0.5) == pytest.approx(1 / 16)
    assert metrics.cpt(curve.share, curve.pgr, 2.0) == pytest.approx(2 / 8)
    assert metrics.apgr(curve.share, curve.pgr) == pytest.approx(2 - 2 / 8)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_no_assignment_beats_the_oracle_and_its_corners_are_assignments(seed: int, models: int) -> None:
    """Exhaustive search over all assignments of four prompts to models."""
    generator = np.random.default_rng(seed)
    outcomes = generator.integers(0, 4, (4, models)) / 3
    costs = generator.integers(1, 6, (4, models)).astype(float)
    curve = oracle_sweep(outcomes, costs, costs).curve(once(4))
    reached = int(curve.result.argmax()) + 1
    cost, result = curve.cost[:reached], curve.result[:reached]
    rows = np.arange(4)
    everything = []
    for choice in itertools.product(range(models), repeat=4):
        spent, got = costs[rows, list(choice)].mean(), outcomes[rows, list(choice)].mean()
        everything.append((round(spent, 9), round(got, 9)))
        assert got <= np.interp(spent, cost, result) + 1e-9
    for spent, got in zip(cost, result, strict=True):
        if spent == cost[0] or got == result[-1]:  # in between, moves of equal worth are one step
            assert (round(spent, 9), round(got, 9)) in everything
    slopes = np.diff(result) / np.diff(cost)
    assert (np.diff(slopes) < 1e-9).all()


def test_an_oracle_with_more_models_is_no_worse() -> None:
    _, outcomes, costs = made_up(200, 3)
    three = oracle_sweep(outcomes, costs, costs).curve(once(200))
    two = oracle_sweep(outcomes[:, ::2], costs[:, ::2], costs[:, ::2]).curve(once(200))
    budget = np.linspace(two.cost.min(), two.cost[int(two.result.argmax())], 50)
    best = int(three.result.argmax()) + 1
    assert (np.interp(budget, three.cost[:best], three.result[:best]) >= np.interp(budget, two.cost, two.result)).all()


@pytest.mark.parametrize("models", [2, 4])
def test_dealing_the_same_calls_at_random_has_the_expectation_of_its_simulation(models: int) -> None:
    win_rates, outcomes, costs = made_up(200, models)
    curve = ladder_sweep(win_rates, outcomes, costs).curve(once(200))
    dealt, generator = curve.shuffled(), np.random.default_rng(3)
    for point in (20, len(curve.mix) // 2):
        calls = np.repeat(np.arange(models), (curve.mix[point] * 200).round().astype(int))
        runs = [generator.permutation(calls) for _ in range(2000)]
        results = [outcomes[np.arange(200), choice].mean() for choice in runs]
        spent = [costs[np.arange(200), choice].mean() for choice in runs]
        assert dealt.result[point] == pytest.approx(np.mean(results), abs=4 * np.std(results) / 2000**0.5)
        assert dealt.cost[point] == pytest.approx(np.mean(spent), abs=4 * np.std(spent) / 2000**0.5)


def test_shuffling_two_models_gives_the_straight_line() -> None:
    curve = ladder_sweep(*made_up(100)).curve(once(100)).shuffled()
    np.testing.assert_allclose(curve.pgr, curve.share, atol=1e-12)


@pytest.mark.parametrize("models", [2, 3, 4])
def test_randoms_expectation_is_the_mean_of_random_routers(models: int) -> None:
    _, outcomes, costs = made_up(150, models)
    expected = baselines.random(outcomes, costs).curve(once(150))
    generator, budget = np.random.default_rng(4), np.linspace(costs[:, -1].mean(), costs[:, 0].mean(), 9)
    runs = []
    for _ in range(600):
        scores = baselines.on_ladder(generator.random(150), models)
        curve = ladder_sweep(scores, outcomes, costs).curve(once(150))
        runs.append(np.interp(budget, curve.cost, curve.result))
    drawn = np.array(runs)
    # the costs of a run vary with its draws, which bends its corners a little
    np.testing.assert_allclose(np.interp(budget, expected.cost, expected.result), drawn.mean(axis=0), atol=0.006)


def test_random_routing_of_two_models_averages_to_one_half() -> None:
    _, outcomes, costs = made_up(400)
    generator, areas = np.random.default_rng(1), []
    for _ in range(600):
        curve = ladder_sweep(generator.random((400, 2)), outcomes, costs).curve(once(400))
        areas.append(metrics.apgr(curve.share, curve.pgr))
    assert np.mean(areas) == pytest.approx(0.5, abs=4 * np.std(areas) / 600**0.5)
    line = baselines.random(outcomes, costs).curve(once(400))
    assert metrics.apgr(line.share, line.pgr) == pytest.approx(0.5)


def test_without_costs_a_longer_ladder_is_measured_by_strong_calls() -> None:
    win_rates, outcomes, _ = made_up(50, 3)
    curve = ladder_sweep(win_rates, outcomes, np.zeros_like(outcomes)).curve(once(50))
    np.testing.assert_array_equal(curve.spent, curve.share)


def test_thinning_keeps_the_ends() -> None:
    curve = ladder_sweep(*made_up(500)).curve(once(500))
    thin: Curve = curve.thinned(50)
    assert len(thin.mix) == 50
    np.testing.assert_array_equal(thin.result[[0, -1]], curve.result[[0, -1]])
