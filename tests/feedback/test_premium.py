"""The premium, on logs with a planted truth: the strong model answers easy and hard alike, the weak one easy ones."""

import math

import numpy as np
import pytest

from feedback.logged import Log
from feedback.ope import Floats
from feedback.premium import Premium, Side, premium
from scorer.calibration import Calibration

N = 6000
STRONG, WEAK = 0.010, 0.001  # dollars


def world(seed: int, n: int = N) -> tuple[Log, Floats]:
    """A log of half and half, and each prompt's difficulty d in [0, 1]: the weak model pleases with 0.9 - 0.6 d, the
    strong one with 0.9."""
    generator = np.random.default_rng(seed)
    difficulty = generator.random(n)
    chosen = generator.integers(0, 2, n)
    good = np.where(chosen == 0, 0.9, 0.9 - 0.6 * difficulty)
    nobody, half = np.full(n, "", np.str_), np.full((n, 2), 0.5)
    log = Log(
        models=("strong", "weak"),
        left_out=nobody,
        router=nobody,
        version=nobody,
        encoder_id=nobody,
        text_hash=nobody,
        chosen=chosen,
        served=chosen,
        probabilities=half,
        win_rates=np.stack([np.full(n, 0.5), difficulty], axis=1),
        reward=(generator.random(n) < good).astype(float),
        cost=np.where(chosen == 0, STRONG, WEAK),
        tokens_in=np.full(n, math.nan),
        cluster=np.arange(n),
        embeddings=np.zeros((n, 2), np.float32),
        features=np.zeros((n, 2), np.float32),
    )
    return log, difficulty


def side(score: Floats) -> Side:
    """A router that gives these win rates, calibrated on them."""
    return Side(np.stack([np.full(len(score), 0.5), score], axis=1), Calibration("these", score))


def test_a_blind_challenger_costs_more_at_the_same_quality() -> None:
    """At half of the requests to the strongest the champion loses 0.6 * 0.125 of quality to always-strongest, a blind
    router 0.6 * 0.25. A point of share costs 0.00009 and, where the champion stands (d = 1/2), brings 0.003 of quality:
    so the 0.075 that the blind one lacks are worth 0.00225 dollars. A tenth either side, the slope is the same, by
    symmetry."""
    log, difficulty = world(0)
    blind = np.random.default_rng(1).random(N)
    found = premium(log, side(difficulty), side(blind), 0.5)
    assert found.value == pytest.approx(0.00225, abs=0.0006)
    assert found.low > 0
    assert found.objection.startswith("dearer at the same quality: by $")
    assert found.low < 0.00225 < found.high


def test_a_challenger_that_sees_more_costs_less() -> None:
    log, difficulty = world(0)
    blurred = np.clip(difficulty + np.random.default_rng(1).normal(0, 0.3, N), 0, 1)
    found = premium(log, side(blurred), side(difficulty), 0.5)
    assert found.high < 0
    assert found.objection == ""
    assert found.text.startswith("cost at the same quality $-")


def test_the_champion_itself_costs_the_same() -> None:
    log, difficulty = world(2)
    found = premium(log, side(difficulty), side(difficulty), 0.5)
    assert (found.value, found.low, found.high) == pytest.approx((0.0, 0.0, 0.0))


def test_the_interval_agrees_with_its_spread_over_worlds() -> None:
    """A second way to the same width: twenty-five worlds; a standard deviation of 25 is known to 14 %."""
    values, halves = [], []
    for seed in range(25):
        log, difficulty = world(seed, 2000)
        found = premium(log, side(difficulty), side(np.random.default_rng(seed + 100).random(2000)), 0.5)
        values.append(found.value)
        halves.append((found.high - found.low) / 2)
    assert np.median(halves) / 1.96 == pytest.approx(np.std(values, ddof=1), rel=0.45)


def test_without_costs_or_a_slope_it_says_so_and_objects_to_nothing() -> None:
    log, difficulty = world(3, 500)
    blind = np.random.default_rng(1).random(500)
    free = log.take(np.arange(99))
    few = premium(free, side(difficulty[:99]), side(blind[:99]), 0.5)
    assert few.text == "cost not compared: 99 rated decisions have a cost and a choice, 100 are needed"
    assert few.record == {"value": None, "low": None, "high": None, "why": few.why}
    flat = premium(log, side(blind), side(difficulty), 0.5)
    backwards = premium(log, side(1 - difficulty), side(difficulty), 0.0)
    for found in (few, flat, backwards):
        assert isinstance(found, Premium)
        assert found.objection == "" or found.low > 0
    assert math.isnan(backwards.low)
    assert backwards.why == "of the champion, more strong calls are not seen to buy quality"
