"""Contamination: evaluation prompts are found in training texts, wherever they are, quickly."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer import contamination

words = st.lists(
    st.sampled_from(["the", "of", "seven", "prime", "runs", "is", "12", "why"]), min_size=1, max_size=12
).map(" ".join)


def test_case_punctuation_and_width_do_not_hide_a_prompt() -> None:
    evaluation = ["What is the derivative of x^2 + 3x?\nA. 2x\nB. 2x+3"]
    training = [
        "Q: WHAT is the derivative of  x^2 + 3x? (A) 2x (B) 2x + 3 Answer:",
        "Ｗhat is the derivative of x^2 + 3x? A. 2x B. 2x+3",
        "What is the derivative of x^2 + 4x?\nA. 2x\nB. 2x+3",
        "What is the derivative of x^2 + 3x?\nA. 2x\nB. 2x+35",
    ]
    assert contamination.by_text(training, evaluation).tolist() == [True, True, False, False]


def test_a_very_short_prompt_drops_only_itself() -> None:
    training = ["Hi!", "hi there, what is a prime?", "this"]
    assert contamination.by_text(training, ["hi", "?"]).tolist() == [True, False, False]


@given(st.lists(words, max_size=6), st.lists(words, max_size=6))
def test_it_finds_what_plain_search_finds(training: list[str], evaluation: list[str]) -> None:
    def plain(text: str) -> bool:
        return any(f" {e} " in f" {text} " if e.count(" ") >= 4 else e == text for e in evaluation)

    assert contamination.by_text(training, evaluation).tolist() == [plain(text) for text in training]


def test_ten_thousand_by_ten_thousand_takes_seconds() -> None:
    generator = np.random.default_rng(0)
    vocabulary = np.array([f"w{i}" for i in range(300)])
    texts = [" ".join(vocabulary[generator.integers(0, 300, 60)]) for _ in range(20_000)]
    training = [f"which of the following is {text}" for text in texts[:10_000]]
    training[17] += " " + texts[10_005]
    began = time.perf_counter()
    found = contamination.by_text(training, texts[10_000:])
    assert time.perf_counter() - began < 10
    assert np.flatnonzero(found).tolist() == [17]


def test_the_cosine_limit_is_a_limit() -> None:
    angles = np.arccos([0.951, 0.949, 1.0])
    training = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    evaluation = np.array([[1, 0], [0, -1]], np.float32)
    assert contamination.by_cosine(training, evaluation).tolist() == [True, False, True]
    assert contamination.by_cosine(training, evaluation[:0]).tolist() == [False] * 3


def test_blocks_of_cosines_agree_with_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(100, 3)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    whole = contamination.by_cosine(rows[:70], rows[70:])
    monkeypatch.setattr(contamination, "_BLOCK", 16)
    assert contamination.by_cosine(rows[:70], rows[70:]).tolist() == whole.tolist()
    assert 0 < whole.sum() < 70
