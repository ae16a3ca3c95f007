"""Bradley-Terry strengths equal closed forms, a textbook's numbers and those of another algorithm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from scorer.routers.bradley_terry import sigmoid, strengths

Floats = NDArray[np.float64]


def random_wins(seed: int, n: int, k: int, scale: float = 10.0) -> Floats:
    generator = np.random.default_rng(seed)
    return generator.gamma(0.5, scale, (n, k, k)) * (generator.random((n, k, k)) < 0.7)


def by_minorisation(wins: Floats, steps: int = 5000) -> Floats:
    """Zermelo's iteration (Hunter 2004, Ann. Statist. 32): strengths as ratios, no derivatives; mean zero."""
    games, won = wins + wins.T, wins.sum(axis=1)
    ratio = np.ones(len(wins))
    for _ in range(steps):
        ratio = won / (games / (ratio[:, None] + ratio[None, :])).sum(axis=1)
        ratio /= np.exp(np.log(ratio).mean())
    theta: Floats = np.log(ratio)
    return theta


def gradient(theta: Floats, wins: Floats, ridge: float, centre: Floats) -> Floats:
    """Of the penalised loss, written as a sum over ordered pairs."""
    slope = ridge * (theta - centre)
    for i in range(len(theta)):
        for j in range(len(theta)):
            if i != j:
                slope[i] -= wins[i, j] * sigmoid(theta[j] - theta[i])
                slope[j] += wins[i, j] * sigmoid(theta[j] - theta[i])
    return slope


def test_two_players_differ_by_the_log_odds() -> None:
    theta = strengths(np.array([[[0, 30.0], [10, 0]]]), 1e-9)[0]
    assert theta[0] - theta[1] == pytest.approx(np.log(3), abs=1e-7)
    assert theta.sum() == pytest.approx(0, abs=1e-6)  # the gauge: nothing but the ridge speaks to the mean


def test_a_star_gives_every_player_its_own_log_odds() -> None:
    """Players that meet the bar alone are fitted one by one."""
    won, lost = np.array([9.0, 4.0, 1.0]), np.array([1.0, 4.0, 7.0])
    wins = np.zeros((1, 4, 4))
    wins[0, :3, 3], wins[0, 3, :3] = won, lost
    theta = strengths(wins, 1e-9)[0]
    np.testing.assert_allclose(theta[:3] - theta[3], np.log(won / lost), atol=1e-7)


def test_the_american_league_of_1987() -> None:
    """Agresti, Categorical Data Analysis, 2nd ed., table 10.10: Milwaukee, Detroit, ..., Baltimore = 0."""
    wins = np.array(
        [
            [0, 7, 9, 7, 7, 9, 11],
            [6, 0, 7, 5, 11, 9, 9],
            [4, 6, 0, 7, 7, 8, 12],
            [6, 8, 6, 0, 6, 7, 10],
            [6, 2, 6, 7, 0, 7, 12],
            [4, 4, 5, 6, 6, 0, 6],
            [2, 4, 1, 3, 1, 7, 0],
        ],
        np.float64,
    )
    theta = strengths(wins[None], 1e-9)[0]
    np.testing.assert_allclose(theta - theta[-1], [1.58, 1.44, 1.29, 1.25, 1.11, 0.68, 0], atol=0.006)
    np.testing.assert_allclose(theta - theta.mean(), by_minorisation(wins), atol=1e-7)


def test_it_agrees_with_zermelos_iteration() -> None:
    wins = random_wins(3, 1, 8)[0] + 0.1
    np.fill_diagonal(wins, 0)
    theta = strengths(wins[None], 1e-9)[0]
    np.testing.assert_allclose(theta - theta.mean(), by_minorisation(wins), atol=1e-6)


def test_without_battles_the_centre_stays_and_a_large_ridge_holds_it() -> None:
    centre = np.array([0.4, -1.0, 2.0])
    np.testing.assert_array_equal(strengths(np.zeros((2, 3, 3)), 1.0, centre), [centre, centre])
    held = strengths(random_wins(0, 1, 3), 1e9, centre)[0]
    np.testing.assert_allclose(held, centre, atol=1e-6)


def test_where_it_starts_makes_no_difference() -> None:
    wins = random_wins(5, 4, 6)
    far = np.array([30.0, -30, 0, 5, 1, -2])
    np.testing.assert_allclose(strengths(wins, 0.1, 0.5, start=far), strengths(wins, 0.1, 0.5), atol=1e-10)


def test_a_ridge_for_each_player() -> None:
    """A player held fast against one that is free: the free one takes up the whole log odds."""
    theta = strengths(np.array([[[0, 30.0], [10, 0]]]), np.array([1e9, 1e-9]), 0.0)[0]
    np.testing.assert_allclose(theta, [0, -np.log(3)], atol=1e-6)


def test_a_player_without_defeats_is_kept_finite_by_the_ridge() -> None:
    """Stationary where ridge * theta = wins * sigmoid(-2 theta)."""
    theta = strengths(np.array([[[0, 50.0], [0, 0]]]), 0.01)[0]
    assert theta[0] == pytest.approx(-theta[1])
    assert 0.01 * theta[0] == pytest.approx(50 * sigmoid(np.array(-2 * theta[0])), rel=1e-9)


def test_wins_over_oneself_cancel() -> None:
    wins = random_wins(1, 1, 5)
    with_own = wins + 100 * np.eye(5)
    bare = wins * (1 - np.eye(5))
    np.testing.assert_allclose(strengths(with_own, 0.5), strengths(bare, 0.5), atol=1e-10)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    k=st.integers(2, 12),
    scale=st.floats(1e-6, 1e8),
    ridge=st.floats(1e-6, 1e3),
)
def test_the_gradient_vanishes_whatever_the_battles(seed: int, k: int, scale: float, ridge: float) -> None:
    wins = random_wins(seed, 1, k, scale)[0]
    centre = np.random.default_rng(seed).normal(0, 3, k)
    theta = strengths(wins[None], ridge, centre)[0]
    size = wins.sum() + ridge * (np.abs(theta).max() + np.abs(centre).max())
    np.testing.assert_allclose(gradient(theta, wins, ridge, centre) / size, 0, atol=1e-10)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 9), k=st.integers(2, 60))
def test_a_ranking_does_not_depend_on_what_it_is_solved_with(seed: int, n: int, k: int) -> None:
    wins = random_wins(seed, n, k) * np.geomspace(1e-3, 1e3, n)[:, None, None]
    together = strengths(wins, 1.0)
    for i in range(n):
        np.testing.assert_array_equal(strengths(wins[i : i + 1], 1.0)[0], together[i])


def test_sigmoid_is_exact_at_the_ends() -> None:
    assert sigmoid(np.array([0.0, np.log(3), 1e4, -1e4])).tolist() == pytest.approx([0.5, 0.75, 1, 0])
