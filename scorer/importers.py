"""Importers: public judgements of models, in the shapes they are published in, into battles.

response matrix   one row a prompt, one column a model, correctness or a score in [0, 1]
judged pairs      one row a pair of answers, with the probability that b's is better
judged answers    one row an answer, with a judge's score
thumbs pairs      one row a pair of answers, a thumb for each and a preference
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scorer.battles import BAR, Battles, concatenate
from scorer.tables import Table, read_table

_ALIASES = {  # published spellings of one model that no rule brings together
    "gpt4-1106-preview": "gpt-4-1106-preview",
    "gpt4-0314": "gpt-4-0314",
    "gpt4-0613": "gpt-4-0613",
    "gpt35-turbo-instruct": "gpt-3.5-turbo-instruct",
    "meta-llama-3-1-70b-instruct": "llama-3.1-70b-instruct",
    "meta-llama-3-1-8b-instruct": "llama-3.1-8b-instruct",
    "meta-llama-3-1-70b": "llama-3.1-70b",
    "meta-llama-3-1-8b": "llama-3.1-8b",
    "meta-llama-3-70b": "llama-3-70b",
    "meta-llama-3-8b": "llama-3-8b",
    "llama-2-70b-chat-hf": "llama-2-70b-chat",
    "llama-2-13b-chat-hf": "llama-2-13b-chat",
    "llama-2-7b-chat-hf": "llama-2-7b-chat",
}


def canonical(name: str) -> str:
    """One spelling a model: no organisation, lower case, hyphens: `mistralai/Mixtral_8x7B` is `mixtral-8x7b`."""
    plain = re.sub(r"[\s_]+", "-", name.strip().rsplit("/", 1)[-1].lower())
    return _ALIASES.get(plain, plain)


def response_matrix(
    path: Path,
    *,
    prompt: str = "prompt",
    models: Collection[str] | None = None,
    metadata: Collection[str] = (),
    without: Mapping[str, Collection[str]] | None = None,
    weight: float = 1.0,
    source: str | None = None,
) -> Battles:
    """Every model against the bar, the cell being the outcome; empty cells are skipped.

    models: the columns to take; None takes all but `prompt` and `metadata`. without: by metadata column, the values
    whose rows are left out, e.g. a subject with faulty labels.
    """
    table = read_table(path)
    columns = [name for name in table.names if name != prompt and name not in metadata] if models is None else models
    texts = np.array(table.texts(prompt), object)
    kept = np.ones(len(texts), bool)
    for column, values in (without or {}).items():
        kept &= ~np.isin(table.names_or_blank(column), list(values))
    return concatenate(
        _against_bar(texts[kept], name, table.numbers(name, 0, 1, gaps=True)[kept], weight, source or path.stem)
        for name in columns
    )


def judged_pairs(
    path: Path,
    *,
    prompt: str = "prompt",
    model_a: str = "model_a",
    model_b: str = "model_b",
    preference_b: str = "preference_b",
    weight: float = 1.0,
    source: str | None = None,
) -> Battles:
    """Model against model; preference_b in [0, 1] is P(b is better). Rows that name no model are skipped."""
    table = read_table(path)
    names_a, names_b = _names(table, model_a), _names(table, model_b)
    keep = (names_a != "") & (names_b != "") & (names_a != names_b)
    texts, outcome = np.array(table.texts(prompt), object), 1 - table.numbers(preference_b, 0, 1)
    return Battles.of(
        texts[keep].tolist(),
        names_a[keep].tolist(),
        names_b[keep].tolist(),
        outcome[keep],
        weight,
        source or path.stem,
    )


def judged_answers(
    path: Path,
    *,
    bar: float,
    prompt: str = "prompt",
    model: str = "model",
    score: str = "score",
    low: float = 1,
    high: float = 10,
    weight: float = 1.0,
    source: str | None = None,
) -> Battles:
    """Every answer against the bar: 1 above the score `bar`, 0 below it, a tie on it."""
    table = read_table(path)
    names, texts = _names(table, model), np.array(table.texts(prompt), object)
    outcome = 0.5 + np.sign(table.numbers(score, low, high) - bar) / 2
    return Battles.of(texts.tolist(), names.tolist(), [BAR] * len(texts), outcome, weight, source or path.stem)


_PREFERENCES = {  # P(a is better)
    "a-is-better": 1.0,
    "a-is-slightly-better": 0.75,
    "tie": 0.5,
    "b-is-slightly-better": 0.25,
    "b-is-better": 0.0,
}
_THUMBS = {"yes": 1.0, "no": 0.0}


def thumbs_pairs(path: Path, *, prompt: str = "prompt", weight: float = 1.0, source: str | None = None) -> Battles:
    """Both answers against the bar (completion_a_is_acceptable, completion_b_is_acceptable: yes or no) and against
    each other (preference: a-is-better, a-is-slightly-better, tie, ...)."""
    table = read_table(path)
    texts = np.array(table.texts(prompt), object)
    source = source or path.stem
    names = {side: _names(table, f"model_{side}") for side in "ab"}
    parts = [
        Battles.of(
            texts.tolist(),
            names[side].tolist(),
            [BAR] * len(texts),
            _coded(table, f"completion_{side}_is_acceptable", _THUMBS),
            weight,
            source,
        )
        for side in "ab"
    ]
    differ = names["a"] != names["b"]
    preference = _coded(table, "preference", _PREFERENCES)
    parts.append(
        Battles.of(
            texts[differ].tolist(),
            names["a"][differ].tolist(),
            names["b"][differ].tolist(),
            preference[differ],
            weight,
            source,
        )
    )
    return concatenate(parts)


_WINNERS = {"winner_model_a": 1.0, "winner_tie": 0.5, "winner_model_b": 0.0}
LEAST_CHARACTERS = 16  # of a prompt; RouteLLM drops shorter ones, too


def arena(path: Path, *, weight: float = 1.0, source: str | None = None) -> tuple[Battles, dict[str, int]]:
    """Chatbot Arena's published battles, and RouteLLM's judge battles in the same columns: model_a, model_b, prompt (a
    JSON list of the human's turns), and 0 or 1 in winner_model_a, winner_model_b and winner_tie.

    The first turn is what is learned from. Also answers how many rows were dropped, by reason.
    """
    table = read_table(path)
    names_a, names_b = _names(table, "model_a"), _names(table, "model_b")
    turns = [_first_turn(text) for text in table.texts("prompt")]
    won = np.stack([table.numbers(column, 0, 1) for column in _WINNERS], axis=1)
    faults = {
        "the prompt is no list of turns": np.array([turn is None for turn in turns], bool),
        f"under {LEAST_CHARACTERS} characters": np.array([len(turn or "") < LEAST_CHARACTERS for turn in turns], bool),
        "not one winner": won.sum(axis=1) != 1,
        "a model is missing or meets itself": (names_a == "") | (names_b == "") | (names_a == names_b),
    }
    keep, dropped = np.ones(len(turns), bool), {}
    for reason, faulty in faults.items():  # a row counts under the first reason alone
        dropped[reason] = int((keep & faulty).sum())
        keep &= ~faulty
    battles = Battles.of(
        [turn for turn, kept in zip(turns, keep, strict=True) if kept and turn],
        names_a[keep].tolist(),
        names_b[keep].tolist(),
        (won @ list(_WINNERS.values()))[keep],
        weight,
        source or path.stem,
    )
    return battles, {reason: count for reason, count in dropped.items() if count}


def _first_turn(prompt: str) -> str | None:
    """None unless it is a JSON list that begins with a text; lone surrogates, which the arena has, are replaced."""
    try:
        turns = json.loads(prompt)
    except ValueError:
        return None
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], str):
        return None
    return turns[0].encode("utf-16", "surrogatepass").decode("utf-16", "replace").strip()


def _against_bar(
    texts: NDArray[np.object_], column: str, outcome: NDArray[np.float64], weight: float, source: str
) -> Battles:
    known = ~np.isnan(outcome)
    n = int(known.sum())
    return Battles.of(texts[known].tolist(), [canonical(column)] * n, [BAR] * n, outcome[known], weight, source)


def _names(table: Table, column: str) -> NDArray[np.str_]:
    return np.array([canonical(name) for name in table.names_or_blank(column)], np.str_)


def _coded(table: Table, column: str, codes: dict[str, float]) -> NDArray[np.float64]:
    values = table.names_or_blank(column)
    for row, value in enumerate(values, start=1):
        if value not in codes:
            raise table.error(row, column, f"{value!r} is not one of {', '.join(codes)}")
    return np.array([codes[value] for value in values])
