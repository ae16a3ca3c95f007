from __future__ import annotations

import litellm
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_plugin import tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abc", 3 * 0.22),
        ("ABC", 3 * 0.6),
        ("123", 3 * 1.3),
        ("$%.", 3.0),
        ("a b\n", 2 * 0.22 + 0.5 + 1),
        ("é\u0416", 2 * 1.2),
        ("日本語", 3 * 1.4),
        ("\U0001f600", 2.5),
        ("\ud800", 1.0),  # sent as a question mark
        ("", 0.0),
    ],
)
def test_a_character_counts_for_as_many_tokens_as_its_kind(text: str, expected: float) -> None:
    assert tokens.estimate(text) == pytest.approx(expected)


@given(st.lists(st.text(max_size=40), max_size=5))
def test_a_text_takes_what_its_parts_take(parts: list[str]) -> None:
    assert tokens.estimate("".join(parts)) == pytest.approx(sum(map(tokens.estimate, parts)))


@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox jumps over the lazy dog, and then it sleeps until the evening. " * 20,
        "".join(f"{letter}. ${12_345 + 1_111 * place:,}.50\n" for place, letter in enumerate("ABCDEFGHIJ")) * 5,
        "def area(radius: float) -> float:\n    return math.pi * radius ** 2\n\n" * 20,
        '{"id": 17, "name": "Ada", "tags": ["x", "y"], "at": "2026-01-31T12:00:00Z"}\n' * 20,
        "东京是日本的首都，人口超过一千三百万。" * 20,
        "Столица России - Москва, в ней живёт более двенадцати миллионов человек. " * 20,
    ],
)
def test_the_estimate_is_not_below_what_a_tokenizer_needs_nor_twice_as_much(text: str) -> None:
    """cl100k, from the file that LiteLLM brings: GPT-4's."""
    needed = litellm.token_counter(model="gpt-4", text=text)
    assert needed <= tokens.estimate(text) <= 2.2 * needed
