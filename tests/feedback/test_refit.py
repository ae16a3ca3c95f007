"""The refit moves a prior by logged feedback, and is not fooled by who was asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from feedback.battles import Evidence
from feedback.refit import CLIP, balanced, chosen_ridge, imputed, refit_mf, refit_sw
from scorer.battles import BAR, Battles
from scorer.routers.base import Prompts
from scorer.routers.factorization import Factorization, Ridge
from scorer.routers.similarity import Similarity

ENCODER = "e" * 64
LADDER = ("big", "small")
FIXED = 1e9  # precision of what does not move
NAIVE = Ridge(shared=FIXED, shared_level=FIXED, own=1.0)
OURS = Ridge(shared=0.1, own=1.0)

Floats = NDArray[np.float64]


def made_up_prompts(n: int, seed: int) -> Prompts:
    generator = np.random.default_rng(seed)
    embeddings = generator.normal(size=(n, 3)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return Prompts(tuple(f"{seed}-{i}" for i in range(n)), embeddings, np.zeros((n, 1), np.float32))


def prior() -> Factorization:
    """Everybody beats the bar half the time, everywhere."""
    factors: dict[str, NDArray[Any]] = {
        "V": np.eye(3, dtype=np.float32),
        "w": np.ones(3, np.float32),
        "P": np.zeros((3, 5)),
        "mean": np.zeros(1, np.float32),
        "scale": np.ones(1, np.float32),
    }
    about = {"version": "v0", "encoder_id": ENCODER, "features": ("f",), "data": {}, "hyperparameters": {}}
    return Factorization(("big", "small", BAR), factors, about | {"metrics": {}})


def similarity(prompts: Prompts) -> Similarity:
    n = len(prompts)
    battles = Battles.of(list(prompts.texts) * 2, ["big"] * n + ["small"] * n, [BAR] * 2 * n, [0.5] * 2 * n)
    return Similarity.fit(battles, prompts, encoder_id=ENCODER, features=("f",))


def rated(prompts: Prompts, model: NDArray[np.int64], outcome: Floats, propensity: Floats) -> Evidence:
    n = len(prompts)
    names = np.array(LADDER)[model]
    return Evidence(
        Battles.of(prompts.texts, names.tolist(), [BAR] * n, outcome), prompts, propensity, np.arange(n).astype(str)
    )


def truth(prompts: Prompts) -> Floats:
    """(n, 2) qualities: a difficulty that both share along the first axis, small worse along the second."""
    x = prompts.embeddings.astype(float)
    logits = np.stack([1.5 - 3 * x[:, 0], 0.5 - 3 * x[:, 0] - 1.5 * x[:, 1]], axis=1)
    return np.asarray(1 / (1 + np.exp(-logits)))


def confounded(prompts: Prompts, seed: int) -> Evidence:
    """Hard prompts go to big, easy ones to small, all but 5 %: on its own ratings small looks the better of the two."""
    generator = np.random.default_rng(seed)
    hard = prompts.embeddings[:, 0] > 0
    choice_small = np.where(hard, 0.025, 0.975)
    small = (generator.random(len(prompts)) < choice_small).astype(int)
    thumbs = generator.random(len(prompts)) < truth(prompts)[np.arange(len(prompts)), small]
    return rated(prompts, small, thumbs.astype(float), np.where(small == 1, choice_small, 1 - choice_small))


def quality(router: Factorization | Similarity, prompts: Prompts) -> Floats:
    scored = router.score(prompts, LADDER).quality
    assert scored is not None
    return scored


def test_without_feedback_the_refit_is_the_prior_exactly() -> None:
    empty = Evidence(Battles.of([], [], [], []), made_up_prompts(1, 0)[:0], np.zeros(0), np.zeros(0, str))
    prompts = made_up_prompts(20, 1)
    np.testing.assert_array_equal(quality(refit_mf(prior(), empty), prompts), quality(prior(), prompts))
    sw = similarity(prompts)
    np.testing.assert_array_equal(quality(refit_sw(sw, empty, prior(), ladder=LADDER), prompts), quality(sw, prompts))


def test_shared_difficulty_undoes_a_confounding_that_a_naive_fit_shows() -> None:
    """On hard prompts small is worse by 0.17 in truth. It was asked there 1 time in 40, and otherwise on easy ones."""
    evidence, unseen = confounded(made_up_prompts(600, 1), 2), made_up_prompts(3000, 3)
    hard = unseen.embeddings[:, 0] > 0.3
    lead = (truth(unseen) @ [1, -1])[hard].mean()
    ours = refit_mf(prior(), evidence, ridge=OURS)
    naive = prior().refit(evidence.battles, evidence.prompts, ridge=NAIVE)
    error = [abs((quality(router, unseen) @ [1, -1])[hard].mean() - lead) for router in (ours, naive)]
    assert lead == pytest.approx(0.17, abs=0.01)
    assert error[1] > 0.1
    assert error[0] < 0.05


def test_propensities_undo_a_confounding_that_no_input_shows() -> None:
    """Hard and easy prompts look alike; small is sent 3 of 4 easy ones, big 3 of 4 hard ones. Both are right on 80 % of
    the easy and 30 % of the hard: on the whole 55 %, and unweighted 67.5 % and 42.5 %."""
    n = 20_000
    prompts = Prompts(tuple(map(str, range(n))), np.zeros((n, 3), np.float32), np.zeros((n, 1), np.float32))
    hard, sent_small, right = np.random.default_rng(3).random((3, n))
    choice_small = np.where(hard < 0.5, 0.25, 0.75)
    small = (sent_small < choice_small).astype(int)
    thumbs = (right < np.where(hard < 0.5, 0.3, 0.8)).astype(float)
    evidence = rated(prompts, small, thumbs, np.where(small == 1, choice_small, 1 - choice_small))
    level = Ridge(own_level=0.01, shared_level=FIXED)
    corrected = quality(refit_mf(prior(), evidence, ridge=level), prompts[:1])[0]
    uncorrected = quality(prior().refit(evidence.battles, evidence.prompts, ridge=level), prompts[:1])[0]
    np.testing.assert_allclose(corrected, [0.55, 0.55], atol=0.015)
    np.testing.assert_allclose(uncorrected, [0.425, 0.675], atol=0.015)


def test_weights_are_clipped_inverse_propensities_of_the_same_total() -> None:
    evidence = rated(made_up_prompts(3, 0), np.zeros(3, int), np.ones(3), np.array([1.0, 0.5, 0.01]))
    weight = balanced(evidence).battles.weight
    np.testing.assert_allclose(weight / weight[0], [1, 2, CLIP])
    assert weight.sum() == pytest.approx(3)


def test_ratings_weigh_as_often_as_they_are_repeated() -> None:
    """Second way to a weight of 2: the row twice."""
    once = confounded(made_up_prompts(50, 4), 5)
    battles = once.battles
    doubled = replace(battles, weight=battles.weight * 2)
    rows = np.tile(np.arange(50), 2)
    repeated = battles.take(rows)
    heavy = prior().refit(doubled, once.prompts, ridge=OURS)
    np.testing.assert_allclose(
        quality(heavy, once.prompts),
        quality(prior().refit(repeated, once.prompts, ridge=OURS), once.prompts),
        atol=1e-7,
    )


def test_the_ridge_is_the_one_that_predicts_held_out_ratings() -> None:
    """Ratings full of signal want a loose prior, coin tosses a firm one."""
    prompts = made_up_prompts(2000, 6)
    grid = (Ridge(shared=0.1, own=0.1), Ridge(shared=1e5, own=1e5))
    telling = confounded(prompts, 7)
    tossed = (np.random.default_rng(8).random(2000) < 0.5).astype(float)
    noise = rated(prompts, np.zeros(2000, int), tossed, np.ones(2000))
    assert chosen_ridge(prior(), telling, grid=grid) is grid[0]
    assert chosen_ridge(prior(), noise, grid=grid) is grid[1]


def test_what_did_not_serve_is_imputed_and_ratings_stay() -> None:
    evidence = confounded(made_up_prompts(40, 9), 1)
    mf = refit_mf(prior(), evidence, ridge=OURS)
    battles = imputed(evidence, mf, LADDER)
    assert len(battles) == 80
    said, expected = battles.take(battles.source != "expected"), battles.take(battles.source == "expected")
    np.testing.assert_array_equal(said.outcome, evidence.battles.outcome)
    for i, text in enumerate(evidence.prompts.texts):
        (row,) = np.flatnonzero(np.array(expected.prompts)[expected.prompt] == text)
        other = LADDER.index(str(expected.model_a[row]))
        assert expected.model_a[row] != evidence.battles.model_a[i]
        assert expected.outcome[row] == pytest.approx(quality(mf, evidence.prompts)[i, other])


def test_sw_learns_from_appended_ratings_what_mf_learns() -> None:
    known = made_up_prompts(100, 10)
    evidence, unseen = confounded(made_up_prompts(3000, 1), 2), made_up_prompts(200, 3)
    mf = refit_mf(prior(), evidence, ridge=OURS)
    refitted = refit_sw(similarity(known), evidence, mf, ladder=LADDER)
    assert np.corrcoef(quality(refitted, unseen)[:, 1], truth(unseen)[:, 1])[0, 1] > 0.95
    assert refitted.version != similarity(known).version


def test_a_new_model_of_sw_begins_as_the_one_it_is_like() -> None:
    prompts = made_up_prompts(60, 11)
    sw = similarity(prompts).append(
        Battles.of(prompts.texts, ["big"] * 60, ["small"] * 60, np.linspace(0, 1, 60)), prompts
    )
    joined = sw.joined_by(["newcomer", "small"], {"newcomer": "big"})
    assert joined.knows("newcomer")
    np.testing.assert_allclose(
        joined.score(prompts, ["newcomer", "small"]).win_rates[:, 1],
        sw.score(prompts, ["big", "small"]).win_rates[:, 1],
        atol=0.02,  # the copy's battles are evidence about those who met it, too
    )
