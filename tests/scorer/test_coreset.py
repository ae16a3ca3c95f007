"""A coreset of everything is exact, what it keeps of all rows is exact, and the rest is within the stated bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from scorer.artifacts import ArtifactError
from scorer.battles import BAR, Battles, concatenate, write
from scorer.cli import cli
from scorer.routers.base import Prompts
from scorer.routers.bradley_terry import curvature, strengths
from scorer.routers.cells import Cells, gathered, joined
from scorer.routers.coreset import Remainder, bernstein, chances, line, thinned
from scorer.routers.similarity import Similarity
from scorer.routers.variants import Upstream

NO_PAIRS = np.zeros((0, 2), np.int32)
MODELS = ("a", "b", BAR, "c")
Floats = NDArray[np.float64]


def prompts_of(n: int, seed: int = 0, d: int = 6) -> Prompts:
    embeddings = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return Prompts([f"prompt {seed} {i}" for i in range(n)], embeddings, np.zeros((n, 0), np.float32))


def arena(prompts: Prompts, players: int = 6, seed: int = 0) -> Battles:
    """One to three battles a prompt, mostly won by the lower number, the more so the larger the first coordinate."""
    generator = np.random.default_rng(seed)
    parts: list[Battles] = []
    for _ in range(3):
        n = len(prompts)
        a = generator.integers(0, players, n)
        b = (a + generator.integers(1, players, n)) % players
        p = 1 / (1 + np.exp((0.4 + prompts.embeddings[:, 0]) * (a - b)))
        outcome = np.where(generator.random(n) < 0.2, 0.5, generator.random(n) < p)
        names = np.array([f"m{i}" for i in range(players)])
        fought = Battles.of(
            prompts.texts, names[a].tolist(), names[b].tolist(), outcome, generator.choice([1.0, 2.0], n)
        )
        parts.append(fought.take(generator.random(n) < 0.6) if parts else fought)
    return concatenate(parts)


def fit(prompts: Prompts, battles: Battles, most: int = 10**9, **chosen: Any) -> Similarity:
    variant = Upstream(tiers=3, most_rows=most, **chosen)
    return Similarity.fit(battles, prompts, encoder_id="e" * 64, features=(), chosen=variant)


def win_rates(router: Similarity, asked: Prompts) -> Floats:
    return router.score(asked, ["m0", "m5"]).win_rates


def cells_of(n: int, seed: int, d: int = 5) -> tuple[Cells, NDArray[np.int32]]:
    generator = np.random.default_rng(seed)
    prompts = prompts_of(n, seed, d)
    a = generator.integers(0, 4, 3 * n)
    b = (a + generator.integers(1, 4, 3 * n)) % 4
    names = np.array(MODELS)
    rows = np.concatenate([np.arange(n), generator.integers(0, n, 2 * n)])
    outcome, weight = generator.choice([0, 0.5, 1, 0.3], 3 * n), generator.choice([1.0, 3.0], 3 * n)
    battles = Battles(tuple(prompts.texts), rows, names[a], names[b], outcome, weight, np.full(3 * n, ""))
    return gathered(battles, prompts.embeddings.astype(float), MODELS, NO_PAIRS)


def units(cells: Cells) -> Floats:
    rows = cells.rows.astype(float)
    unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def slow_sums(cells: Cells, weights: Floats, pairs: int) -> Floats:
    sums = np.zeros((pairs, 2))
    entry = 0
    for row, count in enumerate(cells.count.tolist()):
        for _ in range(count):
            sums[cells.pair[entry]] += weights[row] * cells.wins[entry]
            entry += 1
    return sums


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 60), most=st.integers(1, 80))
def test_kept_rows_and_remainder_are_all_rows_to_first_order(seed: int, n: int, most: int) -> None:
    """Weights on a line are summed exactly, whichever rows were kept: the totals, the moments, any mix of them."""
    cells, pairs = cells_of(n, seed)
    kept, remainder, numbers = thinned((cells,), pairs, None, most)
    np.testing.assert_array_equal(kept.rows, cells.rows[numbers])
    query = np.random.default_rng(seed).normal(size=5).astype(np.float32) * 1000
    cosine, kept_cosine = (units(each) @ (query / np.linalg.norm(query)) for each in (cells, kept))
    if len(numbers) < 2 or np.ptp(kept_cosine) < 1e-3:
        return
    sums = kept.summed(3 + 2 * kept_cosine, len(pairs)) + remainder.summed(
        3 + 2 * kept_cosine, kept_cosine, query, len(pairs)
    )
    np.testing.assert_allclose(sums, slow_sums(cells, 3 + 2 * cosine, len(pairs)), atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_a_coreset_of_everything_is_exact(seed: int) -> None:
    prompts, asked = prompts_of(200, seed), prompts_of(20, seed + 50)
    router = fit(prompts, arena(prompts, seed=seed))
    whole = router.thinned()
    assert whole._remainder is not None
    assert np.abs(whole._remainder.moment).max() == 0
    np.testing.assert_array_equal(win_rates(whole, asked), win_rates(router, asked))
    assert whole.doubt(asked, "m0", "m5").tolist() == [0.0] * 20


def test_the_global_ranking_is_that_of_all_rows() -> None:
    prompts = prompts_of(3000)
    battles = arena(prompts)
    exact, coreset = fit(prompts, battles), fit(prompts, battles, 300)
    assert 250 < sum(map(len, coreset._blocks)) < 350
    np.testing.assert_allclose(coreset._ranking, exact._ranking, atol=1e-5)


def test_flat_weights_lose_nothing() -> None:
    """Gamma near 1 makes weights a line: a tenth of the rows gives the win rates of all."""
    asked = prompts_of(30, 1)
    prompts, battles = with_nearest_kept(5000, asked)
    exact, coreset = (win_rates(fit(prompts, battles, most, gamma=1.02), asked) for most in (10**9, 500))
    assert np.abs(coreset - exact).max() < 0.05 * exact[:, 1].std()


def in_another_order(prompts: Prompts, battles: Battles, seed: int) -> tuple[Prompts, Battles]:
    """The same battles, of whose prompts another sample will be kept."""
    order = np.random.default_rng(seed).permutation(len(prompts))
    place = np.argsort(order)
    columns = battles.model_a, battles.model_b, battles.outcome, battles.weight, battles.source
    texts = tuple(prompts.texts[i] for i in order)
    turned = Prompts(texts, prompts.embeddings[order], prompts.features)
    return turned, Battles(texts, place[battles.prompt], *columns)


def with_nearest_kept(n: int, asked: Prompts) -> tuple[Prompts, Battles]:
    """Battles on n prompts and, of so much weight that they are always kept, on the asked ones: 1 is the normaliser."""
    prompts, few = prompts_of(n, d=asked.embeddings.shape[1]), len(asked)
    texts = [*prompts.texts, *asked.texts]
    heavy = Battles.of(asked.texts, ["m0"] * few, ["m3"] * few, [0.5] * few, [60.0] * few)
    embeddings = np.concatenate([prompts.embeddings, asked.embeddings])
    return Prompts(texts, embeddings, np.zeros((n + few, 0), np.float32)), concatenate([arena(prompts), heavy])


def test_the_bound_holds_as_often_as_stated() -> None:
    """60 coresets of a tenth, 8 prompts each; and the bound is not so wide that it says nothing."""
    asked = prompts_of(8, 1)
    prompts, battles = with_nearest_kept(3000, asked)
    truth = fit(prompts, battles).score(asked, ["m0", "m3"]).win_rates[:, 1]
    errors, bounds, likely = [], [], []
    for seed in range(60):
        coreset = fit(*in_another_order(prompts, battles, seed), most=300)
        errors.append(coreset.score(asked, ["m0", "m3"]).win_rates[:, 1] - truth)
        bounds.append(coreset.doubt(asked, "m0", "m3", 0.01))
        likely.append(coreset.doubt(asked, "m0", "m3", 0.5))
    error = np.abs(errors)
    assert (error <= bounds).mean() >= 0.99
    assert (error <= likely).mean() >= 0.5
    assert np.mean(bounds) < 8 * np.sqrt(np.mean(np.square(error)))  # it says something
    assert np.abs(np.mean(errors)) < 0.2 * np.sqrt(np.mean(np.square(error)))  # no lean to one side
    assert 1e-4 < error.max() < 0.05


def test_the_line_is_what_makes_it_good() -> None:
    """Without the remainder, the same rows are off by several times as much. In 48 dimensions few prompts are alike."""
    asked = prompts_of(20, 1, d=48)
    prompts, battles = with_nearest_kept(6000, asked)
    truth, coreset = win_rates(fit(prompts, battles), asked), fit(prompts, battles, 600)
    error = np.abs(win_rates(coreset, asked) - truth)[:, 1].mean()
    coreset._remainder = None
    assert np.abs(win_rates(coreset, asked) - truth)[:, 1].mean() > 3 * error


def test_the_bound_falls_with_the_rows_kept() -> None:
    asked = prompts_of(8, 1)
    prompts, battles = with_nearest_kept(6000, asked)
    few, many = (fit(prompts, battles, most).doubt(asked, "m0", "m3").mean() for most in (200, 3200))
    assert 2.5 < few / many < 8  # about the root of 16; the heavy rows are kept by both


def test_bernstein_by_hand() -> None:
    """log(2 / delta) = 4: sqrt(2 * 4 * (9 * 0.5 + 16 * 0.75)) + 4 * 4 / 3; what is kept for certain adds nothing."""
    terms, chance = np.array([3.0, -4.0, 100.0]), np.array([0.5, 0.25, 1.0], np.float32)
    assert bernstein(terms, chance, 2 / np.exp(4)) == pytest.approx(np.sqrt(8 * 16.5) + 16 / 3)
    assert bernstein(terms[2:], chance[2:], 1e-3) == 0


@pytest.mark.parametrize("seed", range(3))
def test_strengths_move_with_the_cells_as_the_bound_says(seed: int) -> None:
    wins = np.random.default_rng(seed).random((1, 5, 5)) * 20
    theta = strengths(wins, 0.7)[0]
    phi = np.linalg.solve(curvature(wins[0], theta, 0.7), np.eye(5)[1] - np.eye(5)[4])
    for j, k in ((0, 1), (3, 2), (4, 1)):
        more = wins.copy()
        more[0, j, k] += 1e-4
        moved = strengths(more, 0.7)[0] - theta
        p = 1 / (1 + np.exp(theta[j] - theta[k]))
        assert (moved[1] - moved[4]) / 1e-4 == pytest.approx(p * (phi[j] - phi[k]), rel=1e-3)


@settings(deadline=None, max_examples=50)
@given(won=st.lists(st.floats(0.01, 1e4), min_size=1, max_size=60), most=st.integers(1, 70))
def test_chances_are_in_proportion_and_make_up_what_was_asked_for(won: list[float], most: int) -> None:
    chance = chances(np.array(won), most)
    assert chance.sum() == pytest.approx(min(most, len(won)), rel=1e-9)
    share = chance / np.array(won)
    np.testing.assert_allclose(share[chance < 1], share.max() if (chance < 1).any() else [], rtol=1e-9)
    assert (chance[share < share.max() * (1 - 1e-9)] == 1).all()


def test_a_line_is_least_squares() -> None:
    generator = np.random.default_rng(0)
    similarity, weights = generator.random(50), generator.random(50)
    slope, intercept = np.polyfit(similarity, weights, 1)
    assert line(weights, similarity) == pytest.approx((intercept, slope))
    assert line(weights, np.full(50, 0.3)) == pytest.approx((weights.mean(), 0))


def test_appending_keeps_about_as_many_rows_and_the_totals() -> None:
    """Grown night by night it stays as large and knows all totals; its bound is about that of one drawn once."""
    parts = [prompts_of(400, seed) for seed in range(8)]
    fought = [arena(part, seed=seed) for seed, part in enumerate(parts)]
    whole = Prompts(
        [text for part in parts for text in part.texts],
        np.concatenate([part.embeddings for part in parts]),
        np.zeros((3200, 0), np.float32),
    )
    exact, once = fit(whole, concatenate(fought)), fit(whole, concatenate(fought), 500)
    grown = fit(parts[0], fought[0], 500)
    for part, battles in zip(parts[1:], fought[1:], strict=True):
        grown = grown.append(battles, part)
    kept = sum(map(len, grown._blocks))
    assert 400 < kept < 600
    assert len(grown._origins.source) == kept == len(grown._chance())
    totals = [Similarity._summed(each, np.ones(sum(map(len, each._blocks)))) for each in (exact, grown)]
    assert grown._remainder is not None
    by_pair = [
        dict(zip(map(tuple, each._pairs.tolist()), total.tolist(), strict=True))
        for each, total in zip((exact, grown), (totals[0], totals[1] + grown._remainder.total), strict=True)
    ]
    assert by_pair[0].keys() == by_pair[1].keys()
    for pair, total in by_pair[0].items():
        assert by_pair[1][pair] == pytest.approx(total, abs=1e-3)
    asked = prompts_of(10, 99)
    assert 0.7 < grown.doubt(asked, "m0", "m5").mean() / once.doubt(asked, "m0", "m5").mean() < 2


def test_a_saved_coreset_scores_the_same(tmp_path: Path) -> None:
    prompts, asked = prompts_of(1000), prompts_of(20, 1)
    coreset = fit(prompts, arena(prompts), 200)
    loaded = Similarity.load(coreset.save(tmp_path / "v"), "e" * 64, ())
    np.testing.assert_array_equal(win_rates(loaded, asked), win_rates(coreset, asked))
    np.testing.assert_array_equal(loaded.doubt(asked, "m0", "m5"), coreset.doubt(asked, "m0", "m5"))


def test_a_score_does_not_depend_on_the_batch() -> None:
    prompts, asked = prompts_of(1000, d=48), prompts_of(70, 1, d=48)
    coreset = fit(prompts, arena(prompts), 200)
    alone = np.concatenate([win_rates(coreset, asked[i : i + 1]) for i in range(70)])
    np.testing.assert_array_equal(alone, win_rates(coreset, asked))


def test_a_copied_model_lacks_what_its_model_lacks() -> None:
    prompts, asked = prompts_of(1000), prompts_of(20, 1)
    coreset = fit(prompts, arena(prompts), 200)
    joined_by = coreset.joined_by(["new"], {"new": "m4"})
    assert joined_by._remainder is not None
    scores = joined_by.score(asked, ["m0", "new"]).win_rates
    apart = coreset.score(asked, ["m0", "m4"]).win_rates
    assert np.abs(scores - apart).max() < 0.1
    pairs = joined_by._pairs.tolist()
    total, moments = joined_by._remainder.total, joined_by._remainder.moment
    for (first, second), lacking, moment in zip(pairs, total, moments, strict=True):
        if second == len(coreset.models):
            theirs = [first, coreset._number["m4"]]
            side = 1 if theirs in pairs else -1
            place = pairs.index(theirs[::side])
            np.testing.assert_array_equal(lacking, total[place][::side])
            np.testing.assert_array_equal(moment, moments[place][::side])


def test_an_explanation_of_a_coreset_adds_up() -> None:
    prompts, asked = prompts_of(1000), prompts_of(1, 1)
    coreset = fit(prompts, arena(prompts), 200)
    (grounds,) = coreset.explain(asked, ["m0", "m5"])
    win_rate = coreset.score(asked, ["m0", "m5"]).win_rates[0, 1]
    assert 1 / (1 + np.exp(-grounds.total)) == pytest.approx(win_rate, abs=1e-9)
    parts = sum(part.value for part in grounds.parts) + sum(each.value for each in grounds.neighbours)
    assert parts == pytest.approx(grounds.total)


def test_training_takes_how_many_rows_to_keep(tmp_path: Path) -> None:
    given, made = tmp_path / "battles.jsonl", tmp_path / "made"
    made_up = prompts_of(120)
    texts = [f"How do I boil {i} eggs?" for i in range(120)]
    write(given, arena(Prompts(texts, made_up.embeddings, made_up.features)))
    options = ["train", "sw", "--battles", str(given), "--encoder", "static", "--most-rows", "40"]
    refused = CliRunner().invoke(cli, [*options, "--out", str(made)])
    assert refused.exit_code == 2
    assert "--most-rows goes with --variant upstream" in refused.output
    assert not made.exists()
    trained = CliRunner().invoke(cli, [*options, "--variant", "upstream", "--out", str(made)])
    assert trained.exit_code == 0, trained.output
    kept = safetensors.numpy.load_file(made / "tensors.safetensors")["rows"]
    assert 20 < len(kept) < 60


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("lacking", lambda t: t[:, :1]),
        ("lacking", lambda t: np.concatenate([t, t])),
        ("lacking", lambda t: t * np.nan),
        ("lacking_moment", lambda t: t[:, :, :-1]),
        ("chance", lambda t: t * 2 + 1),
        ("chance", lambda t: np.concatenate([t, t])),
        ("chance", lambda t: t * 0),
    ],
)
def test_a_damaged_remainder_is_refused(name: str, change: Any) -> None:
    prompts = prompts_of(300)
    coreset = fit(prompts, arena(prompts), 100)
    assert coreset._remainder is not None
    tensors = coreset._remainder.tensors() | {"rows": joined(coreset._blocks, coreset._pairs).rows}
    assert Remainder.read(Path("x"), tensors, len(coreset._pairs)) is not None
    with pytest.raises(ArtifactError, match="do not describe a coreset"):
        Remainder.read(Path("x"), tensors | {name: change(tensors[name])}, len(coreset._pairs))


@pytest.mark.parametrize("seed", range(5))
def test_one_row_is_always_kept(seed: int) -> None:
    prompts, asked = prompts_of(300, seed), prompts_of(5, seed + 1)
    coreset = fit(prompts, arena(prompts, seed=seed), 1)
    assert 1 <= sum(map(len, coreset._blocks)) < 6
    scores = win_rates(coreset, asked)
    assert ((scores >= 0) & (scores <= 1)).all()
