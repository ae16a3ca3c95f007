"""The MF router recovers planted models, agrees with logistic regression, and serves what it fitted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from scorer import artifacts
from scorer.artifacts import ArtifactError
from scorer.battles import BAR, Battles
from scorer.calibration import PRETRAINED, SAMPLE, shipped_sample
from scorer.routers.base import Prompts, Router, UnknownModel
from scorer.routers.factorization import Factorization, Hyperparameters
from scorer.tables import DataError
from tests.scorer.planted import (
    ENCODER,
    FEATURES,
    MODELS,
    QUICK,
    battles_of,
    fit,
    made_up_prompts,
    planted,
    sigmoid,
)


@pytest.fixture(scope="module")
def router() -> Factorization:
    prompts = made_up_prompts(300)
    return fit(prompts, battles_of(prompts, [(model, BAR) for model in MODELS]), QUICK)


def test_planted_models_are_recovered_from_thumbs_and_comparisons() -> None:
    prompts, unseen = made_up_prompts(600), made_up_prompts(200, seed=1)
    fitted = fit(prompts, battles_of(prompts, [("big", BAR), ("big", "middle"), ("small", "middle")]))
    quality = fitted.score(unseen, MODELS).quality
    truth = planted(unseen)
    assert quality is not None
    for column, model in enumerate(MODELS):  # middle and small never met the bar
        np.testing.assert_allclose(quality[:, column], sigmoid(truth[model] - truth[BAR]), atol=0.05)


def test_it_is_logistic_regression_on_the_collapsed_form() -> None:
    """Second way: one model against the bar is a logistic regression, here of a step, solved by Newton's method."""
    prompts = made_up_prompts(2000)
    outcome = np.where(prompts.embeddings[:, 0] > 0, 0.8, 0.3)
    battles = Battles.of(prompts.texts, ["big"] * 2000, [BAR] * 2000, outcome)
    standardised = (prompts.features - prompts.features.mean(0)) / prompts.features.std(0)
    x = np.concatenate([prompts.embeddings, standardised, np.ones((2000, 1))], axis=1).astype(np.float64)
    u = np.zeros(x.shape[1])
    for _ in range(20):
        p = sigmoid(x @ u)
        u += np.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]), x.T @ (outcome - p))
    fine = Hyperparameters(
        rank=2, restarts=2, learning_rate=0.01, decay=0, noise=0, batch=500, epochs=100, patience=100
    )
    quality = fit(prompts, battles, fine).score(prompts, ["big"]).quality
    assert quality is not None
    assert sigmoid(x @ u).std() > 0.15  # there is something to agree on
    np.testing.assert_allclose(quality[:, 0], sigmoid(x @ u), atol=0.015)


def test_ties_and_weights_shift_the_odds_as_they_should() -> None:
    """9 to 1 by weight, and half of the rest tied: odds of (9 + 0.5 * 10) to (1 + 0.5 * 10)."""
    prompts = made_up_prompts(400)
    texts = list(prompts.texts) * 3
    outcome = np.repeat([1.0, 0.0, 0.5], 400)
    battles = Battles.of(texts, ["big"] * 1200, [BAR] * 1200, outcome, np.repeat([9.0, 1.0, 10.0], 400))
    quality = fit(prompts, battles).score(prompts, ["big"]).quality
    assert quality is not None
    np.testing.assert_allclose(quality.mean(), 14 / 20, atol=0.01)


def test_win_rates_follow_from_quality(router: Factorization) -> None:
    scores = router.score(made_up_prompts(9), MODELS)
    assert scores.quality is not None
    np.testing.assert_allclose(scores.win_rates, 0.5 + (scores.quality[:, :1] - scores.quality) / 2)
    assert scores.win_rates[:, 0].tolist() == [0.5] * 9
    assert ((scores.win_rates >= 0) & (scores.win_rates <= 1)).all()


