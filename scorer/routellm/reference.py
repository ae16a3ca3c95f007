"""The pair of models that RouteLLM compares whatever it routes between, and when a ladder says better."""

from __future__ import annotations

from collections.abc import Callable, Sequence

PAIR = ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")


def is_named(ladder: Sequence[str], knows: Callable[[str], bool]) -> bool:
    """Whether the strongest model and a cheaper one are known by name. Else the reference pair stands for them."""
    return knows(ladder[0]) and any(map(knows, ladder[1:]))
