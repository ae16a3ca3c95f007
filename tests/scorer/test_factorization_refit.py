"""A refit of the MF router moves by what was said and no further, and new models begin as those they are like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scorer import artifacts
from scorer.battles import BAR, Battles, concatenate
from scorer.routers.base import Prompts
from scorer.routers.factorization import Factorization, Ridge
from scorer.tables import DataError
from tests.scorer.planted import (
    ENCODER,
    FEATURES,
    MODELS,
    QUICK,
    battles_of,
    fit,
    logits,
    made_up_prompts,
    planted,
    sigmoid,
)


@pytest.fixture(scope="module")
def router() -> Factorization:
    prompts = made_up_prompts(300)
    return fit(prompts, battles_of(prompts, [(model, BAR) for model in MODELS]), QUICK)


def thumbs(prompts: Prompts, model: str, outcome: float) -> Battles:
    n = len(prompts)
    return Battles.of(prompts.texts, [model] * n, [BAR] * n, [outcome] * n)


def test_a_refit_without_feedback_is_the_prior_exactly(router: Factorization) -> None:
    prompts = made_up_prompts(50, seed=7)
    refitted = router.refit(Battles.of([], [], [], []), prompts[:0])
    before, after = router.score(prompts, MODELS), refitted.score(prompts, MODELS)
    np.testing.assert_array_equal(after.win_rates, before.win_rates)
    assert before.quality is not None
    assert after.quality is not None
    np.testing.assert_array_equal(after.quality, before.quality)


def test_a_refit_recovers_what_changed() -> None:
    """The prior is planted on one seed's truth, then the small model becomes as good as the big one."""
    prompts, unseen = made_up_prompts(600), made_up_prompts(200, seed=1)
    prior = fit(prompts, battles_of(prompts, [(model, BAR) for model in MODELS]))
    truth = planted(prompts)
    n = len(prompts)
    outcome = sigmoid(truth["big"] - truth[BAR])
    battles = Battles.of(prompts.texts, ["small"] * n, [BAR] * n, outcome, 50.0)
    refitted = prior.refit(battles, prompts, ridge=Ridge(shared=100, own=0.1))
    expected = planted(unseen)
    np.testing.assert_allclose(
        sigmoid(logits(refitted, unseen, MODELS)[:, 2]), sigmoid(expected["big"] - expected[BAR]), atol=0.03
    )


def test_a_refit_is_a_factorization_that_saves_and_names_its_parent(router: Factorization, tmp_path: Path) -> None:
    prompts = made_up_prompts(80, seed=3)
    refitted = router.refit(thumbs(prompts, "small", 1), prompts, data={"ratings": 80})
    loaded = Factorization.load(refitted.save(tmp_path / "v"), ENCODER, FEATURES)
    np.testing.assert_array_equal(loaded.score(prompts, MODELS).win_rates, refitted.score(prompts, MODELS).win_rates)
    manifest = artifacts.read_manifest(tmp_path / "v")
    assert (manifest.parent, manifest.data, manifest.hyperparameters["own"]) == (router.version, {"ratings": 80}, 10)
    again = loaded.refit(thumbs(prompts, "small", 1), prompts)
    assert loaded._factors["P"].shape == again._factors["P"].shape  # it does not grow


def test_a_new_model_begins_exactly_as_the_one_it_is_like(router: Factorization) -> None:
    prompts, none = made_up_prompts(30), Battles.of([], [], [], [])
    ladder = ["big", "newcomer", "nobody", "small"]
    refitted = router.refit(none, made_up_prompts(1)[:0], ladder=ladder, like={"newcomer": "middle"})
    assert refitted.knows("newcomer")
    assert refitted.knows("nobody")
    after = logits(refitted, prompts, [*ladder, "middle"])
    np.testing.assert_array_equal(after[:, 1], after[:, 4])
    np.testing.assert_allclose(after[:, 2], (after[:, 1] + after[:, 3]) / 2, atol=1e-6)  # its neighbours' mean


def test_a_new_model_moves_on_its_own_feedback_and_leaves_its_stand_in(router: Factorization) -> None:
    prompts = made_up_prompts(200, seed=4)
    refitted = router.refit(thumbs(prompts, "new", 0), prompts, ladder=["big", "new"], like={"new": "middle"})
    after = logits(refitted, prompts, ["new", "middle"]).mean(axis=0)
    before = logits(router, prompts, ["middle"]).mean()
    assert after[0] < before - 1
    assert abs(after[1] - before) < abs(after[0] - before) / 20


def test_a_flood_of_thumbs_for_one_model_moves_it_twenty_times_as_far_as_the_others(router: Factorization) -> None:
    prompts = made_up_prompts(2000, seed=5)
    refitted = router.refit(thumbs(prompts, "small", 1), prompts)
    moved = (logits(refitted, prompts, MODELS) - logits(router, prompts, MODELS)).mean(axis=0)
    assert moved[2] > 1
    assert np.abs(moved[:2]).max() < moved[2] / 20


def test_what_all_ratings_say_of_a_prompt_is_said_of_the_models_that_were_not_rated(router: Factorization) -> None:
    """Prompts of one half are harder for the model that serves: the others' quality falls there, too."""
    prompts = made_up_prompts(1000, seed=6)
    harder = prompts.embeddings[:, 0] > 0
    n = len(prompts)
    battles = Battles.of(prompts.texts, ["big"] * n, [BAR] * n, np.where(harder, 0.1, 0.9))
    moved = logits(router.refit(battles, prompts), prompts, MODELS) - logits(router, prompts, MODELS)
    fell = moved[~harder].mean(axis=0) - moved[harder].mean(axis=0)
    assert fell[0] > 1
    assert (fell[1:] > 0.8 * fell[0]).all()


def test_the_loss_is_that_of_its_qualities(router: Factorization) -> None:
    prompts = made_up_prompts(40)
    battles = concatenate([thumbs(prompts, "big", 1), thumbs(prompts, "small", 0)])
    quality = router.score(prompts, MODELS).quality
    assert quality is not None
    expected = -(np.log(quality[:, 0]).mean() + np.log(1 - quality[:, 2]).mean()) / 2
    np.testing.assert_allclose(router.loss(battles, prompts), expected, rtol=1e-6)


def test_a_refit_refuses_a_model_that_is_neither_known_nor_on_the_ladder(router: Factorization) -> None:
    prompts = made_up_prompts(2)
    with pytest.raises(DataError, match="no vector for 'stranger', and the ladder no rung"):
        router.refit(thumbs(prompts, "stranger", 1), prompts)
