"""Importers: public judgements of models, in the shapes they are published in, into battles.

response matrix   one row a prompt, one column a model, correctness or a score in [0, 1]
judged pairs      one row a pair of answers, with the probability that b's is better
judged answers    one row an answer, with a judge's score
thumbs pairs      one row a pair of answers, a thumb for each and a preference
arena             one row a pair of answers, with the prompt's turns and a column for each winner

What is missing in a row, its prompt or a model, drops it, and is counted; what cannot be what its column should hold
is refused, with the row and the column.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scorer.battles import BAR, Battles, concatenate
from scorer.tables import DataError, Table, read_table

Names = NDArray[np.str_]
Mask = NDArray[np.bool_]

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


class Imported(NamedTuple):
    """battles; rows: how many the file has; dropped: how many of them gave no battle, by reason."""

    battles: Battles
    rows: int
    dropped: dict[str, int]


def response_matrix(
    path: Path,
    *,
    prompt: str = "prompt",
    models: Collection[str] | None = None,
    metadata: Collection[str] = (),
    without: Mapping[str, Collection[str]] | None = None,
    pairs: bool = False,
    weight: float = 1.0,
    source: str | None = None,
) -> Imported:
    """Every model against the bar, the cell being the outcome; empty cells are skipped.

    models: the columns to take; None takes all but `prompt` and `metadata`. without: by metadata column, the values
    whose rows are left out, e.g. a subject with faulty labels. pairs: every two models against each other instead, with
    the outcome 1/2 + (cell of a - cell of b) / 2.
    """
    table = read_table(path)
    columns = [name for name in table.names if name != prompt and name not in metadata] if models is None else models
    texts = table.texts_or_blank(prompt)
    faults: dict[str, Mask] = {_NO_PROMPT: _blank(texts)}
    for column, values in (without or {}).items():
        left_out = [name in values for name in table.names_or_blank(column)]
        faults[f"{column} is {' or '.join(values)}"] = np.array(left_out, bool)
    cells = [(canonical(name), _results(table, name)) for name in columns]
    if len(cells) < 1 + pairs:
        raise DataError(f"{path}: {len(cells)} columns of models; columns: {', '.join(table.names[:40])}")
    if pairs:
        met = [(a, b, 0.5 + (of_a - of_b) / 2) for (a, of_a), (b, of_b) in combinations(cells, 2)]
    else:
        met = [(name, BAR, results) for name, results in cells]
    faults["too few cells are filled"] = np.logical_and.reduce([np.isnan(outcome) for *_, outcome in met])
    keep, dropped = _kept(faults)
    named = source or path.stem
    parts = [_battles(texts, a, b, outcome, keep & ~np.isnan(outcome), weight, named) for a, b, outcome in met]
    return Imported(concatenate(parts), len(table), dropped)


def _results(table: Table, model: str) -> NDArray[np.float64]:
    results = table.numbers(model, 0, 1, gaps=True)
    if np.isnan(results).all():
        raise DataError(f"{table.path}: column {model!r} holds no result; leave it out with --models or --metadata")
    return results


def judged_pairs(
    path: Path,
    *,
    prompt: str = "prompt",
    model_a: str = "model_a",
    model_b: str = "model_b",
    preference_b: str = "preference_b",
    weight: float = 1.0,
    source: str | None = None,
) -> Imported:
    """Model against model; preference_b in [0, 1] is P(b is better)."""
    table = read_table(path)
    names_a, names_b, texts = _names(table, model_a), _names(table, model_b), table.texts_or_blank(prompt)
    preference = table.numbers(preference_b, 0, 1, gaps=True)
    faults = {_NO_PROMPT: _blank(texts), _NO_PAIR: _no_pair(names_a, names_b), "no preference": np.isnan(preference)}
    keep, dropped = _kept(faults)
    battles = _battles(texts, names_a, names_b, 1 - preference, keep, weight, source or path.stem)
    return Imported(battles, len(table), dropped)


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
) -> Imported:
    """Every answer against the bar: 1 above the score `bar`, 0 below it, a tie on it."""
    table = read_table(path)
    names, texts = _names(table, model), table.texts_or_blank(prompt)
    scores = table.numbers(score, low, high, gaps=True)
    keep, dropped = _kept({_NO_PROMPT: _blank(texts), "no model": names == "", "no score": np.isnan(scores)})
    battles = _battles(texts, names, BAR, 0.5 + np.sign(scores - bar) / 2, keep, weight, source or path.stem)
    return Imported(battles, len(table), dropped)


_PREFERENCES = {  # P(a is better)
    "a-is-better": 1.0,
    "a-is-slightly-better": 0.75,
    "tie": 0.5,
    "b-is-slightly-better": 0.25,
    "b-is-better": 0.0,
}
_THUMBS = {"yes": 1.0, "no": 0.0}


def thumbs_pairs(path: Path, *, prompt: str = "prompt", weight: float = 1.0, source: str | None = None) -> Imported:
    """Both answers against the bar (completion_a_is_acceptable, completion_b_is_acceptable: yes or no) and against
    each other (preference: a-is-better, a-is-slightly-better, tie, ...)."""
    table = read_table(path)
    texts, names = table.texts_or_blank(prompt), {side: _names(table, f"model_{side}") for side in "ab"}
    thumbs = {side: _coded(table, f"completion_{side}_is_acceptable", _THUMBS) for side in "ab"}
    preference = _coded(table, "preference", _PREFERENCES)
    keep, dropped = _kept({_NO_PROMPT: _blank(texts), "no model": (names["a"] == "") | (names["b"] == "")})
    source = source or path.stem
    parts = [_battles(texts, names[side], BAR, thumbs[side], keep, weight, source) for side in "ab"]
    differ = keep & (names["a"] != names["b"])
    parts.append(_battles(texts, names["a"], names["b"], preference, differ, weight, source))
    return Imported(concatenate(parts), len(table), dropped)


_WINNERS = {"winner_model_a": 1.0, "winner_tie": 0.5, "winner_model_b": 0.0}
LEAST_CHARACTERS = 16  # of a prompt; RouteLLM drops shorter ones, too


def arena(path: Path, *, weight: float = 1.0, source: str | None = None) -> Imported:
    """Chatbot Arena's published battles, and RouteLLM's judge battles in the same columns: model_a, model_b, prompt (a
    JSON list of the human's turns), and 0 or 1 in winner_model_a, winner_model_b and winner_tie.

    The first turn is what is learned from.
    """
    table = read_table(path)
    names_a, names_b = _names(table, "model_a"), _names(table, "model_b")
    turns = [_first_turn(text) for text in table.texts_or_blank("prompt")]
    won = np.stack([table.numbers(column, 0, 1) for column in _WINNERS], axis=1)
    faults = {
        "the prompt is no list of turns": np.array([turn is None for turn in turns], bool),
        f"under {LEAST_CHARACTERS} characters": np.array([len(turn or "") < LEAST_CHARACTERS for turn in turns], bool),
        "not one winner": won.sum(axis=1) != 1,
        _NO_PAIR: _no_pair(names_a, names_b),
    }
    keep, dropped = _kept(faults)
    texts = [turn or "" for turn in turns]
    battles = _battles(texts, names_a, names_b, won @ list(_WINNERS.values()), keep, weight, source or path.stem)
    return Imported(battles, len(table), dropped)


def _first_turn(prompt: str) -> str | None:
    """None unless it is a JSON list that begins with a text; lone surrogates, which the arena has, are replaced."""
    try:
        turns = json.loads(prompt)
    except ValueError:
        return None
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], str):
        return None
    return turns[0].encode("utf-16", "surrogatepass").decode("utf-16", "replace").strip()


_NO_PROMPT, _NO_PAIR = "no prompt", "a model is missing or meets itself"


def _blank(texts: Sequence[str]) -> Mask:
    return np.array([not text.strip() for text in texts], bool)


def _no_pair(names_a: Names, names_b: Names) -> Mask:
    fault: Mask = (names_a == "") | (names_b == "") | (names_a == names_b)
    return fault


def _kept(faults: Mapping[str, Mask]) -> tuple[Mask, dict[str, int]]:
    """The rows without any fault, and how many have each; a row counts under the first one alone."""
    keep, dropped = np.ones_like(next(iter(faults.values()))), {}
    for reason, faulty in faults.items():
        if count := int((keep & faulty).sum()):
            dropped[reason] = count
        keep &= ~faulty
    return keep, dropped


def _battles(
    texts: Sequence[str],
    model_a: Names | str,
    model_b: Names | str,
    outcome: NDArray[np.float64],
    keep: Mask,
    weight: float,
    source: str,
) -> Battles:
    """The rows that `keep` selects; one name stands for a whole column."""
    a, b = (np.broadcast_to(name, keep.shape)[keep].tolist() for name in (model_a, model_b))
    return Battles.of(
        [text for text, kept in zip(texts, keep, strict=True) if kept], a, b, outcome[keep], weight, source
    )


def _names(table: Table, column: str) -> Names:
    return np.array([canonical(name) for name in table.names_or_blank(column)], np.str_)


def _coded(table: Table, column: str, codes: dict[str, float]) -> NDArray[np.float64]:
    values = table.names_or_blank(column)
    for row, value in enumerate(values, start=1):
        if value not in codes:
            raise table.error(row, column, f"{value!r} is not one of {', '.join(codes)}")
    return np.array([codes[value] for value in values])
