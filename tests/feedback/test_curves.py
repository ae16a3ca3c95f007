"""Curves from feedback come close to what all ratings of all models would have said, and refuse where they cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from feedback import curves
from feedback.logged import Log

MODELS = ("big", "small")


def made_up(n: int, exploration: float = 0.4, rated: float = 1.0, seed: int = 0) -> tuple[Log, NDArray[np.float64]]:
    """Decisions of a router that does not look, sessions of two each; and everybody's rating of both models (n, 2).

    Half of the prompts are hard: there big gets 0.9 of the thumbs and small 0.2, else 0.9 and 0.85.
    """
    generator = np.random.default_rng(seed)
    hard = generator.random(n) < 0.5
    thumbs = generator.random((n, 2)) < np.stack([np.full(n, 0.9), np.where(hard, 0.2, 0.85)], axis=1)
    probabilities = np.tile([exploration / 2, 1 - exploration / 2], (n, 1))
    chosen = (generator.random(n) < probabilities[:, 1]).astype(np.int64)
    reward = np.where(generator.random(n) < rated, thumbs[np.arange(n), chosen], np.nan)
    named = np.full(n, "x")
    log = Log(
        models=MODELS,
        left_out=np.full(n, ""),
        router=named,
        version=named,
        encoder_id=named,
        text_hash=named,
        chosen=chosen,
        served=chosen,
        probabilities=probabilities,
        win_rates=np.zeros((n, 2)),
        reward=reward,
        cost=np.zeros(n),
        tokens_in=np.zeros(n),
        cluster=np.arange(n) // 2,
        embeddings=np.zeros((n, 0), np.float32),
        features=np.zeros((n, 0), np.float32),
    )
    lowest = np.where(hard, 0.8, 0.55) + generator.normal(0, 0.05, n)
    return replace(log, win_rates=np.stack([np.full(n, 0.5), lowest], axis=1)), thumbs.astype(np.float64)


def truth(log: Log, thumbs: NDArray[np.float64]) -> list[float]:
    """The second way: with both models' ratings of every prompt, nothing need be estimated."""
    lowest = log.win_rates[:, 1]
    order = np.argsort(-lowest, kind="stable")
    strong = np.zeros(len(lowest), bool)
    means = []
    for tenth in range(11):
        strong[order[: round(len(order) * tenth / 10)]] = True
        means.append(float(np.where(strong, thumbs[:, 0], thumbs[:, 1]).mean()))
    return means


def test_points_are_close_to_what_all_ratings_would_say() -> None:
    log, thumbs = made_up(6000)
    found = curves.curve("mine", log, log.win_rates, draws=200)
    assert [round(point.share, 2) for point in found.points] == [round(0.1 * tenth, 2) for tenth in range(11)]
    known = truth(log, thumbs)
    np.testing.assert_allclose([point.rating.value for point in found.points], known, atol=0.04)
    inside = [point.rating.low <= mean <= point.rating.high for point, mean in zip(found.points, known, strict=True)]
    assert sum(inside) >= 9
    assert (found.decisions, found.rated) == (6000, 6000)
    gap = (np.array(known) - known[0]) / (known[-1] - known[0])
    assert found.apgr.low <= np.trapezoid(gap, dx=0.1) <= found.apgr.high
    assert found.apgr.low > 0.5  # it knows which prompts are hard


def test_the_ends_are_each_models_own_ratings() -> None:
    """Closed form: with equal propensities, SNIPS of always-one-model is the mean of its ratings."""
    log, _ = made_up(3000, rated=0.5)
    found = curves.curve("mine", log, log.win_rates, draws=50)
    for point, model in ((found.points[0], 1), (found.points[-1], 0)):
        assert point.rating.value == pytest.approx(np.nanmean(log.reward[log.chosen == model]))
    assert found.rated == np.isfinite(log.reward).sum()


def test_a_router_that_does_not_look_is_worth_a_half() -> None:
    log, _ = made_up(6000)
    blind = np.stack([np.zeros(6000), np.random.default_rng(1).random(6000)], axis=1)
    found = curves.curve("blind", log, blind, draws=200)
    assert found.apgr.low < 0.5 < found.apgr.high
    assert found.apgr.high - found.apgr.low < 0.3


def test_too_little_overlap_gives_no_rating() -> None:
    """500 decisions at 5 % exploration: some 12 that only exploration can have made."""
    log, _ = made_up(500, exploration=0.05)
    found = curves.curve("mine", log, log.win_rates, draws=50)
    assert np.isnan(found.points[-1].rating.value)
    assert found.points[-1].size < 100 < found.points[0].size
    assert np.isfinite(found.points[0].rating.value)
    assert np.isnan(found.apgr.value)


def test_decisions_without_win_rates_are_left_out() -> None:
    log, _ = made_up(1000)
    rates = log.win_rates.copy()
    rates[:400] = np.nan
    assert curves.curve("mine", log, rates, draws=10).decisions == 600


def test_a_log_without_ratings_has_no_points() -> None:
    log, _ = made_up(100, rated=0.0)
    assert curves.curve("mine", log, log.win_rates).points == ()


def test_sessions_are_resampled_whole() -> None:
    """Each session's decisions said ten times over are no more information."""
    log, _ = made_up(1200)
    ten = log.take(np.repeat(np.arange(1200), 10))
    once, often = (curves.curve("mine", each, each.win_rates, draws=400) for each in (log, ten))
    for a, b in zip(once.points, often.points, strict=True):
        assert b.size == pytest.approx(a.size, rel=0.05)
        assert b.rating.high - b.rating.low == pytest.approx(a.rating.high - a.rating.low, rel=0.15)
