"""Tiers equal a search through all ways of cutting the ranking."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from scorer.routers.tiers import tiers


def spread(ranked: NDArray[np.float64], cuts: tuple[int, ...]) -> float:
    return float(sum(np.var(run) for run in np.split(ranked, cuts)))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=9), st.integers(1, 5))
def test_no_other_cuts_spread_less(values: list[float], count: int) -> None:
    strengths = np.array(values)
    tier = tiers(strengths, count)
    ranked, order = -np.sort(-strengths), np.argsort(-strengths, kind="stable")
    assert (np.diff(tier[order]) >= 0).all()  # runs of the ranking, the strongest first
    assert sorted(set(tier.tolist())) == list(range(min(count, len(values))))
    cuts = tuple((np.flatnonzero(np.diff(tier[order])) + 1).tolist())
    best = min(spread(ranked, other) for other in itertools.combinations(range(1, len(values)), len(cuts)))
    assert spread(ranked, cuts) == pytest.approx(best, abs=1e-9)


def test_gaps_are_where_tiers_end() -> None:
    assert tiers(np.array([0.1, 9.0, 5.1, 0.0, 5.0, 9.1]), 3).tolist() == [2, 0, 1, 2, 1, 0]


def test_a_tiers_size_has_no_weight() -> None:
    """Upstream's objective cuts off the top model alone; sums of squares would the top two."""
    strengths = np.array([3.0, 1.0, -0.9, -0.9, -0.9, -0.9, -0.9, -0.9, -1.1, -1.1, -1.1, -1.1, -1.1, -1.1])
    alone = np.array([0] + [1] * 13)
    assert tiers(strengths, 2).tolist() == alone.tolist()
    by_squares = min(
        range(1, len(strengths)),
        key=lambda cut: sum(((run - run.mean()) ** 2).sum() for run in np.split(strengths, [cut])),
    )
    assert by_squares == 2


def test_with_fewer_models_than_tiers_everyone_is_one() -> None:
    assert tiers(np.array([0.5, 2.0, 1.0]), 10).tolist() == [2, 0, 1]
