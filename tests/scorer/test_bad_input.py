"""Bad input through the command line: one line that says where and why, exit code 2, and nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scorer.encoder import Encoder
from tests.scorer.commanding import fault, run

ROW = {"prompt": "Why is the sky blue?", "model_a": "big", "model_b": "small", "outcome": 1}


def battles(path: Path, *changes: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(ROW | change) + "\n" for change in changes))
    return path


def fault_of_training(
    tmp_path: Path, *changes: dict[str, object], router: str = "sw", options: tuple[str, ...] = ()
) -> str:
    """What training on these battles says at last, after which there is no artifact, nor a part of one."""
    given = battles(tmp_path / "given.jsonl", *changes)
    result = run("train", router, "--battles", given, *options, "--out", tmp_path / "made")
    assert result.exit_code == 2, result.output
    said = result.output.strip().splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["given.jsonl"]
    return said.replace(str(given), "given.jsonl")


def fault_of_import(tmp_path: Path, name: str, content: str | bytes, shape: str = "matrix", *options: str) -> str:
    """What importing this file says, after which there are no battles, nor a part of them."""
    given = tmp_path / name
    given.write_bytes(content.encode() if isinstance(content, str) else content)
    said = fault("import", shape, given, *options, "--out", tmp_path / "made.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    return said.replace(str(given), name)


# Battle files


def test_an_unknown_field_of_a_battle_is_refused(tmp_path: Path, encoder: Encoder) -> None:
    said = fault_of_training(tmp_path, {}, {"wieght": 2})
    assert said.startswith(
        "routerd: given.jsonl, line 2: Object contains unknown field `wieght`; fields: prompt, model_a"
    )


def test_an_empty_prompt_of_a_battle_is_refused(tmp_path: Path, encoder: Encoder) -> None:
    assert fault_of_training(tmp_path, {}, {}, {"prompt": " "}) == "routerd: given.jsonl, line 3: prompt: is empty"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"prompt": "why?", "model_a": "big"', "Input data was truncated"),
        (json.dumps(ROW | {"outcome": 1.5}).encode(), "outcome: Expected `float` <= 1.0"),
        (json.dumps(ROW | {"model_a": None}).encode(), "model_a: Expected `str`, got `null`"),
        (b'{"prompt": "\xff"}', "invalid start byte"),
        (b"prompt,model_a", "JSON is malformed"),
    ],
)
def test_line_40000_of_a_battle_file_is_named_with_the_reason(
    tmp_path: Path, encoder: Encoder, line: bytes, reason: str
) -> None:
    good = json.dumps(ROW).encode() + b"\n"
    given = tmp_path / "given.jsonl"
    given.write_bytes(good * 39_999 + line + b"\n" + good * 1000)
    said = fault("train", "sw", "--battles", given, "--out", tmp_path / "made")
    assert said.startswith(f"routerd: {given}, line 40000: ")
    assert reason.lower() in said.lower()
    assert [path.name for path in tmp_path.iterdir()] == ["given.jsonl"]


def test_a_file_given_twice_is_refused(tmp_path: Path, encoder: Encoder) -> None:
    given = battles(tmp_path / "given.jsonl", {}, {"outcome": 0})
    again = tmp_path / "x" / ".." / "given.jsonl"
    (tmp_path / "x").mkdir()
    said = fault("train", "sw", "--battles", given, "--battles", again, "--out", tmp_path / "made")
    assert "given.jsonl: given twice; to have it count twice, say so in `weight`" in said


def test_equal_rows_are_votes_and_counted(tmp_path: Path, encoder: Encoder) -> None:
    given = battles(tmp_path / "given.jsonl", {}, {}, {"outcome": 0}, {"source": "judge"}, {})
    result = run("train", "sw", "--battles", given, "--out", tmp_path / "made")
    assert result.exit_code == 0, result.output
    said = "5 battles on 1 prompts between 2 players; 2 say the same as another and count as votes of their own"
    assert said in result.output


# What cannot be learned from


def test_battles_that_all_end_alike_are_refused(tmp_path: Path, encoder: Encoder) -> None:
    """One class only, whichever way round the rows are written."""
    swapped = {"model_a": "small", "model_b": "big", "outcome": 0}
    said = fault_of_training(tmp_path, {}, swapped, {"prompt": "And the sea?"})
    assert said == (
        "routerd: any two players' battles all end alike: prompts make no difference, there is nothing to learn"
    )


def test_too_few_battles_of_a_model_leave_nothing_to_learn(tmp_path: Path, encoder: Encoder) -> None:
    assert fault_of_training(tmp_path, {}, {"outcome": 0}, options=("--least", "3")) == (
        "routerd: no battle is left to learn from"
    )


def many(outcome: float) -> list[dict[str, object]]:
    """Thirty prompts, all with this outcome between two models, and others of a third one that differ."""
    rows: list[dict[str, object]] = [{"prompt": f"Question {i}?", "outcome": outcome} for i in range(30)]
    return rows + [{"model_a": "third", "model_b": "bar", "outcome": i % 2} for i in range(2)]


def test_a_pair_with_one_outcome_has_nothing_to_tell_apart(tmp_path: Path, encoder: Encoder) -> None:
    said = fault_of_training(tmp_path, *many(1), router="boosted", options=("--strong", "big", "--weak", "small"))
    assert said == "routerd: big against small: a win rate of 1 on every prompt; there is nothing to tell apart"


def test_a_pair_without_battles_is_named(tmp_path: Path, encoder: Encoder) -> None:
    said = fault_of_training(tmp_path, *many(1), router="boosted", options=("--strong", "bigg", "--weak", "small"))
    assert "bigg" in said


# Imports


ARENA = {
    "model_a": "big",
    "model_b": "small",
    "prompt": '["Why is the sky so blue?"]',
    "winner_model_a": 1,
    "winner_model_b": 0,
    "winner_tie": 0,
}


def test_line_40000_of_an_imported_jsonl_is_named(tmp_path: Path) -> None:
    good = json.dumps(ARENA) + "\n"
    said = fault_of_import(tmp_path, "given.jsonl", good * 39_999 + '{"model_a": \n' + good, "arena")
    assert said == "routerd: given.jsonl, line 40000: Input data was truncated"


def test_line_40000_of_an_imported_jsonl_that_holds_another_kind_is_named(tmp_path: Path) -> None:
    good = json.dumps(ARENA) + "\n"
    said = fault_of_import(
        tmp_path, "given.jsonl", good * 39_999 + json.dumps(ARENA | {"winner_tie": "no"}) + "\n", "arena"
    )
    assert said == "routerd: given.jsonl, line 40000: winner_tie: 'no' is not a number from 0 to 1"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("why?,1", "2 cells; the header has 3"),
        ("why?,1,0,0", "4 cells; the header has 3"),
        ("why?,1,maybe", "small: 'maybe' is not a number from 0 to 1"),
        ('"why?"x,1,0', "',' expected after '\"'"),
    ],
)
def test_line_40000_of_an_imported_csv_is_named(tmp_path: Path, line: str, reason: str) -> None:
    """Also below cells of several lines, of which a row has more than one."""
    content = "prompt,big,small\n" + "why?,1,0\n" * 39_996 + '"two\nlines",1,0\n' + f"{line}\n" + "how?,0,1\n"
    assert fault_of_import(tmp_path, "given.csv", content) == f"routerd: given.csv, line 40000: {reason}"


def test_a_quote_that_is_never_closed_is_named_by_where_it_opens(tmp_path: Path) -> None:
    said = fault_of_import(tmp_path, "given.csv", 'prompt,big\nwhy?,1\n"how?,0\nwho?,1\n')
    assert said == "routerd: given.csv, line 3: unexpected end of data"


def test_text_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    said = fault_of_import(tmp_path, "given.csv", b"prompt,big\nwhy?,1\nh\xe9?,1\n")
    assert said == "routerd: given.csv, line 3: not UTF-8 text"


def test_a_column_that_appears_twice_is_named(tmp_path: Path) -> None:
    said = fault_of_import(tmp_path, "given.csv", "prompt,big,big\nwhy?,1,0\n")
    assert said == "routerd: given.csv, line 1: column 'big' appears twice"


def test_a_table_of_no_battle_is_refused_with_the_reasons(tmp_path: Path) -> None:
    said = fault_of_import(tmp_path, "given.csv", "prompt,model,score\n,big,7\nwhy?,,7\n", "scores", "--bar", "7")
    assert said == "routerd: none of 2 rows is a battle: 1 (no prompt), 1 (no model)"


@pytest.mark.parametrize(
    ("shape", "content", "said"),
    [
        (["matrix"], "prompt,big,small\nwhy?,1,0\n,1,1\nhow?,,\n", "1 (no prompt), 1 (too few cells are filled)"),
        (
            ["pairs"],
            "prompt,model_a,model_b,preference_b\nwhy?,big,small,1\nhow?,big,big,1\nwho?,big,small,\n",
            "1 (a model is missing or meets itself), 1 (no preference)",
        ),
        (
            ["scores", "--bar", "7"],
            "prompt,model,score\nwhy?,big,9\nhow?,,7\nwho?,big,\n",
            "1 (no model), 1 (no score)",
        ),
        (
            ["thumbs"],
            "prompt,model_a,model_b,completion_a_is_acceptable,completion_b_is_acceptable,preference\n"
            "why?,big,small,yes,no,tie\n,big,small,yes,no,tie\nwho?,big,,yes,no,tie\n",
            "1 (no prompt), 1 (no model)",
        ),
        (
            ["arena"],
            "model_a,model_b,prompt,winner_model_a,winner_model_b,winner_tie\n"
            'big,small,"[""Why is the sky so blue?""]",1,0,0\nbig,small,"[""hi""]",1,0,0\nbig,small,,0,1,0\n',
            "1 (the prompt is no list of turns), 1 (under 16 characters)",
        ),
    ],
)
def test_every_shape_says_how_many_rows_it_took_and_dropped_and_why(
    tmp_path: Path, shape: list[str], content: str, said: str
) -> None:
    given = tmp_path / "given.csv"
    given.write_text(content)
    result = run("import", shape[0], given, *shape[1:], "--out", tmp_path / "made.jsonl")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[1:] == ["took 1 of 3 rows", f"dropped rows: {said}"]


def test_a_failed_import_leaves_earlier_battles_alone(tmp_path: Path) -> None:
    out = battles(tmp_path / "made.jsonl", {})
    before = out.read_bytes()
    given = tmp_path / "given.csv"
    given.write_text("prompt,big\nwhy?,1\nhow?,2\n")
    assert "line 3: big: '2' is not a number" in fault("import", "matrix", given, "--out", out)
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given.csv", "made.jsonl"]