@pytest.mark.parametrize("rows", [[0], [3, 0], list(range(8, 0, -1)), [0] * 100])
def test_a_score_does_not_depend_on_the_batch(router: Factorization, rows: list[int]) -> None:
    prompts = made_up_prompts(200)
    whole = router.score(prompts, MODELS).win_rates
    part = Prompts([prompts.texts[i] for i in rows], prompts.embeddings[rows], prompts.features[rows])
    np.testing.assert_array_equal(router.score(part, MODELS).win_rates, whole[rows])


def test_a_score_does_not_depend_on_the_rest_of_the_ladder(router: Factorization) -> None:
    prompts = made_up_prompts(20)
    three, two = router.score(prompts, MODELS), router.score(prompts, ["big", "small"])
    np.testing.assert_array_equal(three.win_rates[:, [0, 2]], two.win_rates)


def test_an_unknown_model_lies_between_its_known_neighbours(router: Factorization) -> None:
    def logits(ladder: list[str]) -> NDArray[np.float64]:
        quality = router.score(made_up_prompts(30), ladder).quality
        assert quality is not None
        return np.log(quality / (1 - quality))

    np.testing.assert_allclose(logits(["big", "new", "newer", "small"])[:, 1], logits(["big", "small"]).mean(axis=1))
    np.testing.assert_allclose(logits(["new", "big", "small", "newest"])[:, [0, 3]], logits(["big", "small"]))


def test_a_ladder_of_strangers_is_refused_with_the_closest_names(router: Factorization) -> None:
    with pytest.raises(UnknownModel, match=r"knows no model of the ladder \(bigg, x\); set `like:` .* such as big"):
        router.score(made_up_prompts(1), ["bigg", "x"])


def test_the_same_seed_gives_the_same_router(router: Factorization) -> None:
    prompts = made_up_prompts(300)
    battles = battles_of(prompts, [(model, BAR) for model in MODELS])
    again = fit(prompts, battles, QUICK)
    assert again.version.rsplit("-", 1)[1] == router.version.rsplit("-", 1)[1]  # the part that names the content
    other = fit(prompts, battles, Hyperparameters(rank=3, restarts=2, learning_rate=0.02, epochs=6, seed=1))
    assert other.version.rsplit("-", 1)[1] != router.version.rsplit("-", 1)[1]


def test_restarts_are_averaged(router: Factorization) -> None:
    """The collapsed vectors of two restarts' router are the means of those of two routers of one restart each."""
    prompts = made_up_prompts(300)
    battles = battles_of(prompts, [(model, BAR) for model in MODELS])
    single = [
        fit(prompts, battles, Hyperparameters(rank=3, restarts=1, learning_rate=0.02, epochs=6, seed=seed))
        for seed in (0, 1)
    ]
    for player in (*MODELS, BAR):
        mean = (single[0]._vectors[player] + single[1]._vectors[player]) / 2
        np.testing.assert_allclose(router._vectors[player], mean, atol=1e-5)


def test_progress_is_reported_and_the_best_epoch_kept() -> None:
    prompts, seen = made_up_prompts(200), []
    battles = battles_of(prompts, [("big", BAR)], sampled=1)
    chosen = Hyperparameters(rank=4, restarts=1, learning_rate=0.1, decay=0, noise=0, batch=20, epochs=60, patience=3)
    fitted = Factorization.fit(
        battles, prompts, encoder_id=ENCODER, features=FEATURES, chosen=chosen, progress=lambda *at: seen.append(at)
    )
    losses = [loss for _, _, loss in seen]
    assert len(losses) == int(np.argmin(losses)) + 1 + 3  # stopped by patience, not by the limit
    assert fitted.metrics["held_out_loss"] == [pytest.approx(min(losses), abs=1e-5)]


def test_too_few_prompts_are_refused() -> None:
    prompts = made_up_prompts(5)
    with pytest.raises(DataError, match="5 prompts with battles; fitting takes at least 20"):
        fit(prompts, battles_of(prompts, [("big", BAR)]))


def test_an_absurd_prompt_stays_in_range(router: Factorization) -> None:
    prompts = made_up_prompts(2)
    far = Prompts(prompts.texts, prompts.embeddings, prompts.features * np.float32(1e6))
    farther = Prompts(prompts.texts, prompts.embeddings, prompts.features * np.float32(1e9))
    np.testing.assert_array_equal(router.score(far, MODELS).win_rates, router.score(farther, MODELS).win_rates)


