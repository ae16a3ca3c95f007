"""Grounds of scores: parts that sum to them, closed forms where there are any, and where rows are from."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scorer.artifacts import ArtifactError
from scorer.battles import BAR, Battles
from scorer.routers.base import Prompts, Router, UnknownModel
from scorer.routers.boosted import Boosted
from scorer.routers.factorization import Factorization
from scorer.routers.grounds import CONSTANT, EMBEDDING, GLOBAL, OTHERS, Explains, Grounds, Part, shortened
from scorer.routers.random import Random
from scorer.routers.similarity import Similarity
from scorer.routers.variants import Sharp, Upstream, Variant
from tests.scorer import planted as factors
from tests.scorer import ranking
from tests.scorer import test_boosted as trees

MODELS = ("big", "middle", "small")


def one(prompts: Prompts, row: int) -> Prompts:
    return prompts[row : row + 1]


def summed(grounds: Grounds) -> float:
    return sum(part.value for part in grounds.parts) + sum(near.value for near in grounds.neighbours)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def scored(router: Router, prompt: Prompts, ladder: tuple[str, ...], of: str) -> list[float]:
    scores = router.score(prompt, ladder)
    rates = scores.win_rates if of == "win rate" else scores.quality
    assert rates is not None
    return [float(rate) for rate in rates[0]]


# Matrix factorization


@pytest.fixture(scope="module")
def mf() -> Factorization:
    prompts = factors.made_up_prompts(300)
    return factors.fit(prompts, factors.battles_of(prompts, [(model, BAR) for model in MODELS]), factors.QUICK)


def test_mf_parts_sum_to_the_quality_of_every_model_even_of_one_between_two(mf: Factorization) -> None:
    ladder = ("big", "unheard of", "small")
    for row in range(5):
        prompt = one(factors.made_up_prompts(5, 1), row)
        found = mf.explain(prompt, ladder)
        assert [grounds.model for grounds in found] == list(ladder)
        for grounds, quality in zip(found, scored(mf, prompt, ladder, "quality"), strict=True):
            assert [part.name for part in grounds.parts] == [EMBEDDING, *factors.FEATURES, CONSTANT]
            assert summed(grounds) == pytest.approx(grounds.total, abs=1e-12)
            assert grounds.total == pytest.approx(logit(quality), abs=1e-9)


def test_mf_part_of_a_feature_is_what_the_logit_loses_where_the_feature_is_as_usual(mf: Factorization) -> None:
    """Second way: a feature at its mean adds nothing, and all else stays as it was."""
    prompt = one(factors.made_up_prompts(5, 1), 3)
    usual = replace(prompt, features=prompt.features.copy())
    usual.features[0, 1] = mf._factors["mean"][1]
    before, after = (logit(scored(mf, each, MODELS, "quality")[0]) for each in (prompt, usual))
    assert abs(before - after) > 0.01
    assert dict(mf.explain(prompt, MODELS)[0].parts)["digits"] == pytest.approx(before - after, abs=1e-6)


def test_mf_that_knows_nobody_says_so(mf: Factorization) -> None:
    with pytest.raises(UnknownModel):
        mf.explain(factors.made_up_prompts(1), ("who", "what"))


# Boosted trees


def test_boosted_parts_sum_to_the_win_rate_of_the_cheapest() -> None:
    prompts = trees.made_up_prompts(300)
    router = trees.fit(
        prompts, trees.battles_of(prompts, np.where(prompts.embeddings[:, 0] > 0, 0.9, 0.4)), trees.QUICK
    )
    for row in range(5):
        prompt = one(trees.made_up_prompts(5, 1), row)
        (grounds,) = router.explain(prompt, MODELS)
        assert (grounds.model, grounds.of) == ("small", "win rate")
        assert summed(grounds) == pytest.approx(grounds.total, abs=1e-9)
        assert grounds.total == pytest.approx(logit(scored(router, prompt, MODELS, "win rate")[2]), abs=1e-5)


def test_boosted_feature_that_alone_counts_adds_the_difference_of_the_logits() -> None:
    """Closed form: win rates of 0.8 with digits and 0.3 without, and nothing else to tell prompts apart by."""
    prompts, digits = trees.halves(400)
    prompts.embeddings[:], prompts.features[:, :2] = 0.5, 1
    router: Boosted = trees.fit(prompts, trees.battles_of(prompts, np.where(digits, 0.8, 0.3)))
    without, having = (dict(router.explain(one(prompts, row), MODELS)[0].parts) for row in (0, 1))
    assert having["digits"] - without["digits"] == pytest.approx(logit(0.8) - logit(0.3), abs=0.01)
    assert having["digits"] > 0 > without["digits"]
    assert without[EMBEDDING] == without["log_chars"] == without["log_words"] == 0


def test_boosted_slope_of_the_prior_is_the_lengths() -> None:
    """Closed form: where no tree is grown there is the prior alone."""
    prompts = trees.made_up_prompts(100)
    chosen = replace(trees.QUICK, trees=1, learning_rate=1e-9, slope=0.3)
    router = trees.fit(prompts, trees.battles_of(prompts, np.where(prompts.embeddings[:, 0] > 0, 0.9, 0.4)), chosen)
    parts = dict(router.explain(one(prompts, 7), MODELS)[0].parts)
    scaled = (prompts.features[7, 0] - prompts.features[:, 0].mean()) / prompts.features[:, 0].std()
    assert parts["log_chars"] == pytest.approx(0.3 * scaled, abs=1e-6)
    assert parts[CONSTANT] == pytest.approx(float(router._tensors["prior"][0]), abs=1e-6)


# Similarity-weighted ranking


@given(seed=st.integers(0, 1000), nearest=st.floats(1, 60), one_sided=st.floats(0, 1), sharpness=st.floats(0, 20))
@settings(max_examples=25, deadline=None)
def test_sharp_parts_and_neighbours_sum_to_the_quality(
    seed: int, nearest: float, one_sided: float, sharpness: float
) -> None:
    prompts = ranking.made_up_prompts(40, seed)
    chosen = Sharp(nearest=nearest, one_sided=one_sided, sharpness=sharpness, ridge=0.3)
    router = ranking.fit(prompts, ranking.arena(prompts, 200, 5, seed), chosen)
    prompt, ladder = one(ranking.made_up_prompts(1, seed + 1), 0), ("m0", "m1", "m3")
    for grounds, quality in zip(router.explain(prompt, ladder), scored(router, prompt, ladder, "quality"), strict=True):
        assert grounds.total == pytest.approx(logit(quality), abs=1e-9)
        assert summed(grounds) == pytest.approx(grounds.total, abs=1e-6)
        shares = [near.share for near in grounds.neighbours]
        assert sum(shares) <= 1 + 1e-9
        assert shares == sorted(shares, reverse=True)


@given(seed=st.integers(0, 1000), own=st.booleans())
@settings(max_examples=10, deadline=None)
def test_upstream_neighbours_sum_to_the_win_rate(seed: int, own: bool) -> None:
    prompts = ranking.made_up_prompts(40, seed)
    chosen = Upstream(tiers=3, own=("m0", "m2") if own else ())
    router = ranking.fit(prompts, ranking.arena(prompts, 200, 5, seed), chosen)
    prompt, ladder = one(ranking.made_up_prompts(1, seed + 1), 0), ("m0", "m1", "m2")
    found = router.explain(prompt, ladder)
    assert [(grounds.model, grounds.of) for grounds in found] == [("m1", "win rate"), ("m2", "win rate")]
    for grounds, win in zip(found, scored(router, prompt, ladder, "win rate")[1:], strict=True):
        assert grounds.total == pytest.approx(logit(win), abs=1e-9)
        assert summed(grounds) == pytest.approx(grounds.total, abs=1e-6)
        assert grounds.parts[0] == Part(GLOBAL, 0.0)  # upstream pulls towards nothing but 0


@given(
    seed=st.integers(0, 1000),
    chosen=st.sampled_from([Sharp(ridge=0.3), Sharp(nearest=3), Upstream(tiers=3), Upstream()]),
)
@settings(max_examples=25, deadline=None)
def test_where_every_prompt_is_named_the_others_add_nothing(seed: int, chosen: Variant) -> None:
    """Second way: each neighbour's value is summed from its battles, the total is Newton's."""
    prompts = ranking.made_up_prompts(8, seed)
    router = ranking.fit(prompts, ranking.arena(prompts, 60, 5, seed), chosen)
    for grounds in router.explain(ranking.made_up_prompts(1, seed + 1), ("m0", "m1", "m3")):
        assert dict(grounds.parts)[OTHERS] == pytest.approx(0, abs=1e-6)
        assert len(grounds.neighbours) <= 8
        if grounds.neighbours:  # to `upstream` no prompt counts where all are unlike it
            assert sum(near.share for near in grounds.neighbours) == pytest.approx(1)


def test_neighbour_adds_what_was_won_there_beyond_expectation() -> None:
    """Closed form, rows alike and one model against the bar: 2 (y - quality) / ridge, twice as the bar moves too."""
    outcomes = [1.0, 0.0, 1.0, 0.5, 1.0]
    prompts = ranking.made_up_prompts(5)
    battles = Battles.of(prompts.texts, ["big"] * 5, [BAR] * 5, outcomes)
    router = ranking.fit(prompts, battles, Sharp(nearest=100, one_sided=1, sharpness=0, ridge=0.7))
    prompt = one(ranking.made_up_prompts(1, 9), 0)
    (grounds,) = router.explain(prompt, ("big",))
    quality = scored(router, prompt, ("big",), "quality")[0]
    for near in grounds.neighbours:
        assert near.share == pytest.approx(0.2)
        assert near.value == pytest.approx(2 * (near.won["big"] - quality) / 0.7, abs=1e-9)
    assert sorted(near.won["big"] for near in grounds.neighbours) == sorted(outcomes)


def test_neighbours_are_the_nearest_and_say_who_won_there() -> None:
    prompts = ranking.made_up_prompts(30)
    texts = list(prompts.texts) * 2
    outcome = [1.0] * 30 + [0.25] * 30
    battles = Battles.of(texts, ["big"] * 30 + ["small"] * 30, [BAR] * 60, outcome)
    router = ranking.fit(prompts, battles, Sharp(nearest=4, features=0.0))
    found = router.explain(one(prompts, 12), ("big", "small"))
    cosines = np.sort(prompts.embeddings @ prompts.embeddings[12])[::-1]
    for grounds in found:
        np.testing.assert_allclose([near.similarity for near in grounds.neighbours], cosines[:4], atol=0.01)
        assert grounds.neighbours[0].similarity == pytest.approx(1, abs=1e-3)
    assert [dict(near.won) for near in found[1].neighbours] == [{"big": 1.0, "small": 0.25}] * 4
    assert [dict(near.won) for near in found[0].neighbours] == [{"big": 1.0}] * 4


def test_model_between_two_has_no_grounds_of_its_own() -> None:
    prompts = ranking.made_up_prompts(20)
    router = ranking.fit(prompts, ranking.thumbs(prompts))
    found = router.explain(one(prompts, 0), ("big", "unheard of", "small"))
    assert [grounds.model for grounds in found] == ["big", "small"]
    with pytest.raises(UnknownModel):
        router.explain(one(prompts, 0), ("who",))


# Where rows are from


def appended() -> tuple[Similarity, Prompts]:
    """Rows of two files, and one more of the log, which is nearest to itself."""
    prompts, later = ranking.made_up_prompts(6), ranking.made_up_prompts(1, 3)
    sources = ["exam", "exam", "chat", "exam", "chat", "chat"]
    battles = Battles.of(prompts.texts, ["big"] * 6, [BAR] * 6, [1.0, 0.0] * 3, source=sources)
    router = ranking.fit(prompts, battles, Sharp(nearest=100, one_sided=1))
    logged = Battles.of(["ab" * 32] * 2, ["big", "small"], [BAR] * 2, [1.0, 0.0], source=["human", "expected"])
    return router.joined_by(["new"], {"new": "big"}).append(logged, later), later


def test_origins_outlive_appending_saving_and_loading(tmp_path: Path) -> None:
    router, prompt = appended()
    loaded = Similarity.load(router.save(tmp_path / "v"), ranking.ENCODER, ranking.FEATURES)
    for each in (router, loaded):
        ours, new = each.explain(prompt, ("big", "new"))  # new is a copy of what big was before
        first, *rest = ours.neighbours
        assert (first.source, first.text_hash, first.won) == ("human", "ab" * 32, {"big": 1.0})
        assert sorted(near.source for near in rest) == ["chat"] * 3 + ["exam"] * 3
        assert {near.text_hash for near in rest} == {""}
        assert {near.source for near in new.neighbours if "new" in near.won} == {"chat", "exam"}


def test_artifact_that_says_nothing_of_origins_is_explained_without(tmp_path: Path) -> None:
    prompts = ranking.made_up_prompts(20)
    router = ranking.fit(prompts, ranking.thumbs(prompts))
    router._origins = type(router._origins)(("",), np.zeros(20, np.uint16), np.zeros((20, 32), np.uint8))
    loaded = Similarity.load(router.save(tmp_path / "v"), ranking.ENCODER, ranking.FEATURES)
    assert {(n.source, n.text_hash) for n in loaded.explain(one(prompts, 0), ("big",))[0].neighbours} == {("", "")}


def test_origins_that_do_not_fit_the_rows_are_refused(tmp_path: Path) -> None:
    router, _ = appended()
    router._origins = replace(router._origins, source=router._origins.source[:-1])
    with pytest.raises(ArtifactError, match="'source' and 'text_hash' do not describe 7 rows"):
        Similarity.load(router.save(tmp_path / "v"), ranking.ENCODER, ranking.FEATURES)


# Parts that are shown


def test_parts_that_set_models_furthest_apart_are_kept_and_the_sum_with_them() -> None:
    ours, theirs = (2.0, 0.5, -1.0, 0.1), (2.0, -0.5, -3.0, 0.1)
    made = [Grounds("m", "quality", sum(values), tuple(map(Part, "abcd", values))) for values in (ours, theirs)]
    kept = shortened(made, 3)
    assert [part.name for part in kept[0].parts] == [part.name for part in kept[1].parts] == ["c", "b", "2 others"]
    assert [summed(grounds) for grounds in kept] == pytest.approx([grounds.total for grounds in made])
    assert shortened(made, 4) == made
    (alone,) = shortened(made[1:], 3)
    assert [part.name for part in alone.parts] == ["c", "a", "2 others"]
    assert shortened([], 3) == []


def test_routers_that_can_explain_are_told_from_those_that_cannot(mf: Factorization) -> None:
    assert isinstance(mf, Explains)
    assert not isinstance(Random(), Explains)
