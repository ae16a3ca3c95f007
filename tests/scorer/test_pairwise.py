"""The pairwise solver agrees with a slow dense one, with scikit-learn and with closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from scorer.routers.pairwise import Duels, loss, mode

Floats = NDArray[np.float64]


def made_up(n: int, players: int, dimension: int, seed: int = 0) -> Duels:
    """Soft and hard outcomes, uneven weights, prompts met by several battles."""
    generator = np.random.default_rng(seed)
    a = generator.integers(0, players, n)
    b = (a + generator.integers(1, players, n)) % players
    return Duels(
        generator.normal(size=(n // 2, dimension)).astype(np.float32),
        generator.integers(0, n // 2, n),
        a,
        b,
        np.where(generator.random(n) < 0.5, generator.random(n).round(), generator.random(n)),
        generator.uniform(0.1, 3, n),
    )


def slow_mode(duels: Duels, centre: Floats, precision: Floats) -> Floats:
    """Newton's method on the design matrix itself, a column for every coordinate of every player."""
    n, (players, dimension) = len(duels), centre.shape
    design = np.zeros((n, players, dimension))
    x = duels.x[duels.prompt].astype(np.float64)
    design[np.arange(n), duels.a] += x
    design[np.arange(n), duels.b] -= x
    flat = design.reshape(n, -1)
    u = np.zeros(players * dimension)
    for _ in range(30):
        p = 1 / (1 + np.exp(-flat @ u))
        gradient = flat.T @ (duels.weight * (p - duels.outcome)) + precision.ravel() * (u - centre.ravel())
        u -= np.linalg.solve(
            flat.T @ (flat * (duels.weight * p * (1 - p))[:, None]) + np.diag(precision.ravel()), gradient
        )
    return u.reshape(players, dimension)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_slow_dense_solution(seed: int) -> None:
    generator = np.random.default_rng(seed)
    duels = made_up(400, players=4, dimension=6, seed=seed)
    centre, precision = generator.normal(size=(4, 6)), generator.uniform(0.01, 20, (4, 6))
    np.testing.assert_allclose(mode(duels, centre, precision), slow_mode(duels, centre, precision), atol=1e-6)


def test_chunks_add_up() -> None:
    """More rows than are gathered at once."""
    duels = made_up(9000, players=3, dimension=3)
    centre, precision = np.zeros((3, 3)), np.ones((3, 3))
    np.testing.assert_allclose(mode(duels, centre, precision), slow_mode(duels, centre, precision), atol=1e-6)


def test_one_player_against_a_fixed_one_is_scikit_learns_logistic_regression() -> None:
    generator = np.random.default_rng(5)
    n = 500
    x = generator.normal(size=(n, 4)).astype(np.float32)
    outcome, weight = (generator.random(n) < 0.7).astype(float), generator.uniform(0.5, 2, n)
    duels = Duels(x, np.arange(n), np.zeros(n, int), np.ones(n, int), outcome, weight)
    precision = np.stack([np.full(4, 2.0), np.full(4, 1e12)])  # the second does not move
    theirs = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-10, max_iter=1000)
    theirs.fit(x, outcome, sample_weight=weight)
    np.testing.assert_allclose(mode(duels, np.zeros((2, 4)), precision)[0], theirs.coef_[0], atol=1e-6)


def test_two_players_share_a_move_by_their_precisions() -> None:
    """One constant input: at the optimum precision_a * move_a = weight * (y - p) = -precision_b * move_b."""
    duels = Duels(np.ones((1, 1), np.float32), np.zeros(1, int), np.zeros(1, int), np.ones(1, int), *([np.ones(1)] * 2))
    moved = mode(duels, np.zeros((2, 1)), np.array([[1.0], [4.0]]))[:, 0]
    residual = 1 - 1 / (1 + np.exp(moved[1] - moved[0]))
    np.testing.assert_allclose(moved, [residual, -residual / 4], atol=1e-9)


def test_who_has_no_battle_stays_exactly() -> None:
    duels, centre = made_up(50, players=2, dimension=3), np.random.default_rng(1).normal(size=(5, 3))
    moved = mode(duels, centre, np.ones((5, 3)))
    np.testing.assert_array_equal(moved[2:], centre[2:])
    assert np.abs(moved[:2] - centre[:2]).min() > 1e-4


def test_the_side_a_model_is_named_on_makes_no_difference() -> None:
    duels, centre = made_up(200, players=3, dimension=4), np.zeros((3, 4))
    swapped = Duels(duels.x, duels.prompt, duels.b, duels.a, 1 - duels.outcome, duels.weight)
    np.testing.assert_allclose(mode(duels, centre, centre + 1), mode(swapped, centre, centre + 1), atol=1e-9)


def test_it_converges_from_a_mistaken_certainty() -> None:
    """A centre so far off that a full step would overshoot."""
    duels = made_up(300, players=3, dimension=4)
    centre, precision = np.full((3, 4), 1.0) * [[30], [-30], [0]], np.full((3, 4), 1e-3)
    reached = mode(duels, centre, precision)
    np.testing.assert_allclose(reached, mode(duels, np.zeros((3, 4)), precision), atol=0.3)
    assert loss(duels, reached) < loss(duels, np.zeros((3, 4)))
