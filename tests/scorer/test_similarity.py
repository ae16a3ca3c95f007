"""SW ranking equals a slow regression over battles, and closed forms where there are any."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from scorer.battles import BAR, Battles, concatenate
from scorer.routers.base import Prompts, UnknownModel
from scorer.routers.similarity import Similarity
from scorer.routers.variants import Sharp, Upstream, Variant
from scorer.tables import DataError
from tests.scorer.ranking import MODELS, Floats, arena, fit, made_up_prompts, quality_of, sigmoid, take, thumbs


@pytest.fixture(scope="module")
def router() -> Similarity:
    prompts = made_up_prompts(300)
    return fit(prompts, thumbs(prompts), Sharp(nearest=40))


def slow_regression(
    a: NDArray[np.intp], b: NDArray[np.intp], outcome: Floats, weight: Floats, ridge: float, players: int
) -> Floats:
    """Strengths by logistic regression over battles, each of them two rows: one that a won and one that b did."""
    x = np.zeros((2 * len(a), players))
    for row, (i, j) in enumerate(zip(np.tile(a, 2), np.tile(b, 2), strict=True)):
        x[row, i] += 1
        x[row, j] -= 1
    y = np.repeat([1.0, 0.0], len(a))
    w = np.concatenate([weight * outcome, weight * (1 - outcome)])
    theta = np.zeros(players)
    for _ in range(50):
        p = sigmoid(x @ theta)
        slope = x.T @ (w * (p - y)) + ridge * theta
        curvature = (x * (w * p * (1 - p))[:, None]).T @ x + ridge * np.eye(players)
        theta = theta - np.linalg.solve(curvature, slope)
    return theta


def slow_upstream(
    battles: Battles, rows: Floats, asked: Floats, ladder: list[str], count: int, ridge: float
) -> list[list[float]]:
    """RouteLLM's router, from its description: nothing summed, nothing shared with the real one."""
    names = sorted({*battles.model_a.tolist(), *battles.model_b.tolist()})
    a, b = (np.array([names.index(name) for name in side.tolist()]) for side in (battles.model_a, battles.model_b))
    rating = slow_regression(a, b, battles.outcome, battles.weight, ridge, len(names))
    models = sorted((i for i, name in enumerate(names) if name != BAR), key=lambda i: -rating[i])
    cuts = min(
        itertools.combinations(range(1, len(models)), count - 1),
        key=lambda cuts: sum(np.var(run) for run in np.split(rating[models], cuts)),
    )
    tier = {names[i]: t for t, run in enumerate(np.split(np.array(models), cuts)) for i in run} | {BAR: count}
    tier_a, tier_b = (np.array([tier[name] for name in side.tolist()]) for side in (battles.model_a, battles.model_b))
    apart = tier_a != tier_b
    win_rates = []
    for query in asked:
        cosine = np.array([query @ rows[i] for i in battles.prompt])
        weight = battles.weight * 10 * 10 ** (cosine / cosine.max())
        theta = slow_regression(tier_a[apart], tier_b[apart], battles.outcome[apart], weight[apart], ridge, count + 1)
        elo = 400 / np.log(10) * theta + 1000
        strong = elo[tier[ladder[0]]]
        win_rates.append([1 - 1 / (1 + 10 ** ((strong - elo[tier[model]]) / 400)) for model in ladder])
    return win_rates


@pytest.mark.parametrize("seed", range(4))
def test_upstream_equals_a_slow_regression_over_battles(seed: int) -> None:
    prompts, asked = made_up_prompts(150, seed), made_up_prompts(6, seed + 100)
    battles = arena(prompts, 900, 8, seed)
    router = fit(prompts, battles, Upstream(tiers=3, ridge=1.0))
    rows = router._blocks[0].rows.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ladder = ["m0", "m3", "m6"]
    expected = slow_upstream(battles, rows, asked.embeddings.astype(np.float64), ladder, 3, 1.0)
    scores = router.score(asked, ladder)
    np.testing.assert_allclose(scores.win_rates, expected, atol=1e-6)
    assert scores.quality is None
    assert scores.win_rates[:, 2].std() > 1e-4  # there is something to agree on


