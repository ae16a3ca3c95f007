"""Tables become battles, and battles a router that is served; bad tables are named."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from scorer.calibration import PRETRAINED
from scorer.encoder import Encoder
from tests.scorer.commanding import Write, fault, run


@pytest.fixture
def responses(tmp_path: Path) -> Path:
    """A response matrix: everybody can greet, only `big` can prove."""
    chosen = random.Random(0)
    rows = []
    for number in range(60):
        hard = number % 2 == 0
        prompt = f"Prove theorem {number} of the book." if hard else f"Say hello to guest {number}."
        small_can = chosen.random() < (0.1 if hard else 0.95)
        rows.append({"prompt": prompt, "topic": "proof" if hard else "chat", "big": True, "small": small_can})
    path = tmp_path / "responses.parquet"
    pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_tables_become_battles_and_battles_a_router_that_is_served(
    responses: Path, config: Write, tmp_path: Path, encoder: Encoder
) -> None:
    battles, artifact = tmp_path / "battles.jsonl", tmp_path / "mine"
    imported = run("import", "matrix", responses, "--metadata", "topic", "--out", battles)
    assert imported.exit_code == 0, imported.output
    assert "120 battles on 60 prompts between 3 players" in imported.output
    trained = run("train", "mf", "--battles", battles, "--out", artifact)
    assert trained.exit_code == 0, trained.output
    pair = ["--strong", "big", "--weak", "small"]
    measured = run(
        "evaluate", "--benchmark", responses, "--routers", f"mf={artifact}", *pair, "--out", tmp_path / "report"
    )
    assert measured.exit_code == 0, measured.output
    row = next(line for line in measured.output.splitlines() if line.startswith("mf (mine) "))
    assert float(row.split()[2]) > 0.7  # APGR; knowing the topic and no more gives 0.73
    path = tmp_path / "own.yaml"
    path.write_text(
        f"ladder: [{{model: big}}, {{model: small}}]\ndata_dir: {tmp_path}\nrouters: {{mf: {{artifact: {artifact}}}}}\n"
    )
    from starlette.testclient import TestClient

    from scorer import config as settings
    from scorer import daemon

    with TestClient(daemon.build(settings.load(path)), "http://127.0.0.1") as client:
        prompts = ["Prove theorem 77 of the book.", "Say hello to guest 77."]
        answer = client.post("/v1/score", json={"router": "mf", "prompts": prompts}).json()
    hard, easy = (win_rates["small"] for win_rates in answer["win_rates"])
    assert hard > easy + 0.1


def test_train_and_evaluate_go_by_the_encoder_that_they_are_given(responses: Path, tmp_path: Path) -> None:
    """Without torch's encoder or a cache: the static one ships."""
    battles, mine = tmp_path / "battles.jsonl", tmp_path / "mine"
    run("import", "matrix", responses, "--metadata", "topic", "--out", battles)
    for encoder in ("static", PRETRAINED / "static" / "encoder"):
        shutil.rmtree(mine, ignore_errors=True)
        trained = run("train", "sw", "--battles", battles, "--encoder", encoder, "--out", mine)
        assert trained.exit_code == 0, trained.output
    shipped = json.loads((PRETRAINED / "static" / "encoder" / "encoder.json").read_bytes())
    assert json.loads((mine / "artifact.json").read_bytes())["encoder_id"] == shipped["id"]
    options = ["--routers", f"sw={mine}", "--strong", "big", "--weak", "small", "--out", tmp_path / "report"]
    measured = run("evaluate", "--benchmark", responses, "--encoder", "static", *options)
    row = next(line for line in measured.output.splitlines() if line.startswith("sw (mine) "))
    assert float(row.split()[2]) > 0.7
    assert "was fitted with encoder" in fault("evaluate", "--benchmark", responses, "--encoder", "minilm", *options)


def test_evaluation_prompts_are_dropped_and_counted(responses: Path, tmp_path: Path, encoder: Encoder) -> None:
    battles, held_out = tmp_path / "battles.jsonl", tmp_path / "held_out.jsonl"
    run("import", "matrix", responses, "--metadata", "topic", "--out", battles)
    held_out.write_text(json.dumps({"prompt": "prove THEOREM 4 of the book!"}) + "\n")
    trained = run("train", "mf", "--battles", battles, "--evaluation", held_out, "--out", tmp_path / "mine")
    assert "dropped: 1 prompts that hold an evaluation prompt" in trained.output


def test_rows_can_be_left_out_of_a_matrix(responses: Path, tmp_path: Path) -> None:
    out = tmp_path / "chat.jsonl"
    options = ["--metadata", "topic", "--without", "topic=proof"]
    assert "60 battles on 30 prompts" in run("import", "matrix", responses, *options, "--out", out).output


def test_import_says_how_many_rows_it_dropped_and_why(tmp_path: Path) -> None:
    table, out = tmp_path / "arena.jsonl", tmp_path / "battles.jsonl"
    row = {"model_a": "a", "model_b": "b", "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}
    prompts = ['["Why is the sky so blue?"]', '["hi"]', '["ho"]']
    table.write_text("".join(json.dumps({**row, "prompt": prompt}) + "\n" for prompt in prompts))
    said = run("import", "arena", table, "--out", out).output
    assert "1 battles on 1 prompts between 2 players" in said
    assert "dropped rows: 2 (under 16 characters)" in said


def test_bad_table_is_named_with_row_and_column(responses: Path, tmp_path: Path) -> None:
    line = fault("import", "matrix", responses, "--out", tmp_path / "battles.jsonl")
    assert f"{responses}, row 1: topic: 'proof' is not a number from 0 to 1" in line


def test_missing_extra_is_named(responses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    line = fault("import", "matrix", responses, "--out", tmp_path / "battles.jsonl")
    assert line == "routerd: pyarrow is not installed; this needs: pip install 'routerd[train]'"


def test_plugin_only_install_says_what_the_daemon_needs(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['click'] = None;"
        "from scorer.__main__ import main; sys.argv = ['routerd', 'serve']; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.strip() == "routerd: click is not installed; the daemon needs: pip install 'routerd[scorer]'"