def test_a_saved_router_scores_the_same(router: Factorization, tmp_path: Path) -> None:
    directory = router.save(tmp_path / "mf" / router.version, {"apgr": 0.6})
    loaded: Router = Factorization.load(directory, ENCODER, FEATURES)
    prompts = made_up_prompts(20)
    np.testing.assert_array_equal(loaded.score(prompts, MODELS).win_rates, router.score(prompts, MODELS).win_rates)
    manifest = artifacts.read_manifest(directory)
    assert (loaded.version, manifest.features, manifest.metrics["apgr"]) == (router.version, FEATURES, 0.6)
    assert manifest.hyperparameters["rank"] == 3
    assert loaded.knows("big")
    assert not loaded.knows(BAR)


def test_another_encoder_is_refused(router: Factorization, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="the one in use is ffffffffffff"):
        Factorization.load(router.save(tmp_path / "v"), "f" * 64, FEATURES)


@pytest.mark.parametrize(
    ("tensor", "fault"), [("V", r"'V' is \(4, 5\), expected \(4, 6\)"), ("P", r"'P' is"), ("mean", "no tensor 'mean'")]
)
def test_factors_that_do_not_fit_each_other_are_refused(
    router: Factorization, tmp_path: Path, tensor: str, fault: str
) -> None:
    factors = dict(router._factors)
    factors[tensor] = factors[tensor][..., :-1]
    if tensor == "mean":
        del factors["mean"]
    elif tensor == "P":
        factors["P"] = factors["P"][:3]
    artifacts.write(
        tmp_path / "v", factors, router="mf", version="v", encoder_id=ENCODER, models=router.players, features=FEATURES
    )
    with pytest.raises(ArtifactError, match=fault):
        Factorization.load(tmp_path / "v", ENCODER, FEATURES)


def test_other_features_are_refused(router: Factorization, tmp_path: Path) -> None:
    directory = router.save(tmp_path / "v")
    with pytest.raises(ArtifactError, match=r"fitted on other features \(digits, numbers\); train again"):
        Factorization.load(directory, ENCODER, ("length", "numbers"))
    with pytest.raises(ArtifactError, match="their order"):
        Factorization.load(directory, ENCODER, FEATURES[::-1])


def test_the_shipped_router_is_small_and_knows_the_benchmarks_pair() -> None:
    directory = PRETRAINED / "minilm" / "mf"
    shipped = Factorization.load(directory, None)
    assert shipped.knows("gpt-4-1106-preview")
    assert shipped.knows("mixtral-8x7b-instruct-v0.1")
    assert sum(path.stat().st_size for path in directory.iterdir()) < 2**20
    assert (
        artifacts.read_manifest(directory).encoder_id
        == artifacts.read_manifest(PRETRAINED / "minilm" / SAMPLE).encoder_id
    )


def test_the_shipped_router_ranks_the_shipped_sample_by_more_than_noise() -> None:
    """The strongest model's quality lies above the weak one's on nearly every prompt, by very different amounts."""
    _, sample = shipped_sample("minilm", None)
    win = Factorization.load(PRETRAINED / "minilm" / "mf", None).score(
        sample, ["gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1"]
    )
    assert (win.win_rates[:, 1] > 0.5).mean() > 0.95
    assert 0.02 < win.win_rates[:, 1].std() < 0.2


def test_serving_never_imports_torch() -> None:
    code = (
        "import sys, json; from scorer.calibration import PRETRAINED, calibrate, shipped_sample;"
        "from scorer.routers.factorization import Factorization;"
        "router = Factorization.load(PRETRAINED / 'minilm' / 'mf', None);"
        "calibrate(router, ('gpt-4o', 'gemma-7b'), *shipped_sample('minilm', None));"
        "print(json.dumps(sorted(sys.modules)))"
    )
    loaded = set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))
    assert not loaded & {"torch", "pyarrow", "pandas", "onnxruntime"}
