from __future__ import annotations

import string
import time
from math import log1p

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer.features import NAMES, SAMPLE, extract


def named(text: str) -> dict[str, float]:
    return dict(zip(NAMES, extract(text).tolist(), strict=True))


def check(text: str, **expected: float) -> None:
    """Every feature that is not expected to be something is 0."""
    assert named(text) == pytest.approx({name: expected.get(name, 0) for name in NAMES}, rel=1e-6)
    assert not set(expected) - set(NAMES)


def test_a_sum_counted_by_hand() -> None:
    check(
        "Solve 3x + 4 = 10.\nWhat is x? Explain why.\n",
        log_chars=log1p(43),
        log_words=log1p(11),
        log_lines=log1p(2),
        log_word_length=log1p(32 / 11),
        digit_share=4 / 43,
        upper_share=3 / 43,
        latin_share=23 / 43,
        operator_share=2 / 43,
        log_maths_words=log1p(1),  # solve
        log_reasoning_words=log1p(2),  # explain why
        log_factual_words=log1p(1),  # what
        log_numbers=log1p(3),
        log_questions=log1p(1),
    )


def test_code_counted_by_hand() -> None:
    check(
        'Fix the bug:\n```python\nd["k"] = {1};\n```\nhttps://x.org/a_b',
        log_chars=log1p(58),
        log_words=log1p(9),
        log_lines=log1p(4),
        log_word_length=log1p(50 / 9),
        digit_share=1 / 58,
        upper_share=1 / 58,
        latin_share=28 / 58,
        operator_share=4 / 58,  # = and three slashes
        code_share=12 / 58,  # six backticks, two brackets, two braces, a semicolon, an underscore
        quote_share=2 / 58,
        log_code_words=log1p(2),  # bug python
        log_instruction_words=log1p(1),  # fix
        log_numbers=log1p(1),
        log_urls=log1p(1),
        log_fences=log1p(2),
    )


def test_a_multiple_choice_question_counted_by_hand() -> None:
    check(
        "Which costs $1,200.50?\nA. 5%\n(B) 7\nC) 9\nAnswer: ",
        log_chars=log1p(48),
        log_words=log1p(10),
        log_lines=log1p(4),
        log_word_length=log1p(38 / 10),
        digit_share=9 / 48,
        upper_share=5 / 48,
        latin_share=19 / 48,
        log_instruction_words=log1p(1),  # answer
        log_factual_words=log1p(1),  # which
        log_numbers=log1p(4),
        log_amounts=log1p(2),  # $1 and 5%
        log_questions=log1p(1),
        choices=3,
        asks_answer=1,
    )


def test_other_scripts_counted_by_hand() -> None:
    check(
        "Übersetze: кот 猫 قط",
        log_chars=log1p(19),
        log_words=log1p(4),
        log_word_length=log1p(16 / 4),
        upper_share=0,  # of ASCII alone
        latin_share=9 / 19,
        cyrillic_share=3 / 19,
        cjk_share=1 / 19,
        arabic_share=2 / 19,
        non_ascii_share=7 / 19,
    )


def test_an_empty_text_is_all_zeros() -> None:
    check("")


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        (r"$\frac{1}{2}$ and \[ x \]", "log_latex", log1p(2)),
        ("Write a poem and a short story", "log_creative_words", log1p(2)),
        ("Translate into French", "log_translation_words", log1p(2)),
        ("why? 为什么？ لماذا؟", "log_questions", log1p(3)),
        ("- a\n* b\n 3. c\n12) d\nnot - e", "log_items", log1p(4)),
        ("5 euros, 3 dollars, 7 dollarsigns, 50 %, € 4", "log_amounts", log1p(4)),
        ("A. x\nA. y\nB. z\nA cat", "choices", 2),
        ("Answer: 4", "asks_answer", 0),
        ("x ∈ A, y ≠ z", "operator_share", 2 / 12),
    ],
)
def test_marks(text: str, name: str, value: float) -> None:
    assert named(text)[name] == pytest.approx(value)


@given(st.text(string.printable, min_size=1, max_size=300))
def test_shares_are_what_counting_one_character_at_a_time_gives(text: str) -> None:
    counted = {
        "digit_share": sum(character in string.digits for character in text),
        "upper_share": sum(character in string.ascii_uppercase for character in text),
        "latin_share": sum(character.isalpha() for character in text),
        "quote_share": text.count('"'),
        "non_ascii_share": 0,
    }
    got = named(text)
    assert {name: got[name] for name in counted} == pytest.approx(
        {name: count / len(text) for name, count in counted.items()}
    )


@given(st.text(st.characters(), max_size=500))
def test_features_of_any_string_are_finite_and_the_same_again(text: str) -> None:
    first = extract(text)
    assert first.shape == (len(NAMES),) == (30,)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert (first >= 0).all()
    np.testing.assert_array_equal(first, extract(text))


@given(st.text(st.characters(), max_size=300))
def test_shares_of_scripts_are_parts_of_a_whole(text: str) -> None:
    got = named(text)
    assert sum(got[f"{script}_share"] for script in ("latin", "cyrillic", "arabic", "cjk")) <= 1 + 1e-6
    assert all(got[name] <= 1 for name in NAMES if name.endswith("_share"))


def test_of_a_long_text_the_size_is_estimated_and_the_ends_are_counted() -> None:
    line = "The cat has 9 lives.\n"
    text = "Prove it. " + line * 40_000 + "Answer:"
    got = named(text)
    assert got["log_chars"] == pytest.approx(log1p(len(text)))
    assert got["log_words"] == pytest.approx(log1p(len(text.split())), abs=0.01)
    assert got["log_lines"] == pytest.approx(log1p(40_000), abs=0.01)
    assert got["log_numbers"] == pytest.approx(log1p(SAMPLE / len(line)), abs=0.01)
    assert got["log_reasoning_words"] == pytest.approx(log1p(1))
    assert got["asks_answer"] == 1


@pytest.mark.parametrize("text", ["a word. ", " ", "\n", "9", "9,", "\\", "$ ", "- \n", "证"])
def test_a_megabyte_takes_no_longer_than_its_sample(text: str) -> None:
    def seconds(text: str) -> float:
        began = time.perf_counter()
        extract(text)
        return time.perf_counter() - began

    sample, megabyte = text * (SAMPLE // len(text)), text * (1_000_000 // len(text))
    assert min(seconds(megabyte) for _ in range(5)) < 10 * min(seconds(sample) for _ in range(5)) + 0.001
