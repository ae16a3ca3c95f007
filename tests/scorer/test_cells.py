"""Cells: whole-number cosines that no batch can change, and sums equal to loops over battles."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from scorer.battles import Battles
from scorer.routers.cells import Cells, gathered, queries

MODELS = ("a", "b", "bar", "c")
NO_PAIRS = np.zeros((0, 2), np.int32)


def unit(generator: np.random.Generator, n: int, d: int) -> NDArray[np.float64]:
    vectors = generator.normal(size=(n, d)) * generator.gamma(0.3, 1, (n, d))
    rows: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return rows


def random_battles(generator: np.random.Generator, prompts: int, rows: int) -> Battles:
    a = generator.integers(0, len(MODELS), rows)
    b = (a + generator.integers(1, len(MODELS), rows)) % len(MODELS)
    return Battles(
        tuple(f"p{i}" for i in range(prompts)),
        generator.integers(0, prompts, rows),
        np.array(MODELS)[a],
        np.array(MODELS)[b],
        generator.choice([0, 0.5, 1, 0.3], rows),
        generator.choice([1.0, 0.5, 7.0], rows),
        np.full(rows, ""),
    )


@pytest.mark.parametrize("d", [3, 384, 414, 1536])
def test_dot_products_are_those_of_whole_numbers(d: int) -> None:
    """The worst case: rows and queries of one sign at full length, where every partial sum is as large as it gets."""
    rows = np.full((5, d), 127, np.int8)
    rows[1:] = np.random.default_rng(d).choice([-127, 127, 126, 1], (4, d))
    cells = Cells(rows, np.zeros(5, np.int32), np.zeros(0, np.uint8), np.zeros((0, 2), np.float32), NO_PAIRS)
    asked = queries(np.vstack([np.full(d, d**-0.5), rows[1] / np.linalg.norm(rows[1].astype(float))]))
    exact = asked.astype(np.int64) @ rows.T.astype(np.int64)
    assert np.abs(exact).max() < 2**24
    norms = np.linalg.norm(asked.astype(float), axis=1)[:, None] * np.linalg.norm(rows.astype(float), axis=1)
    np.testing.assert_allclose(cells.similarity(asked), exact / norms, rtol=1e-15)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 300), d=st.integers(1, 420), q=st.integers(2, 33))
def test_a_cosine_is_the_same_in_every_batch(seed: int, n: int, d: int, q: int) -> None:
    generator = np.random.default_rng(seed)
    cells, _ = gathered(random_battles(generator, n, 10), unit(generator, n, d), MODELS, NO_PAIRS)
    asked = queries(unit(generator, q, d))
    together = cells.similarity(asked)
    for i in range(q):
        np.testing.assert_array_equal(cells.similarity(asked[i : i + 1])[0], together[i])
    np.testing.assert_array_equal(cells.similarity(asked[::-1]), together[::-1])


def test_cosines_are_close_to_those_of_the_embeddings() -> None:
    generator = np.random.default_rng(0)
    rows, asked = unit(generator, 500, 384), unit(generator, 40, 384)
    cells, _ = gathered(random_battles(generator, 500, 10), rows, MODELS, NO_PAIRS)
    error = cells.similarity(queries(asked)) - asked @ rows.T
    assert np.abs(error).max() < 0.01
    dequantised = cells.rows / np.linalg.norm(cells.rows.astype(float), axis=1, keepdims=True)
    assert np.abs(cells.similarity(queries(asked)) - asked @ dequantised.T).max() < 3e-4


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), prompts=st.integers(1, 30), battles=st.integers(1, 80), zeros=st.floats(0, 1))
def test_sums_equal_a_loop_over_battles(seed: int, prompts: int, battles: int, zeros: float) -> None:
    generator = np.random.default_rng(seed)
    fought = random_battles(generator, prompts, battles)
    cells, pairs = gathered(fought, unit(generator, prompts, 4), MODELS, NO_PAIRS)
    weights = generator.random(prompts) * (generator.random(prompts) >= zeros)
    expected: dict[tuple[str, str], float] = defaultdict(float)  # (winner, loser): weight
    columns = (fought.prompt, fought.model_a, fought.model_b, fought.outcome, fought.weight)
    for prompt, a, b, outcome, weight in zip(*(column.tolist() for column in columns), strict=True):
        expected[a, b] += weights[prompt] * weight * outcome
        expected[b, a] += weights[prompt] * weight * (1 - outcome)
    sums = cells.summed(weights, len(pairs))
    for (a, b), (first, second) in zip(pairs.tolist(), sums.tolist(), strict=True):
        assert first == pytest.approx(expected.pop((MODELS[a], MODELS[b])), rel=1e-6)
        assert second == pytest.approx(expected.pop((MODELS[b], MODELS[a])), rel=1e-6)
    assert not expected
    for number, model in enumerate(MODELS):
        rows = {p for p, a, b in zip(fought.prompt, fought.model_a, fought.model_b, strict=True) if model in (a, b)}
        assert set(np.flatnonzero(cells.fought(number)).tolist()) == rows


def test_pairs_that_were_there_keep_their_place() -> None:
    generator = np.random.default_rng(1)
    known = np.array([[1, 3], [0, 2]], np.int32)
    cells, pairs = gathered(random_battles(generator, 9, 60), unit(generator, 9, 3), MODELS, known)
    assert pairs[:2].tolist() == known.tolist()
    assert sorted(map(tuple, pairs.tolist())) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert cells.total.shape == (6, 2)
