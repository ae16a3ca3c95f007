"""Battles: files in two formats, the same rows out, and errors that name file, row and field."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer import battles
from scorer.battles import BAR, Battles
from scorer.tables import DataError

ROWS = Battles.of(
    ["why?", "how?", "why?"],
    ["a", "b", "a"],
    ["b", BAR, BAR],
    [1, 0.5, 0.25],
    [1, 2, 0.5],
    ["judge", "", "thumbs"],
)
GOOD = {"prompt": "why?", "model_a": "a", "model_b": "b", "outcome": 1}

texts = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)
rows = st.tuples(
    texts, st.sampled_from("abc"), st.sampled_from(["d", BAR]), st.floats(0, 1), st.floats(1e-6, 1e6), texts
)


def assert_same(a: Battles, b: Battles) -> None:
    assert a.prompts == b.prompts
    for column in ("prompt", "model_a", "model_b", "outcome", "weight", "source"):
        np.testing.assert_array_equal(getattr(a, column), getattr(b, column))
    assert a.fingerprint == b.fingerprint


def test_prompts_are_kept_once() -> None:
    assert ROWS.prompts == ("why?", "how?")
    assert ROWS.prompt.tolist() == [0, 1, 0]
    assert ROWS.players == ("a", "b", BAR)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@given(st.lists(rows, max_size=8))
def test_a_file_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    written: list[tuple[str, str, str, float, float, str]],
) -> None:
    path = tmp_path_factory.mktemp("battles") / f"rows{suffix}"
    before = (
        Battles.of(*(list(column) for column in zip(*written, strict=True))) if written else Battles.of([], [], [], [])
    )
    battles.write(path, before)
    assert_same(battles.read([path]), before)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_weight_and_source_have_defaults(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(GOOD) + "\n\n" + json.dumps(GOOD | {"outcome": 0}) + "\n")
    read = battles.read([path])
    assert (read.weight.tolist(), read.source.tolist(), read.outcome.tolist()) == ([1, 1], ["", ""], [1, 0])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"outcome": 1.5}, "outcome: Expected `float` <= 1.0"),
        ({"outcome": "won"}, "outcome: Expected `float`, got `str`"),
        ({"outcome": None}, "outcome: Expected `float`, got `null`"),
        ({"weight": 0}, "weight: Expected `float` > 0.0"),
        ({"model_a": None}, "model_a: Expected `str`, got `null`"),
        ({"model_b": "a"}, "model_b: is the same as model_a"),
        ({"prompt": "  "}, "prompt: is empty"),
        ({"winner": "a"}, "unknown field `winner`"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, change: dict[str, object], fault: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{json.dumps(GOOD | change)}\n")
    with pytest.raises(DataError) as caught:
        battles.read([path])
    assert str(caught.value).startswith(f"{path}, line 3: ")
    assert fault in str(caught.value)


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b'\n{"prompt": \xff}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl, line 2: "):
        battles.read([path])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"outcome": 2.0}, "row 2: outcome: 2.0 is not a number from 0 to 1"),
        ({"outcome": float("nan")}, "row 2: outcome: None is not a number"),
        ({"model_a": None}, "row 2: model_a: is missing"),
        ({"model_b": "a"}, "row 2: model_b: is the same as model_a"),
        ({"prompt": ""}, "row 2: prompt: '' is not a text"),
    ],
)
def test_a_bad_row_of_parquet_is_named(tmp_path: Path, change: dict[str, object], fault: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    path = tmp_path / "rows.parquet"
    good = GOOD | {"outcome": 1.0}
    pa.parquet.write_table(pa.Table.from_pylist([good, good | change]), path)
    with pytest.raises(DataError) as caught:
        battles.read([path])
    assert str(caught.value).startswith(f"{path}, {fault}")


def test_an_unknown_column_of_parquet_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    path = tmp_path / "rows.parquet"
    pa.parquet.write_table(pa.Table.from_pylist([GOOD | {"wieght": 2.0}]), path)
    with pytest.raises(DataError, match="unknown column 'wieght'; columns: prompt, model_a"):
        battles.read([path])


@pytest.mark.parametrize(("name", "fault"), [("rows.txt", "suffix '.txt'"), ("none.jsonl", "No such file")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        battles.read([tmp_path / name])


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"rows\.parquet: cannot be read"):
        battles.read([tmp_path / "rows.parquet"])


def test_files_are_concatenated_and_share_prompts(tmp_path: Path) -> None:
    for name in ("one.jsonl", "two.parquet"):
        battles.write(tmp_path / name, ROWS)
    both = battles.read([tmp_path / "one.jsonl", tmp_path / "two.parquet"])
    assert both.prompts == ROWS.prompts
    assert both.prompt.tolist() == [0, 1, 0, 0, 1, 0]


def test_taking_rows_drops_prompts_without_any() -> None:
    taken = ROWS.take(np.array([False, True, False]))
    assert (taken.prompts, taken.prompt.tolist(), taken.model_a.tolist()) == (("how?",), [0], ["b"])


def test_the_fingerprint_is_of_the_content() -> None:
    assert ROWS.take(np.array([0, 1, 2])).fingerprint == ROWS.fingerprint
    assert ROWS.take(np.array([0, 1])).fingerprint != ROWS.fingerprint