def test_upstream_on_alike_prompts_is_the_global_ranking() -> None:
    """Equal weights: gamma^2 for every battle, on the cells of all of them."""
    one = made_up_prompts(1)
    prompts = Prompts([f"p{i}" for i in range(80)], one.embeddings.repeat(80, 0), one.features.repeat(80, 0))
    battles = Battles.of(prompts.texts, ["big"] * 80, ["small"] * 80, [1.0] * 60 + [0.0] * 20)
    router = fit(prompts, battles, Upstream(ridge=1e-9))
    assert router.score(one, ["big", "small"]).win_rates[0] == pytest.approx([0.5, 0.75], abs=1e-9)


def test_battles_within_a_tier_count_for_nothing() -> None:
    prompts, asked = made_up_prompts(120), made_up_prompts(5, 1)
    battles = arena(prompts, 800, 8)
    router = fit(prompts, battles, Upstream(tiers=3))
    player = dict(zip(router.models, router._player.tolist(), strict=True))
    within = np.array([player[a] == player[b] for a, b in zip(battles.model_a, battles.model_b, strict=True)])
    assert within.sum() > 50
    more = router.append(battles.take(within), take(prompts, np.unique(battles.prompt[within]).tolist()))
    ladder = ["m0", "m6"]
    np.testing.assert_array_equal(more.score(asked, ladder).win_rates, router.score(asked, ladder).win_rates)


def test_own_models_and_the_bar_share_their_tier_with_nobody() -> None:
    prompts = made_up_prompts(120)
    router = fit(prompts, arena(prompts, 800, 8), Upstream(tiers=2, own=("m1", "m5")))
    player = dict(zip(router.models, router._player.tolist(), strict=True))
    assert len({player["m1"], player["m5"], player[BAR]}) == 3
    assert len(set(player.values())) == 5
    shared = {player[m] for m in ("m0", "m2", "m3", "m4", "m6")}
    assert len(shared) == 2
    assert not shared & {player["m1"], player["m5"], player[BAR]}


def test_sharp_is_the_mean_outcome_of_the_nearest_rows() -> None:
    """Flat weights, no ridge to speak of, models that meet the bar alone: the log odds undo the sigmoid."""
    prompts, asked = made_up_prompts(400), made_up_prompts(20, 1)
    generator = np.random.default_rng(0)
    outcome = {model: generator.random(400) for model in MODELS}
    battles = concatenate(Battles.of(prompts.texts, [model] * 400, [BAR] * 400, outcome[model]) for model in MODELS)
    router = fit(prompts, battles, Sharp(nearest=30, sharpness=0, features=0, ridge=1e-9))
    nearest = np.argsort(-(asked.embeddings @ prompts.embeddings.T), axis=1)[:, :30]
    expected = np.stack([outcome[model][nearest].mean(axis=1) for model in MODELS], axis=1)
    close = np.abs(quality_of(router, asked, list(MODELS)) - expected).max(axis=1) < 1e-6
    assert close.sum() >= 17  # int8 rows change who is thirtieth now and then
    np.testing.assert_allclose(quality_of(router, asked, list(MODELS)), expected, atol=0.04)


def test_sharpness_weighs_by_similarity() -> None:
    prompts, asked = made_up_prompts(50), made_up_prompts(3, 1)
    outcome = np.random.default_rng(0).random(50)
    battles = Battles.of(prompts.texts, ["big"] * 50, [BAR] * 50, outcome)
    router = fit(prompts, battles, Sharp(nearest=1000, sharpness=6, features=0, ridge=1e-9))
    weight = np.exp(6 * (asked.embeddings @ prompts.embeddings.T))
    expected = (weight @ outcome) / weight.sum(axis=1)
    np.testing.assert_allclose(quality_of(router, asked, ["big"])[:, 0], expected, atol=2e-3)


def test_features_take_part_in_the_similarity() -> None:
    """One embedding for all, outcomes by length: only the features can tell."""
    prompts = made_up_prompts(300)
    same = Prompts(prompts.texts, prompts.embeddings[:1].repeat(300, 0), prompts.features)
    battles = Battles.of(same.texts, ["big"] * 300, [BAR] * 300, (same.features[:, 0] > 100).astype(float))
    for features, low, high in ((0.0, 0.0, 0.01), (0.5, 0.7, 1.0)):
        router = fit(same, battles, Sharp(nearest=30, features=features))
        quality = quality_of(router, same, ["big"])[:, 0]
        assert low <= quality[same.features[:, 0] > 120].mean() - quality[same.features[:, 0] < 80].mean() <= high


