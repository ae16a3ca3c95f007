"""Layouts that benchmarks are read from: RouteLLM's directories, and response matrices. Needs pyarrow.

    MMLU       a directory of mmlu_<subject>.csv, or one whose `responses` holds them; prompt, one column a model
    GSM8K      gsm8k_responses.csv, or its directory: prompt, one column a model, answers beside them
    MT-Bench   a directory of judgements.jsonl and question.jsonl: the first turn is scored, both turns' scores count
    matrix     a Parquet, CSV or JSONL file: prompt, one column a model (`M` or `M|score`), optionally `M|cost`

A contaminated_prompts.jsonl beside the file, in the directory or above `responses` lists, as `eval_prompt`, what to
leave out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scorer.evaluation.metrics import Floats
from scorer.tables import DataError, Table, read_table

_CONTAMINATED = "contaminated_prompts.jsonl"
_JUDGE_FAILED = -1  # FastChat's score of an answer that its judge could not rate


@dataclass(frozen=True)
class Responses:
    """prompts: n texts; outcomes (n, m), NaN where there is none; costs (n, m) in dollars, if known."""

    prompts: tuple[str, ...]
    outcomes: Floats
    costs: Floats | None = None


def read(path: Path, models: Sequence[str]) -> Responses:
    """Whichever layout it is. Raises DataError."""
    if not path.is_dir():
        return _matrix(read_table(path), models)
    if (path / "judgements.jsonl").exists():
        return _mt_bench(path, models)
    files = sorted((path / "responses").glob("mmlu_*.csv")) or sorted(path.glob("mmlu_*.csv"))
    files = files or sorted(path.glob("*_responses.csv"))
    if not files:
        raise DataError(f"{path}: holds none of judgements.jsonl, mmlu_*.csv, responses/mmlu_*.csv, *_responses.csv")
    parts = [_matrix(read_table(file), models) for file in files]
    return Responses(
        tuple(prompt for part in parts for prompt in part.prompts), np.concatenate([part.outcomes for part in parts])
    )


def contaminated(path: Path) -> frozenset[str]:
    """The prompts listed for this file or directory; none if there is no list."""
    folder = path if path.is_dir() and path.name != "responses" else path.parent
    if not (folder / _CONTAMINATED).exists():
        return frozenset()
    return frozenset(read_table(folder / _CONTAMINATED).texts("eval_prompt"))


def _matrix(table: Table, models: Sequence[str]) -> Responses:
    results = np.stack([table.numbers(_column(table, model), 0, 1) for model in models], axis=1)
    return Responses(tuple(table.texts("prompt")), results, _costs(table, models))


def _costs(table: Table, models: Sequence[str]) -> Floats | None:
    """All of them or none: a ladder with some costs missing cannot be compared by cost."""
    columns = [f"{_column(table, model).removesuffix('|score')}|cost" for model in models]
    missing = [column for column in columns if column not in table.names]
    if len(missing) == len(columns):
        return None
    if missing:
        raise DataError(f"{table.path}: no column {missing[0]!r}, though other models of the ladder have one")
    return np.stack([table.numbers(column, 0, np.inf) for column in columns], axis=1)


def _mt_bench(directory: Path, models: Sequence[str]) -> Responses:
    questions = read_table(directory / "question.jsonl")
    judgements = read_table(directory / "judgements.jsonl")
    scores = judgements.numbers("score", _JUDGE_FAILED, 10)
    scores[scores == _JUDGE_FAILED] = np.nan
    names = judgements.texts("model")
    places = {_named(judgements, model, sorted(set(names)), "model"): i for i, model in enumerate(models)}
    rows = {number: i for i, number in enumerate(_integers(questions, "question_id"))}
    total, turns = np.zeros((len(rows), len(models))), np.zeros((len(rows), len(models)))
    for row, (number, name, score) in enumerate(
        zip(_integers(judgements, "question_id"), names, scores, strict=True), start=1
    ):
        if number not in rows:
            raise judgements.error(row, "question_id", f"{number} is not in {questions.path.name}")
        if name in places and not np.isnan(score):
            total[rows[number], places[name]] += score
            turns[rows[number], places[name]] += 1
    means = np.divide(total, turns, out=np.full_like(total, np.nan), where=turns > 0)
    return Responses(_first_turns(questions), means)


def _first_turns(questions: Table) -> tuple[str, ...]:
    firsts = []
    for row, turns in enumerate(questions.column("turns"), start=1):
        if not isinstance(turns, list) or not turns or not isinstance(turns[0], str):
            raise questions.error(row, "turns", f"{turns!r} is not a list of texts")
        firsts.append(turns[0])
    return tuple(firsts)


def _integers(table: Table, name: str) -> list[int]:
    return [int(number) for number in table.numbers(name, 0, 2**53)]


def _column(table: Table, model: str) -> str:
    scores = [name for name in table.names if not name.endswith("|cost")]
    return _named(table, model, scores, "column")


def _named(table: Table, model: str, names: Sequence[str], kind: str) -> str:
    """The name that means a model: its own, with `|score`, or the only one that differs in an owner or in case."""
    for name in (model, f"{model}|score"):
        if name in names:
            return name
    alike = [name for name in names if _bare(name) == _bare(model)]
    if len(alike) != 1:
        raise DataError(f"{table.path}: no {kind} {model!r}; there are {', '.join(names[:40])}")
    return alike[0]


def _bare(name: str) -> str:
    return name.removesuffix("|score").rpartition("/")[2].casefold()
