"""The gate, against closed forms and resampling."""

import math

import numpy as np
import pytest

from feedback import gate

RNG = np.random.default_rng(5)


def names(count: int) -> list[str]:
    return [f"s{i}" for i in range(count)]


def test_losses_are_the_textbook_ones() -> None:
    ones = np.ones(4)
    found = gate.compare(np.array([1.0, 0.0, 1.0, 0.0]), ones * 0.5, np.array([0.9, 0.1, 0.9, 0.1]), ones, names(4))
    assert found.champion == pytest.approx(math.log(2))
    assert found.challenger == pytest.approx(-math.log(0.9))
    assert found.difference == pytest.approx(-math.log(0.9) - math.log(2))


def test_a_rating_counts_by_the_inverse_of_its_propensity_up_to_twenty() -> None:
    ratings, half, sure = np.array([1.0, 0.0]), np.array([0.5, 0.5]), np.array([0.8, 0.8])
    found = gate.compare(ratings, half, sure, np.array([0.5, 0.001]), names(2))
    assert found.challenger == pytest.approx((2 * -math.log(0.8) + 20 * -math.log(0.2)) / 22)


def test_the_interval_of_equal_weights_is_the_textbook_one_of_a_mean() -> None:
    ratings, champion, challenger = RNG.integers(0, 2, 200).astype(float), RNG.random(200), RNG.random(200)
    found = gate.compare(ratings, champion, challenger, np.full(200, 0.5), names(200))
    difference = gate.log_loss(ratings, challenger) - gate.log_loss(ratings, champion)
    error = difference.std(ddof=1) / math.sqrt(200)
    assert found.difference == pytest.approx(difference.mean())
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * error)


def test_the_interval_agrees_with_resampling_sessions() -> None:
    """A second way to the same width, with unequal weights and ratings that come in sessions."""
    count, sessions = 2000, 500
    session = RNG.integers(0, sessions, count)
    mood = RNG.random(sessions)[session]
    ratings = (RNG.random(count) < mood).astype(float)
    champion, challenger, propensity = np.full(count, 0.5), np.clip(mood, 0.2, 0.8), RNG.uniform(0.2, 1, count)
    found = gate.compare(ratings, champion, challenger, propensity, [f"s{i}" for i in session])
    difference = gate.log_loss(ratings, challenger) - gate.log_loss(ratings, champion)
    above = np.bincount(session, weights=difference / propensity, minlength=sessions)
    below = np.bincount(session, weights=1 / propensity, minlength=sessions)
    drawn = RNG.integers(0, sessions, (2000, sessions))
    resampled = above[drawn].sum(1) / below[drawn].sum(1)
    assert (found.high - found.low) / (2 * 1.959964) == pytest.approx(resampled.std(), rel=0.1)


def test_the_same_ratings_twice_in_their_sessions_are_no_more_certain() -> None:
    ratings, champion, challenger = RNG.integers(0, 2, 100).astype(float), RNG.random(100), RNG.random(100)
    once = gate.compare(ratings, champion, challenger, np.ones(100), names(100))
    doubled = [np.tile(column, 2) for column in (ratings, champion, challenger)]
    twice = gate.compare(doubled[0], doubled[1], doubled[2], np.ones(200), names(100) * 2)
    assert twice.high - twice.low == pytest.approx(once.high - once.low)
    assert twice.sessions == 100


def test_worse_is_refused_better_and_alike_are_published() -> None:
    truth = RNG.random(3000)
    ratings = (RNG.random(3000) < truth).astype(float)
    even = np.ones(3000)
    worse = gate.compare(ratings, truth, 1 - truth, even, names(3000))
    better = gate.compare(ratings, 1 - truth, truth, even, names(3000))
    alike = gate.compare(ratings, truth, truth, even, names(3000))
    assert (worse.publishes, better.publishes, alike.publishes) == (False, True, True)
    assert worse.verdict.startswith("worse: held-out loss ")
    assert better.verdict.startswith("better: ")
    assert alike.verdict.startswith("not told apart: ")


@pytest.mark.parametrize("count", [0, 1, gate.LEAST_RATINGS - 1])
def test_few_ratings_publish_nothing(count: int) -> None:
    even = np.full(count, 0.5)
    found = gate.compare(even, even, even, even, names(count))
    assert not found.publishes
    assert found.verdict == f"{count} ratings are held out to compare on, 30 are needed"


def test_a_single_session_cannot_tell_worse() -> None:
    ratings = np.ones(50)
    found = gate.compare(ratings, ratings * 0.9, ratings * 0.1, ratings, ["one"] * 50)
    assert found.low == -math.inf


def test_false_refusals_of_an_equal_are_as_rare_as_stated() -> None:
    """Of two equally good challengers' nights, 2.5 % fall below the interval; 400 nights see 1 to 22 with 99.9 %."""
    refused = 0
    for _ in range(400):
        noise = RNG.normal(0, 0.3, (2, 400))
        champion, challenger = 1 / (1 + np.exp(-noise))
        ratings = RNG.integers(0, 2, 400).astype(float)
        refused += not gate.compare(ratings, champion, challenger, np.ones(400), names(400)).publishes
    assert 1 <= refused <= 22