def test_a_ranking_with_little_to_go_by_is_close_to_the_global_one() -> None:
    """One row moves a strength by at most its weight over the ridge; a hundred rows say something of their own."""
    prompts, asked = made_up_prompts(2000), made_up_prompts(50, 1)
    battles = thumbs(prompts)
    everywhere = battles.outcome.reshape(3, 2000).mean(axis=1)
    shrunk = quality_of(fit(prompts, battles, Sharp(nearest=1, ridge=20)), asked, list(MODELS))
    np.testing.assert_allclose(shrunk, [everywhere] * 50, atol=2 / 20 / 4 + 0.01)
    local = quality_of(fit(prompts, battles, Sharp(nearest=100, ridge=1)), asked, list(MODELS))
    assert local.std(axis=0).min() > 0.1


def test_rows_of_one_of_the_two_models_count_as_little_as_told() -> None:
    """Where both fought big is always good, where it fought alone never: ten such rows outweigh one, or none does."""
    prompts = made_up_prompts(300)
    both, alone = list(range(60)), list(range(60, 300))
    names = ["big"] * 60 + ["small"] * 60 + ["big"] * 240
    rows = both + both + alone
    battles = Battles.of([prompts.texts[i] for i in rows], names, [BAR] * 360, [1.0] * 60 + [0.5] * 60 + [0.0] * 240)
    asked = made_up_prompts(10, 1)
    for one_sided, quality in ((0.0, 1.0), (1.0, 0.2)):
        router = fit(prompts, battles, Sharp(nearest=1e6, one_sided=one_sided, sharpness=0, ridge=1e-6))
        pair = router.score(asked, ["small", "big"]).quality
        assert pair is not None
        np.testing.assert_allclose(pair[:, 1], quality, atol=1e-3)
    router = fit(prompts, battles, Sharp(nearest=1e6, one_sided=0.1, sharpness=0, ridge=1e-6))
    np.testing.assert_allclose(quality_of(router, asked, ["small", "big"])[:, 1], 60 / (60 + 0.1 * 240), atol=1e-3)


def test_models_that_only_met_each_other_are_ranked_through_one_another() -> None:
    prompts = made_up_prompts(200)
    texts = list(prompts.texts)
    battles = concatenate(
        [
            Battles.of(texts, ["big"] * 200, ["middle"] * 200, [0.75] * 200),
            Battles.of(texts, ["middle"] * 200, [BAR] * 200, [0.5] * 200),
        ]
    )
    quality = quality_of(fit(prompts, battles, Sharp(ridge=1e-6)), prompts, ["big", "middle"])
    np.testing.assert_allclose(quality, [[0.75, 0.5]] * 200, atol=1e-5)


def test_ties_and_weights_shift_the_odds_as_they_should() -> None:
    """9 to 1 by weight, and half of the rest tied: odds of (9 + 0.5 * 10) to (1 + 0.5 * 10)."""
    prompts = made_up_prompts(50)
    outcome, weight = np.repeat([1.0, 0.0, 0.5], 50), np.repeat([9.0, 1.0, 10.0], 50)
    battles = Battles.of(list(prompts.texts) * 3, ["big"] * 150, [BAR] * 150, outcome, weight)
    turned = Battles.of(list(prompts.texts) * 3, [BAR] * 150, ["big"] * 150, 1 - outcome, weight)
    for each in (battles, turned):
        np.testing.assert_allclose(quality_of(fit(prompts, each, Sharp(ridge=1e-6)), prompts, ["big"]), 0.7, atol=1e-6)


def test_win_rates_follow_from_the_pairs_qualities(router: Similarity) -> None:
    scores = router.score(made_up_prompts(9, 1), ["big", "small"])
    assert scores.quality is not None
    np.testing.assert_allclose(scores.win_rates, 0.5 + (scores.quality[:, :1] - scores.quality) / 2)
    assert scores.win_rates[:, 0].tolist() == [0.5] * 9
    assert ((scores.win_rates >= 0) & (scores.win_rates <= 1)).all()
    assert scores.win_rates[:, 1].mean() > 0.6


