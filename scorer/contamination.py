"""Contamination: training prompts that give an evaluation prompt away, by its text or by its meaning."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

COSINE = 0.95  # RouteLLM's limit (evals/find_contaminated.py)
_SHORT = 5  # words; an evaluation prompt below that ("hi") is found only as a whole text, or it would drop everything
_ANCHOR = 8  # words of an evaluation prompt that are looked up before the whole of it is compared
_BLOCK = 4096


def normalise(text: str) -> str:
    """Words alone: compatibility forms folded, lower case, everything but letters and digits one space."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def by_text(training: Sequence[str], evaluation: Sequence[str]) -> NDArray[np.bool_]:
    """(training,): whether the normalised text contains a normalised evaluation prompt, on word boundaries."""
    short: set[str] = set()
    anchored: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))  # size: first words: texts
    for text in map(normalise, evaluation):
        words = text.split(" ", _ANCHOR)
        if len(words) < _SHORT:
            short.add(text)
        else:
            size = min(len(words), _ANCHOR)
            anchored[size][" ".join(words[:size])].append(f" {text} ")
    return np.array([text in short or _contains(text, anchored) for text in map(normalise, training)], bool)


def _contains(text: str, anchored: dict[int, dict[str, list[str]]]) -> bool:
    words, padded = text.split(" "), f" {text} "
    for size, texts in anchored.items():
        for start in range(len(words) - size + 1):
            found = texts.get(" ".join(words[start : start + size]))
            if found and any(candidate in padded for candidate in found):
                return True
    return False


def by_cosine(training: NDArray[np.float32], evaluation: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(training,): whether a unit embedding (rows) lies within COSINE of an evaluation prompt's."""
    found = np.zeros(len(training), bool)
    if len(evaluation):
        for start in range(0, len(training), _BLOCK):
            block = training[start : start + _BLOCK]
            found[start : start + _BLOCK] = (block @ evaluation.T).max(axis=1) >= COSINE
    return found
