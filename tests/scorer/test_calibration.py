"""Calibration: a threshold sends the share it was asked for, and the shipped sample is what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer import calibration, catalogue
from scorer.artifacts import ArtifactError
from scorer.calibration import Calibration
from scorer.policy import greedy
from scorer.routers.base import Prompts
from scorer.routers.random import Random
from tests.scorer.text import Lengths

GENERATOR = np.random.default_rng(0)
PAIR = ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")


@given(st.integers(0, 100), st.integers(0, 2**32 - 1))
def test_a_threshold_sends_the_share_it_was_asked_for(percent: int, seed: int) -> None:
    scores = Calibration("made up", np.random.default_rng(seed).random(400))
    threshold = scores.threshold(percent / 100)
    assert 0 <= threshold <= 1
    assert scores.share(threshold) == pytest.approx(percent / 100, abs=0.5 / 400)


def test_the_policy_agrees_with_the_share() -> None:
    """Second way: the ladder's threshold rule, prompt by prompt."""
    win = GENERATOR.random((500, 3)) * [0, 1, 1] + [0.5, 0, 0]
    scores = Calibration("made up", calibration.lowest(win))
    threshold = scores.threshold(0.3)
    chosen = [greedy(dict(zip("abc", row, strict=True)), "abc", threshold) for row in win]
    assert chosen.count("a") == 150
    assert scores.share(threshold) == pytest.approx(0.3)


def test_it_is_the_quantile_between_neighbours() -> None:
    scores = Calibration("made up", np.array([0.1, 0.2, 0.4, 0.8]))
    assert [scores.threshold(share) for share in (0.25, 0.5, 0.75)] == pytest.approx([0.6, 0.3, 0.15])
    assert (scores.threshold(0), scores.threshold(1)) == (1.0, 0.0)


@pytest.mark.parametrize(("share", "reached"), [(0.0, 0.0), (0.2, 0.0), (0.3, 0.5), (0.9, 1.0)])
def test_equal_scores_move_together_to_the_nearest_share(share: float, reached: float) -> None:
    scores = Calibration("made up", np.repeat([0.2, 0.7], 50))
    assert scores.share(scores.threshold(share)) == reached


def test_prediction_interval_of_the_next_request_is_beta_binomial() -> None:
    """Second way: draw the chance from its beta distribution, then the requests from a binomial."""
    scores = Calibration("made up", GENERATOR.random(300))
    threshold = scores.threshold(0.3)
    low, high = scores.prediction_interval(threshold, 200)
    chances = GENERATOR.beta(90.5, 210.5, 200_000)
    drawn = GENERATOR.binomial(200, chances) / 200
    assert (low, high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=1 / 200)


def test_prediction_interval_of_a_huge_sample_is_binomial() -> None:
    """Its textbook half-width: 1.96 sqrt(p (1 - p) / m)."""
    scores = Calibration("made up", GENERATOR.random(1_000_000))
    low, high = scores.prediction_interval(scores.threshold(0.3), 10_000)
    assert (high - low) / 2 == pytest.approx(1.96 * (0.3 * 0.7 / 10_000) ** 0.5, rel=0.02)


def test_prediction_interval_holds_the_realised_share_in_95_of_100_splits() -> None:
    """2,000 splits: 95 % give or take 4 standard deviations (0.5 points each); discreteness may add a little."""
    inside = 0
    for _ in range(2000):
        pool = GENERATOR.normal(size=600)
        scores = Calibration("made up", pool[:300])
        threshold = scores.threshold(0.3)
        low, high = scores.prediction_interval(threshold, 300)
        inside += low <= (pool[300:] >= threshold).mean() <= high
    assert 0.93 <= inside / 2000 <= 0.98


def test_a_lone_model_is_always_the_strongest() -> None:
    assert calibration.lowest(np.full((3, 1), 0.5)).tolist() == [1, 1, 1]


