"""`routerd export feedback` and `routerd import feedback`."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from feedback.migrations import migrate
from feedback.store import Store
from gateway_plugin import ids
from scorer.cli import cli
from scorer.encoder import Encoder
from tests.feedback.examples import a_decision, id_aged, rows

PAIR = {"model_a": "big", "model_b": "small", "winner": "model_a"}


@pytest.fixture
def url(tmp_path: Path) -> str:
    made = f"sqlite:///{tmp_path}/data/routerd.sqlite"
    (tmp_path / "data").mkdir()
    migrate(made)
    return made


@pytest.fixture
def decision_id(url: str) -> str:
    """Of a decision in the database."""
    decision = a_decision()

    async def add() -> None:
        store = Store(url)
        await store.add_decisions([decision])
        await store.close()

    asyncio.run(add())
    return decision.decision_id


def config(folder: Path, keep: str = "embedding") -> Path:
    path = folder / "config.yaml"
    ladder = "[{model: big, like: gpt-4-1106-preview}, {model: small, like: mixtral-8x7b-instruct-v0.1}]"
    path.write_text(f"ladder: {ladder}\ndata_dir: {folder / 'data'}\nkeep: {keep}\n")
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def written(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_ratings_come_in_and_go_out(tmp_path: Path, url: str, decision_id: str) -> None:
    settings = config(tmp_path)
    up = {"decision_id": decision_id, "rating": "up", "user": "ann"}
    unknown = {"decision_id": id_aged(7200), "stars": 3}
    file = written(tmp_path / "in.jsonl", up, up, unknown, {"record": "decision", "decision_id": decision_id})
    first = run("import", "feedback", file, "--config", settings)
    assert first.exit_code == 0, first.output
    assert first.output.splitlines() == [
        f"{file}: took 1 ratings and 0 comparisons",
        "dropped rows: 1 (there already), 1 (of decisions that nobody has heard of),"
        " 1 (decisions, which are not imported)",
    ]
    assert "took 0 ratings and 0 comparisons" in run("import", "feedback", file, "--config", settings).output
    out = tmp_path / "out.jsonl"
    sent = run("export", "feedback", "--out", out, "--config", settings)
    assert sent.output == f"{out}: 1 decisions, 1 ratings, 0 comparisons\n"
    assert [json.loads(line)["record"] for line in out.read_text().splitlines()] == ["decision", "rating"]
    assert run("export", "feedback", "--out", out, "--config", settings, "--before", "2020-01-01").exit_code == 0
    assert out.read_text() == ""


def test_a_comparisons_prompt_is_encoded_and_its_text_forgotten(tmp_path: Path, url: str, encoder: Encoder) -> None:
    file = written(tmp_path / "in.jsonl", {**PAIR, "prompt": "What is the capital of Portugal?"})
    result = run("import", "feedback", file, "--config", config(tmp_path))
    assert result.output.splitlines()[0].endswith("took 0 ratings and 1 comparisons"), result.output
    prompts = encoder.encode(["What is the capital of Portugal?"])
    expected = (None, encoder.id, prompts.embeddings[0].tobytes(), prompts.features[0].tobytes())
    assert rows(url, "SELECT text, encoder_id, embedding, features FROM comparisons") == [expected]


def test_with_a_hash_alone_no_encoder_is_needed(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTERD_CACHE", str(tmp_path / "empty"))
    file = written(tmp_path / "in.jsonl", {**PAIR, "prompt": "why?"})
    assert run("import", "feedback", file, "--config", config(tmp_path, "hash")).exit_code == 0
    found = rows(url, "SELECT text_hash, text, embedding FROM comparisons")
    assert found == [(hashlib.sha256(b"why?").hexdigest(), None, None)]


def test_a_fault_is_one_line_and_nothing_is_taken(tmp_path: Path, url: str, decision_id: str) -> None:
    settings = config(tmp_path)
    good, bad = {"decision_id": decision_id, "rating": "up"}, {"decision_id": ids.mint(), "rating": "maybe"}
    file = written(tmp_path / "in.jsonl", good, bad)
    for arguments, said in (
        (("import", "feedback", file), f"routerd: {file}, line 2: rating: invalid enum value 'maybe'"),
        (("import", "feedback", tmp_path / "none.jsonl"), "No such file or directory"),
        (("export", "feedback", "--out", tmp_path / "f.txt"), "suffix '.txt'; accepted: .jsonl, .parquet"),
    ):
        result = run(*arguments, "--config", settings)
        assert (result.exit_code, len(result.output.splitlines())) == (2, 1)
        assert said in result.output
    assert rows(url, "SELECT count(*) FROM ratings") == [(0,)]
