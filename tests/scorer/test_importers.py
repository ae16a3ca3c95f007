"""Importers: what each published shape means in battles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scorer import importers
from scorer.battles import BAR
from scorer.importers import Imported
from scorer.tables import DataError

Write = Callable[[list[dict[str, object]]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    import pyarrow as pa
    import pyarrow.parquet

    def table(rows: list[dict[str, object]]) -> Path:
        path = tmp_path / "given.parquet"
        pa.parquet.write_table(pa.Table.from_pylist(rows), path)
        return path

    return table


def rows(imported: Imported) -> list[tuple[str, str, str, float]]:
    battles = imported.battles
    return [
        (battles.prompts[p], a, b, outcome)
        for p, a, b, outcome in zip(
            battles.prompt.tolist(),
            battles.model_a.tolist(),
            battles.model_b.tolist(),
            battles.outcome.tolist(),
            strict=True,
        )
    ]


def test_a_response_matrix_sets_every_model_against_the_bar(write: Write) -> None:
    path = write([{"prompt": "p", "org/Big_Model": True, "small": False, "topic": "x"}, {"prompt": "q", "small": True}])
    imported = importers.response_matrix(path, metadata=["topic"], weight=2.0)
    assert rows(imported) == [("p", "big-model", BAR, 1), ("p", "small", BAR, 0), ("q", "small", BAR, 1)]
    assert imported.battles.weight.tolist() == [2, 2, 2]
    assert imported.battles.source.tolist() == ["given"] * 3


def test_a_score_is_a_soft_outcome(write: Write) -> None:
    imported = importers.response_matrix(write([{"prompt": "p", "m": 0.7}]), source="mine")
    assert rows(imported) == [("p", "m", BAR, 0.7)]
    assert imported.battles.source.tolist() == ["mine"]


def test_chosen_columns_alone_are_models(write: Write) -> None:
    imported = importers.response_matrix(write([{"prompt": "p", "m": 1, "n": 0, "cost": 9.5}]), models=["n"])
    assert rows(imported) == [("p", "n", BAR, 0)]


def test_rows_with_faulty_labels_can_be_left_out(write: Write) -> None:
    path = write([{"prompt": "p", "m": 1, "topic": "x"}, {"prompt": "q", "m": 1, "topic": "y"}])
    imported = importers.response_matrix(path, metadata=["topic"], without={"topic": ["x"]})
    assert rows(imported) == [("q", "m", BAR, 1)]
    assert (imported.rows, imported.dropped) == (2, {"topic is x": 1})


def test_models_can_be_set_against_each_other(write: Write) -> None:
    """The outcome is that of the difference of the cells; a row with one cell has no pair."""
    cells: list[dict[str, object]] = [{"m": 1, "n": 0, "o": 1}, {"m": 0.2, "n": 0.6, "o": None}, {"m": 1}]
    imported = importers.response_matrix(write([{"prompt": f"p{i}", **row} for i, row in enumerate(cells)]), pairs=True)
    assert sorted(rows(imported)) == [
        ("p0", "m", "n", 1.0),
        ("p0", "m", "o", 0.5),
        ("p0", "n", "o", 0.0),
        ("p1", "m", "n", pytest.approx(0.3)),
    ]
    assert (imported.rows, imported.dropped) == (3, {"too few cells are filled": 1})


def test_a_model_without_results_is_named(write: Write) -> None:
    with pytest.raises(DataError, match="column 'n' holds no result; leave it out"):
        importers.response_matrix(write([{"prompt": "p", "m": 1, "n": None}]))


def test_a_matrix_without_models_is_refused(write: Write) -> None:
    path = write([{"prompt": "p", "m": 1}])
    with pytest.raises(DataError, match="0 columns of models; columns: prompt, m"):
        importers.response_matrix(path, metadata=["m"])
    with pytest.raises(DataError, match="1 columns of models"):
        importers.response_matrix(path, pairs=True)


def test_a_csv_will_do(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text('prompt,m\n"two\nlines",0.5\nplain,1\n')
    assert rows(importers.response_matrix(path)) == [("two\nlines", "m", BAR, 0.5), ("plain", "m", BAR, 1)]


def test_a_forgotten_metadata_column_is_named(write: Write) -> None:
    with pytest.raises(DataError, match=r"given\.parquet, row 1: topic: 'x' is not a number from 0 to 1"):
        importers.response_matrix(write([{"prompt": "p", "m": 1, "topic": "x"}]))


def test_a_preference_for_b_is_an_outcome_against_a(write: Write) -> None:
    path = write(
        [
            {"prompt": "p", "model_a": "gpt4_1106_preview", "model_b": "B", "preference_b": 0.25},
            {"prompt": "q", "model_a": None, "model_b": "B", "preference_b": 1.0},
        ]
    )
    imported = importers.judged_pairs(path)
    assert rows(imported) == [("p", "gpt-4-1106-preview", "b", 0.75)]
    assert (imported.rows, imported.dropped) == (2, {"a model is missing or meets itself": 1})


def test_a_judges_score_is_compared_with_the_bar(write: Write) -> None:
    path = write([{"prompt": "p", "model": f"m{score}", "score": float(score)} for score in (9, 7, 3)])
    assert rows(importers.judged_answers(path, bar=7)) == [
        ("p", "m9", BAR, 1),
        ("p", "m7", BAR, 0.5),
        ("p", "m3", BAR, 0),
    ]


def test_a_score_outside_the_scale_is_named(write: Write) -> None:
    path = write([{"prompt": "p", "model": "m", "score": -1.0}])
    with pytest.raises(DataError, match=r"row 1: score: -1\.0 is not a number from 1 to 10"):
        importers.judged_answers(path, bar=7)


def test_thumbs_and_preference_are_three_battles(write: Write) -> None:
    verdict: dict[str, object] = {
        "completion_a_is_acceptable": "yes",
        "completion_b_is_acceptable": "no",
        "preference": "a-is-slightly-better",
    }
    path = write([{"prompt": "p", "model_a": "a", "model_b": "b"} | verdict])
    assert rows(importers.thumbs_pairs(path)) == [
        ("p", "a", BAR, 1),
        ("p", "b", BAR, 0),
        ("p", "a", "b", 0.75),
    ]


def test_an_unknown_verdict_is_named(write: Write) -> None:
    verdict: dict[str, object] = {
        "completion_a_is_acceptable": "maybe",
        "completion_b_is_acceptable": "no",
        "preference": "tie",
    }
    path = write([{"prompt": "p", "model_a": "a", "model_b": "b"} | verdict])
    with pytest.raises(DataError, match="row 1: completion_a_is_acceptable: 'maybe' is not one of yes, no"):
        importers.thumbs_pairs(path)


def test_a_missing_column_is_named_with_those_there_are(write: Write) -> None:
    with pytest.raises(DataError, match="no column 'prompt'; columns: question, m"):
        importers.response_matrix(write([{"question": "p", "m": 1}]))


@pytest.mark.parametrize(
    "name",
    ["Mixtral-8x7B-Instruct-v0.1", "mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral_8x7b_instruct_v0.1"],
)
def test_one_model_has_one_name(name: str) -> None:
    assert importers.canonical(name) == "mixtral-8x7b-instruct-v0.1"


def test_arena_rows_are_battles_on_the_first_turn_and_the_others_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "arena.csv"
    columns = "id,model_a,model_b,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie"
    turns = '"[""Why is the sky so blue?"",""And the sea?""]"'
    path.write_text(
        f"{columns}\n"
        f"1,GPT-4,org/Mixtral_8x7B,{turns},x,y,1,0,0\n"
        f"2,gpt-4,mixtral-8x7b,{turns},x,y,0,0,1\n"
        f"3,gpt-4,mixtral-8x7b,{turns},x,y,0,1,0\n"
        '4,gpt-4,mixtral-8x7b,"[""hi""]",x,y,1,0,0\n'
        f"5,gpt-4,gpt-4,{turns},x,y,1,0,0\n"
        f"6,gpt-4,mixtral-8x7b,{turns},x,y,1,1,0\n"
        "7,gpt-4,mixtral-8x7b,Why is the sky so blue?,x,y,1,0,0\n"
        '8,gpt-4,mixtral-8x7b,"[""A lone \\ud83d surrogate half.""]",x,y,1,0,0\n'
    )
    imported = importers.arena(path)
    sky, lone = "Why is the sky so blue?", "A lone \ufffd surrogate half."
    pair = ("gpt-4", "mixtral-8x7b")
    assert rows(imported) == [(sky, *pair, 1.0), (sky, *pair, 0.5), (sky, *pair, 0.0), (lone, *pair, 1.0)]
    assert imported.rows == 8
    assert imported.dropped == {
        "the prompt is no list of turns": 1,
        "under 16 characters": 1,
        "not one winner": 1,
        "a model is missing or meets itself": 1,
    }


def test_rows_without_prompt_model_or_score_are_dropped_and_counted(write: Write) -> None:
    full: dict[str, object] = {"prompt": "p", "model": "m", "score": 9.0}
    path = write(
        [full, full | {"prompt": "  "}, full | {"prompt": None}, full | {"model": None}, full | {"score": None}]
    )
    imported = importers.judged_answers(path, bar=7)
    assert rows(imported) == [("p", "m", BAR, 1)]
    assert (imported.rows, imported.dropped) == (5, {"no prompt": 2, "no model": 1, "no score": 1})


def test_two_answers_of_one_model_are_two_thumbs_and_no_comparison(write: Write) -> None:
    verdict: dict[str, object] = {
        "completion_a_is_acceptable": "yes",
        "completion_b_is_acceptable": "no",
        "preference": "tie",
    }
    path = write([{"prompt": "p", "model_a": "a", "model_b": b} | verdict for b in ("a", None)])
    imported = importers.thumbs_pairs(path)
    assert rows(imported) == [("p", "a", BAR, 1), ("p", "a", BAR, 0)]
    assert (imported.rows, imported.dropped) == (2, {"no model": 1})