def sample(n: int = 40) -> Prompts:
    rows = GENERATOR.normal(size=(n, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Prompts([f"secret {i}" for i in range(n)], rows, GENERATOR.random((n, 3)).astype(np.float32))


def test_a_saved_sample_keeps_directions_and_no_text(tmp_path: Path) -> None:
    before = sample()
    directory = calibration.save_sample(tmp_path / "s", "e" * 64, ["a", "b", "c"], before, "mine-40")
    name, after = calibration.load_sample(directory, "e" * 64)
    assert name == "mine-40"
    assert (before.embeddings * after.embeddings).sum(axis=1).min() > 0.999
    np.testing.assert_allclose(np.linalg.norm(after.embeddings, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(after.features, before.features, atol=1e-3)
    assert len(set(after.texts)) == 40
    assert not any(b"secret" in path.read_bytes() for path in directory.iterdir())


@pytest.mark.parametrize("encoder", ["minilm", "static"])
def test_the_shipped_sample_calibrates_the_random_router(encoder: str) -> None:
    name, prompts = calibration.shipped_sample(encoder, None)
    assert "1" in name
    assert len(prompts) > 1000
    scores = calibration.calibrate(Random(), ("big", "small"), name, prompts)
    assert scores.threshold(0.3) == pytest.approx(0.7, abs=0.05)  # uniform scores: 1 - share, within sampling error


def test_a_sample_made_with_another_encoder_is_refused() -> None:
    with pytest.raises(ArtifactError, match="the one in use is ffffffffffff"):
        calibration.shipped_sample("minilm", "f" * 64)


def test_both_encoders_read_the_same_sample() -> None:
    (name, minilm), (other_name, static) = (calibration.shipped_sample(one, None) for one in ("minilm", "static"))
    assert name == other_name
    assert minilm.texts == static.texts
    np.testing.assert_array_equal(minilm.features, static.features)


def test_a_router_of_vectors_is_calibrated_as_shipped_on_those_of_the_sample() -> None:
    encoder = catalogue.load_encoder("static")
    router = catalogue.load("mf", "pretrained", encoder)
    found = calibration.as_shipped(router, PAIR, encoder)
    assert found is not None
    name, prompts = calibration.shipped_sample("static", encoder.id)
    assert found.sample == name
    np.testing.assert_allclose(found.lowest, router.score(prompts, PAIR).win_rates[:, 1])


@pytest.mark.parametrize("models", [2, 3, 5])
def test_a_router_of_texts_is_calibrated_as_shipped_on_its_own_win_rates(models: int) -> None:
    """Second way: on texts that it gives just those win rates."""
    encoder, lengths = catalogue.load_encoder("static"), GENERATOR.integers(1, 100, 60)
    router = Lengths(("chat-60", (lengths / 100).astype(np.float32)))
    found = calibration.as_shipped(router, tuple("abcde"[:models]), encoder)
    assert found is not None
    assert found.sample == "chat-60"
    nothing = np.zeros((60, 0), np.float32)
    prompts = Prompts(["x" * length for length in lengths], nothing, nothing)
    again = calibration.calibrate(router, tuple("abcde"[:models]), "again", prompts)
    np.testing.assert_allclose(found.lowest, again.lowest, atol=1e-7)
    np.testing.assert_allclose(found.lowest, lengths / 100 / (models - 1), atol=1e-7)


def test_a_router_of_texts_without_a_sample_is_not_calibrated() -> None:
    assert calibration.as_shipped(Lengths(), PAIR, catalogue.load_encoder("static")) is None


def test_calibrating_in_blocks_is_calibrating_at_once() -> None:
    prompts, seen = sample(150), []
    found = calibration.calibrate(Random(), PAIR, "made up", prompts, lambda done, total: seen.append((done, total)))
    np.testing.assert_array_equal(found.lowest, Random().score(prompts, PAIR).win_rates[:, 1])
    assert seen == [(64, 150), (128, 150), (150, 150)]
