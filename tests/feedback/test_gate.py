"""The gate, against closed forms, resampling, and simulations whose truth is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from feedback import gate, rates
from feedback.gate import Comparison, Ruling
from feedback.records import Run

RNG = np.random.default_rng(5)
EFFECT, RATE = 0.01, 0.05

Floats = NDArray[np.float64]


def names(count: int) -> list[str]:
    return [f"s{i}" for i in range(count)]


def even(ratings: Floats, other: Floats, challenger: Floats) -> Comparison:
    """Every rating a session of its own, and of the same weight."""
    return gate.compare(ratings, other, challenger, np.ones(len(ratings)), names(len(ratings)))


def ruled(golden: Comparison, **changes: Comparison | float) -> Ruling:
    ruling = Ruling(champion=golden, anchor=golden, newest=NOTHING, effect=EFFECT, level=RATE)
    return replace(ruling, **changes)  # type: ignore[arg-type]


NOTHING = gate.compare(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0), [])


def test_losses_are_squared_errors() -> None:
    found = even(np.array([1.0, 0.0, 1.0, 0.5]), np.full(4, 0.5), np.array([0.9, 0.1, 0.8, 0.5]))
    assert found.other == pytest.approx((0.25 * 3 + 0) / 4)
    assert found.challenger == pytest.approx((0.01 + 0.01 + 0.04 + 0) / 4)
    assert found.difference == pytest.approx(found.challenger - found.other)


def test_the_difference_is_that_of_the_mean_squared_errors_of_the_probabilities() -> None:
    """The noise of ratings cancels: ten points off everywhere costs 0.01 beside the truth."""
    truth = RNG.uniform(0.2, 0.8, 400_000)
    found = even((RNG.random(400_000) < truth).astype(float), truth, truth + 0.1)
    assert found.difference == pytest.approx(0.01, abs=4 * found.error)
    assert found.error < 0.0003


def test_weights_weigh() -> None:
    found = gate.compare(
        np.array([1.0, 0.0]), np.array([0.5, 0.5]), np.array([0.8, 0.8]), np.array([1.0, 3.0]), names(2)
    )
    assert found.challenger == pytest.approx((0.04 + 3 * 0.64) / 4)


def test_the_interval_of_equal_weights_is_the_textbook_one_of_a_mean() -> None:
    ratings, champion, challenger = RNG.integers(0, 2, 200).astype(float), RNG.random(200), RNG.random(200)
    found = even(ratings, champion, challenger)
    difference = (ratings - challenger) ** 2 - (ratings - champion) ** 2
    error = difference.std(ddof=1) / math.sqrt(200)
    assert found.difference == pytest.approx(difference.mean())
    assert found.freedom == pytest.approx(199)
    assert found.high(0.025) - found.difference == pytest.approx(1.971957 * error)  # t of 199 degrees
    assert found.difference - found.low(0.025) == pytest.approx(1.971957 * error)


def test_the_error_agrees_with_resampling_sessions() -> None:
    """A second way to the same number, with unequal weights and ratings that come in sessions."""
    count, sessions = 2000, 500
    session = RNG.integers(0, sessions, count)
    mood = RNG.random(sessions)[session]
    ratings = (RNG.random(count) < mood).astype(float)
    champion, challenger, weight = np.full(count, 0.5), np.clip(mood, 0.2, 0.8), RNG.uniform(1, 4, count)
    found = gate.compare(ratings, champion, challenger, weight, [f"s{i}" for i in session])
    difference = (ratings - challenger) ** 2 - (ratings - champion) ** 2
    above = np.bincount(session, weights=difference * weight, minlength=sessions)
    below = np.bincount(session, weights=weight, minlength=sessions)
    drawn = RNG.integers(0, sessions, (2000, sessions))
    resampled = above[drawn].sum(1) / below[drawn].sum(1)
    assert found.error == pytest.approx(resampled.std(), rel=0.1)


def test_the_same_ratings_twice_in_their_sessions_are_no_more_certain() -> None:
    ratings, champion, challenger = RNG.integers(0, 2, 100).astype(float), RNG.random(100), RNG.random(100)
    once = even(ratings, champion, challenger)
    doubled = [np.tile(column, 2) for column in (ratings, champion, challenger, np.ones(100))]
    twice = gate.compare(doubled[0], doubled[1], doubled[2], doubled[3], names(100) * 2)
    assert (twice.error, twice.freedom, twice.sessions) == pytest.approx((once.error, once.freedom, 100))


@pytest.mark.parametrize(
    ("level", "freedom", "expected"),
    [
        (0.025, 29, 2.04523),
        (0.05, 60, 1.67065),
        (0.001, 30, 3.38518),
        (0.0005, 60, 3.46020),
        (1e-4, 120, 3.83741),
        (1e-6, 29, 5.91711),
        (0.025, 1e9, 1.95996),
    ],
)
def test_quantiles_are_those_of_the_tables_of_t(level: float, freedom: float, expected: float) -> None:
    assert gate.quantile(level, freedom) == pytest.approx(expected, rel=1e-4)


def test_a_level_of_nothing_reaches_everywhere() -> None:
    assert gate.quantile(0.0, 100) == math.inf


def test_worse_is_refused_better_and_alike_are_published() -> None:
    truth = RNG.random(3000)
    ratings = (RNG.random(3000) < truth).astype(float)
    worse = ruled(even(ratings, truth, 1 - truth))
    better = ruled(even(ratings, 1 - truth, truth))
    alike = ruled(even(ratings, truth, truth))
    assert (worse.publishes, better.publishes, alike.publishes) == (False, True, True)
    assert worse.verdict.startswith("worse than the champion; loss ")
    assert better.verdict.startswith("better; ")
    assert alike.verdict.startswith("no worse; ")


def test_what_is_better_than_the_champion_and_worse_than_the_anchor_is_refused() -> None:
    truth = RNG.random(3000)
    ratings = (RNG.random(3000) < truth).astype(float)
    middling = np.full(3000, 0.5)
    ruling = ruled(even(ratings, 1 - truth, middling), anchor=even(ratings, truth, middling))
    assert ruling.objection == "worse than the anchor"


def test_the_newest_ratings_can_veto_and_cannot_help() -> None:
    truth = RNG.random(3000)
    ratings = (RNG.random(3000) < truth).astype(float)
    better, worse = even(ratings, 1 - truth, truth), even(ratings, truth, 1 - truth)
    assert ruled(better, newest=worse).objection == "worse on the newest ratings"
    assert ruled(better, newest=worse).verdict.startswith("worse on the newest ratings; loss ")
    assert ruled(worse, newest=better).objection == "worse than the champion"


@pytest.mark.parametrize("count", [0, 1, gate.LEAST_SESSIONS - 1])
def test_few_sessions_tell_nothing_and_spend_nothing(count: int) -> None:
    half = np.full(count, 0.5)
    ruling = ruled(even(half, half, half))
    assert not ruling.tells
    assert ruling.verdict == f"too little to tell by: {count} golden sessions, 30 are needed"
    assert ruling.record["level"] == 0.0


def test_many_ratings_of_one_session_are_one() -> None:
    ratings = np.ones(50)
    found = gate.compare(ratings, ratings * 0.9, ratings * 0.1, ratings, ["one"] * 50)
    assert found.high(0.05) == math.inf
    assert not ruled(found).tells


def test_too_little_to_see_the_effect_is_refused_with_the_effect_that_could_have_been_seen() -> None:
    ratings = RNG.integers(0, 2, 60).astype(float)
    ruling = ruled(even(ratings, np.full(60, 0.4), np.full(60, 0.6)), level=0.001)
    seen = (gate.quantile(0.001, 59) + 0.841621) * ruling.champion.error
    assert seen > EFFECT
    assert (
        ruling.objection == f"not shown to be no worse than the champion: an effect of {seen:.4f} could have been seen"
    )
    assert ruling.record["visible"] == pytest.approx(seen)


def noisy(truth: Floats, generator: np.random.Generator, points: float) -> Floats:
    """So many points off, to either side: worse than the truth by the square of it."""
    moved: Floats = truth + generator.choice([-points, points], len(truth))
    return moved


def test_an_equal_challenger_passes_four_times_of_five_at_the_visible_effect() -> None:
    """Its power, by the closed form and by counting: 300 nights see 0.8 within 0.07 with 99.7 %."""
    passed, closed = 0, []
    for _ in range(300):
        truth = RNG.uniform(0.25, 0.75, 500)
        ratings = (RNG.random(500) < truth).astype(float)
        found = even(ratings, noisy(truth, RNG, 0.15), noisy(truth, RNG, 0.15))
        closed.append(found.visible(RATE))
        passed += found.high(RATE) < float(np.mean(closed))
    assert passed / 300 == pytest.approx(0.8, abs=0.07)


def following(earlier: list[Run], published: bool, rate: rates.Rate) -> list[Run]:
    """The runs with one more."""
    number = len(earlier)
    record = {"rate": {"run": rate.run, "level": rate.level, "passed_on": rate.level * published}}
    made = Run(
        run_id=str(number),
        job="retrain",
        scheduled_for=number,
        holder="",
        attempt=1,
        started_at=number,
        heartbeat_at=number,
        finished_at=number,
        status="",
        verdict="",
        record=record,
    )
    return [*earlier, made]


@pytest.mark.parametrize("good", [0.0, 0.5, 0.9])
def test_the_chance_of_ever_publishing_what_is_worse_stays_within_the_rate(good: float) -> None:
    """Streams of twelve nights on a golden set that grows and is used again every night; challengers are worse by just
    the effect, or (a share `good` of them) as good as the champion, whose publication passes their level on.

    Of 400 streams 20 are expected at the most; 99.9 % of the time no more than 35 are seen.
    """
    generator = np.random.default_rng(round(10 * good))
    wrong = right = 0
    for _ in range(400):
        truth = generator.uniform(0.25, 0.75, 400)
        ratings = (generator.random(400) < truth).astype(float)
        runs: list[Run] = []
        for night in range(12):
            size, rate = min(60 + 40 * night, 400), rates.following(runs, RATE)
            is_good = generator.random() < good
            challenger = truth.copy() if is_good else noisy(truth, generator, EFFECT**0.5)
            ruling = ruled(even(ratings[:size], truth[:size], challenger[:size]), level=rate.level)
            right += ruling.publishes and is_good
            if ruling.publishes and not is_good:
                wrong += 1
                break
            runs = following(runs, ruling.publishes, rate)
    assert wrong <= 35
    assert (right > 0) == (good > 0)


def test_a_refit_that_is_much_better_is_published_from_a_hundred_golden_ratings() -> None:
    """Against a champion twenty points off, and itself five: 200 first nights at the first night's level."""
    level, published = rates.following([], RATE).level, 0
    for _ in range(200):
        truth = RNG.uniform(0.25, 0.75, 100)
        ratings = (RNG.random(100) < truth).astype(float)
        published += ruled(even(ratings, noisy(truth, RNG, 0.2), noisy(truth, RNG, 0.05)), level=level).publishes
    assert published / 200 > 0.5