@pytest.mark.parametrize("chosen", [Sharp(nearest=40), Upstream(tiers=2)])
@pytest.mark.parametrize("rows", [[0], [3, 0], list(range(8, 0, -1)), [0] * 100, list(range(70))])
def test_a_score_does_not_depend_on_the_batch(chosen: Variant, rows: list[int]) -> None:
    prompts, asked = made_up_prompts(300, d=48), made_up_prompts(200, 1, d=48)
    fitted = fit(prompts, thumbs(prompts), chosen)
    whole, part = fitted.score(asked, MODELS), fitted.score(take(asked, rows), MODELS)
    np.testing.assert_array_equal(part.win_rates, whole.win_rates[rows])
    if whole.quality is not None:
        np.testing.assert_array_equal(part.quality, whole.quality[rows])


def test_a_score_does_not_depend_on_the_rest_of_the_ladder(router: Similarity) -> None:
    prompts = made_up_prompts(20, 1)
    three, two = router.score(prompts, MODELS), router.score(prompts, ["big", "small"])
    np.testing.assert_array_equal(three.win_rates[:, [0, 2]], two.win_rates)


def test_threads_do_not_disturb_each_other(router: Similarity) -> None:
    asked = [made_up_prompts(40, seed) for seed in range(1, 17)]
    alone = [router.score(prompts, MODELS).win_rates for prompts in asked]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda prompts: router.score(prompts, MODELS).win_rates, asked))
    np.testing.assert_array_equal(together, alone)


def test_no_prompts_have_no_scores(router: Similarity) -> None:
    assert router.score(made_up_prompts(0), MODELS).win_rates.shape == (0, 3)


def test_an_unknown_model_lies_between_its_known_neighbours(router: Similarity) -> None:
    prompts = made_up_prompts(30, 1)
    known = router.score(prompts, ["big", "small"]).win_rates
    between = router.score(prompts, ["big", "new", "newer", "small"]).win_rates
    np.testing.assert_allclose(between[:, 1:3], known.mean(axis=1)[:, None].repeat(2, 1))
    np.testing.assert_array_equal(router.score(prompts, ["new", "big", "small", "newest"]).win_rates[:, [0, 3]], known)


def test_a_ladder_of_strangers_is_refused_with_the_closest_names(router: Similarity) -> None:
    with pytest.raises(UnknownModel, match=r"knows no model of the ladder \(bigg, x\); set `like:` .* such as big"):
        router.score(made_up_prompts(1), ["bigg", "x"])


def test_an_absurd_prompt_stays_in_range(router: Similarity) -> None:
    prompts = made_up_prompts(2)
    far = Prompts(prompts.texts, prompts.embeddings, prompts.features * np.float32(1e6))
    farther = Prompts(prompts.texts, prompts.embeddings, prompts.features * np.float32(1e9))
    np.testing.assert_array_equal(router.score(far, MODELS).win_rates, router.score(farther, MODELS).win_rates)
    nothing = Prompts(["", ""], np.zeros_like(prompts.embeddings), prompts.features)
    assert np.isfinite(router.score(nothing, MODELS).win_rates).all()


def test_no_battles_are_refused() -> None:
    with pytest.raises(DataError, match="no battle to learn from"):
        fit(made_up_prompts(0), Battles.of([], [], [], []))


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), rows=st.integers(1, 60), nearest=st.floats(0.1, 100), one_sided=st.floats(0, 1))
def test_scores_are_probabilities_whatever_the_battles(seed: int, rows: int, nearest: float, one_sided: float) -> None:
    prompts = made_up_prompts(12, seed)
    battles = arena(prompts, rows, 6, seed)
    for chosen in (Sharp(nearest=nearest, one_sided=one_sided), Upstream(tiers=2)):
        router = fit(prompts, battles, chosen)
        ladder = [model for model in ("m0", "m1", "m2", "m3", "m4") if router.knows(model)]
        scores = router.score(made_up_prompts(3, seed + 1), ladder)
        for values in (scores.win_rates, scores.win_rates if scores.quality is None else scores.quality):
            assert ((values >= 0) & (values <= 1)).all()
