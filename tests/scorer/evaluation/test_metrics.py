"""Metrics against published numbers, closed forms and a second way to each number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer.evaluation import metrics

# RouteLLM's causal router on GSM8K, as printed by its own harness (anyscale/llm-router, README notebook).
STRONG_CALLS = [0, 131, 262, 392, 523, 654, 784, 916, 1045, 1176, 1307]
ACCURACY = [63.734, 67.559, 70.926, 73.604, 76.435, 79.495, 80.872, 82.938, 84.009, 84.851, 85.769]
SHARE, RESULT = np.array(STRONG_CALLS) / 1307, np.array(ACCURACY)
GOLDEN = metrics.pgr(RESULT, RESULT[0], RESULT[-1])

# A curve that falls: 0.6 is reached on the way up, lost, and reached for good later.
BUMPY_SHARE, BUMPY = np.array([0, 0.25, 0.5, 0.75, 1]), np.array([0, 0.8, 0.4, 0.7, 1.0])


def test_the_golden_run_gives_the_published_apgr() -> None:
    assert metrics.apgr(SHARE, GOLDEN) == pytest.approx(0.626567, abs=5e-6)  # its points are rounded to three decimals
    assert np.trapezoid(RESULT, SHARE) == pytest.approx(77.540277, abs=1e-4)


@pytest.mark.parametrize(("level", "published"), [(0.2, 11.75), (0.5, 34.06), (0.8, 62.38)])
def test_the_golden_run_gives_the_published_cpt(level: float, published: float) -> None:
    assert 100 * metrics.cpt_code(SHARE, GOLDEN, level) == pytest.approx(published, abs=0.015)
    for definition in (metrics.cpt, metrics.cpt_held):  # its accuracy rises all the way
        assert definition(SHARE, GOLDEN, level) == pytest.approx(metrics.cpt_code(SHARE, GOLDEN, level), abs=1e-12)


def test_apgr_is_the_codes_ratio_of_areas() -> None:
    weak, strong = RESULT[0], RESULT[-1]
    ratio = (np.trapezoid(RESULT, SHARE) - weak) / (strong - weak)
    assert metrics.apgr(SHARE, GOLDEN) == pytest.approx(ratio, abs=1e-12)


def test_the_straight_line_has_apgr_one_half_by_either_definition() -> None:
    line = np.linspace(0, 1, 7)
    assert metrics.apgr(line, line) == pytest.approx(0.5)
    assert metrics.apgr_ten(line, line) == pytest.approx(0.5)
    assert [metrics.cpt(line, line, x) for x in (0.2, 0.5, 0.8)] == pytest.approx([0.2, 0.5, 0.8])


def test_the_mean_of_ten_costs_approaches_the_integral() -> None:
    share = np.linspace(0, 1, 2001)
    gap = share**0.5
    assert metrics.apgr(share, gap) == pytest.approx(2 / 3, abs=1e-4)  # the integral of the root
    assert metrics.apgr_ten(share, gap) == pytest.approx(np.mean(np.sqrt(np.arange(0.05, 1, 0.1))), abs=1e-6)


def test_pgr_runs_from_weak_to_strong_and_may_leave_both() -> None:
    gap = metrics.pgr(np.array([0.5, 0.6, 0.9, 0.4]), 0.5, 0.7)
    np.testing.assert_allclose(gap, [0, 0.5, 2, -0.5])
    assert np.isnan(metrics.pgr(np.array([0.5]), 0.5, 0.5)).all()


def test_cpt_is_the_first_crossing_where_the_curve_falls_again() -> None:
    assert metrics.cpt(BUMPY_SHARE, BUMPY, 0.6) == pytest.approx(0.25 * 0.6 / 0.8)
    assert metrics.cpt(BUMPY_SHARE, BUMPY, 0.9) == pytest.approx(0.75 + 0.25 * 2 / 3)


def test_held_cpt_is_the_last_crossing() -> None:
    assert metrics.cpt_held(BUMPY_SHARE, BUMPY, 0.6) == pytest.approx(0.5 + 0.25 * 2 / 3)
    assert metrics.cpt_held(BUMPY_SHARE, BUMPY, 0.2) == metrics.cpt(BUMPY_SHARE, BUMPY, 0.2)


def test_a_level_that_no_share_reaches_has_no_cpt() -> None:
    assert np.isnan(metrics.cpt(BUMPY_SHARE, BUMPY, 1.1))
    assert np.isnan(metrics.cpt_held(BUMPY_SHARE, BUMPY, 1.1))
    assert metrics.cpt(BUMPY_SHARE, BUMPY, -0.5) == metrics.cpt_held(BUMPY_SHARE, BUMPY, -0.5) == 0


def test_the_codes_interpolation_errs_where_the_curve_falls() -> None:
    """Half the gap is first reached at 47 % of calls, then lost; the code says 90 %, the held CPT."""
    share, gap = np.linspace(0, 1, 11), np.array([0, 0.1, 0.15, 0.2, 0.25, 0.6, 0.45, 0.4, 0.45, 0.48, 1.0])
    assert metrics.cpt(share, gap, 0.5) == pytest.approx(0.4 + 0.1 * 25 / 35)
    assert metrics.cpt_code(share, gap, 0.5) == pytest.approx(0.9 + 0.1 * 2 / 52)
    assert metrics.cpt_held(share, gap, 0.5) == pytest.approx(0.9 + 0.1 * 2 / 52)


@given(st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=12), st.floats(0.01, 0.99))
def test_cpt_agrees_with_a_search_over_a_fine_grid(gaps: list[float], level: float) -> None:
    """Second way: look at a hundred thousand shares, one after the other."""
    gap = np.array([0.0, *gaps, 1.0])
    share = np.linspace(0, 1, len(gap))
    grid = np.linspace(0, 1, 100_001)
    reached = np.interp(grid, share, gap) >= level
    first = grid[reached.argmax()]
    held = grid[len(grid) - (~reached[::-1]).argmax()] if not reached.all() else 0.0
    # a crossing that only touches the level lies between two points of the grid
    assert metrics.cpt(share, gap, level) <= first + 1e-5
    assert metrics.cpt_held(share, gap, level) == pytest.approx(held, abs=2e-5)
    assert metrics.cpt(share, gap, level) <= metrics.cpt_held(share, gap, level) + 1e-12
    assert np.interp(metrics.cpt(share, gap, level), share, gap) == pytest.approx(level, abs=1e-9)


def test_a_place_on_the_curve_gives_its_share_and_its_cost() -> None:
    place = metrics.where_reached(np.array([0.6, 0.7, 0.9]), 0.8)
    assert place == pytest.approx(1.5)
    assert metrics.at(place, np.array([0.0, 0.2, 1.0])) == pytest.approx(0.6)
    assert np.isnan(metrics.at(metrics.where_reached(np.array([0.6, 0.7]), 0.8), np.array([0.0, 1.0])))
