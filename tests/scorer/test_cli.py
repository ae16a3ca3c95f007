"""The command line: its faults are one line and exit code 2, and its commands lead from tables to a served router."""

from __future__ import annotations

import json
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result

from scorer.calibration import PRETRAINED
from scorer.cli import cli
from scorer.encoder import Encoder
from tests.conftest import free_port
from tests.demo.stack import Service

LADDER = "ladder: [{model: big, like: gpt-4-1106-preview}, {model: small, like: mixtral-8x7b-instruct-v0.1}]\n"

Write = Callable[..., Path]


@pytest.fixture
def config(tmp_path: Path, encoder: Encoder) -> Write:
    """Writes a configuration: the ladder, a data folder, and what it is called with."""

    def write(more: str = "") -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(f"{LADDER}data_dir: {tmp_path / 'data'}\n{more}")
        return path

    return write


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def fault(*arguments: object) -> str:
    """The one line that a person gets."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    (line,) = result.output.strip().splitlines()
    assert line.startswith("routerd: ")
    return line


# Serving


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PRETRAINED / "minilm" / "mf", tmp_path / "mf"))


def test_truncated_artifact_is_named(config: Write, artifact: Path) -> None:
    tensors = artifact / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-100])
    line = fault("serve", "--config", config(f"routers: {{mf: {{artifact: {artifact}}}}}"))
    assert f"{tensors}: truncated or changed" in line


def test_tampered_manifest_is_named(config: Write, artifact: Path) -> None:
    manifest = artifact / "artifact.json"
    manifest.write_text(manifest.read_text().replace("mixtral-8x7b-instruct-v0.1", "mixtral-8x7b-instruct-v0.2"))
    line = fault("serve", "--config", config(f"routers: {{mf: {{artifact: {artifact}}}}}"))
    assert f"{manifest}: changed since it was written" in line


def test_artifact_of_another_router_is_named(config: Write) -> None:
    line = fault("serve", "--config", config(f"routers: {{mf: {{artifact: {PRETRAINED / 'minilm' / 'calibration'}}}}}"))
    assert "is an artifact of router 'calibration', not 'mf'" in line


def test_missing_artifact_is_named(config: Write, tmp_path: Path) -> None:
    line = fault("serve", "--config", config(f"routers: {{mf: {{artifact: {tmp_path / 'gone'}}}}}"))
    assert f"{tmp_path / 'gone' / 'artifact.json'}: No such file or directory" in line


def test_missing_encoder_says_what_to_run(config: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTERD_CACHE", str(tmp_path / "empty"))
    assert "run `routerd encoder export`" in fault("serve", "--config", config())


def test_router_that_this_version_lacks_is_named(config: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    from scorer import catalogue

    monkeypatch.delitem(catalogue.LOADERS, "bert")
    line = fault("serve", "--config", config("routers: {mf: {}, bert: {}}"))
    assert "router 'bert': not in this version, which has mf, sw," in line


def test_ladder_of_unknown_models_gets_suggestions(config: Write, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"ladder: [{{model: gpt4o}}, {{model: llama-3-70}}]\ndata_dir: {tmp_path}\n")
    line = fault("serve", "--config", path)
    assert "set `like:` to one it knows, such as" in line
    assert "gpt-4o" in line


def test_database_that_cannot_be_used_is_named(config: Write) -> None:
    assert "'mysql' is not supported" in fault("serve", "--config", config("database: mysql://u:secret@h/d"))
    away = fault("serve", "--config", config("database: postgresql://u:secret@127.0.0.1:1/d"))
    assert "refused" in away
    assert "secret" not in away


def test_port_in_use_is_named(config: Write) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}: Address already in use" in fault(
            "serve", "--config", config(f"listen: 127.0.0.1:{port}")
        )


def test_open_bind_without_a_token_is_refused(config: Write) -> None:
    assert "so `token` must be set" in fault("serve", "--config", config("listen: 0.0.0.0:4141"))


@pytest.fixture
def daemon(config: Write, tmp_path: Path) -> Iterator[Service]:
    port = free_port()
    path = config(f"listen: 127.0.0.1:{port}")
    command = [sys.executable, "-m", "scorer", "serve", "--config", str(path)]
    service = Service("daemon", command, f"http://127.0.0.1:{port}/readyz", tmp_path / "daemon.log")
    service.start()
    yield service
    service.stop()


def test_decisions_answered_before_sigterm_are_on_disk_after_it(daemon: Service, tmp_path: Path) -> None:
    base = daemon.ready.removesuffix("/readyz")
    ids = [httpx.post(f"{base}/v1/route", json={"prompt": f"Question {n}?"}).json()["decision_id"] for n in range(40)]
    process = daemon.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == -signal.SIGTERM or process.returncode == 0
    with sqlite3.connect(tmp_path / "data" / "routerd.sqlite") as database:
        assert {row[0] for row in database.execute("SELECT decision_id FROM decisions")} == set(ids)


def test_serving_needs_no_torch(config: Write) -> None:
    program = (
        "import sys, pathlib; from scorer import config, daemon;"
        f"daemon.build(config.load(pathlib.Path({str(config())!r})));"
        "print(sorted({'torch', 'transformers', 'litellm', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


# From tables to a router


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

    with TestClient(daemon.build(settings.load(path))) as client:
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


# Calibration


def calibrated(config_path: Path, *arguments: object) -> str:
    result = run("calibrate", "--config", config_path, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_share_is_calibrated_on_logged_traffic_and_followed_by_a_running_daemon(
    config: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    from starlette.testclient import TestClient

    from scorer import config as settings
    from scorer import daemon

    monkeypatch.setattr(daemon, "_POLL_SECONDS", 0.1)
    path = config()
    with TestClient(daemon.build(settings.load(path))) as client:
        for number in range(120):
            client.post("/v1/route", json={"prompt": f"Tell me a joke about number {number}."})
        before = client.get("/v1/routers").json()["routers"]["mf"]
        deadline = time.monotonic() + 10
        while (told := run("calibrate", "--config", path, "--strong-share", "0.3")).exit_code == 2:
            assert "prompts are logged with their embeddings, 100 are needed" in told.output  # not written yet
            assert time.monotonic() < deadline
        assert "on logged traffic, 120 prompts: threshold" in told.output
        assert "30.0% of them go to big; of the next 1000 requests like them 2" in told.output
        while (after := client.get("/v1/routers").json()["routers"]["mf"])["calibrated_on"] != "logged traffic":
            assert time.monotonic() < deadline
        threshold = float(told.output.split("threshold ")[1].split()[0])
        assert after["thresholds"]["p30"] == pytest.approx(threshold, abs=1e-4)
        assert after["thresholds"]["p30"] != before["thresholds"]["p30"]
        strong = [
            client.post("/v1/route", json={"prompt": f"Tell me a joke about number {n}.", "model": "router-mf-p30"})
            for n in range(120)
        ]
        shares = [answer.json()["probabilities"]["big"] > 0.5 for answer in strong]
        assert sum(shares) / 120 == pytest.approx(0.3, abs=0.01)


def test_share_is_calibrated_on_a_table_of_prompts(config: Write, tmp_path: Path) -> None:
    prompts = tmp_path / "mine.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Sum {n} and {n * n}."}) + "\n" for n in range(50)))
    said = calibrated(config(), "--router", "random", "--strong-share", "0.5", "--prompts", prompts, "--requests", "10")
    assert "random 1 on mine.jsonl, 50 prompts: threshold" in said
    assert "50.0% of them go to big; of the next 10 requests like them 20.0% to 80.0% will" in said


def test_too_little_traffic_is_not_calibrated_on(config: Write) -> None:
    assert "0 prompts are logged" in fault("calibrate", "--config", config(), "--strong-share", "0.3")


@pytest.fixture
def lengths(config: Write, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A configuration with a bert router that reads texts and has no sample."""
    from scorer import catalogue
    from tests.scorer.text import Lengths

    monkeypatch.setitem(catalogue.LOADERS, "bert", lambda *_: Lengths())
    return lambda more="": config(f"encoder: static\nrouters: {{mf: {{}}, bert: {{}}}}\n{more}")


def test_a_router_of_texts_is_calibrated_on_a_table_and_can_be_the_default_then(lengths: Write, tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    from scorer import config as settings
    from scorer import daemon

    prompts = tmp_path / "mine.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": "x" * n}) + "\n" for n in range(1, 101)))
    path = lengths("default: router-bert-p30\n")
    assert "bert is not calibrated: run routerd calibrate --router bert" in fault("serve", "--config", path)
    said = calibrated(path, "--strong-share", "0.3", "--prompts", prompts)
    assert "bert lengths-1 on mine.jsonl, 100 prompts: threshold 0.7050" in said
    with TestClient(daemon.build(settings.load(path))) as client:
        strong = client.post("/v1/route", json={"prompt": "x" * 71}).json()
    assert strong["threshold"] == pytest.approx(0.705)
    assert strong["probabilities"]["big"] > 0.5


def test_a_router_of_texts_is_calibrated_on_logged_texts_where_they_are_kept(lengths: Write) -> None:
    from starlette.testclient import TestClient

    from scorer import config as settings
    from scorer import daemon

    path = lengths("keep: text\n")
    with TestClient(daemon.build(settings.load(path))) as client:
        for number in range(120):
            client.post("/v1/route", json={"prompt": "x" * (number % 60 + 1)})
    said = calibrated(path, "--router", "bert", "--strong-share", "0.5")
    assert "bert lengths-1 on logged traffic, 120 prompts: threshold 0.3050" in said


def test_a_router_of_texts_needs_prompts_where_no_texts_are_kept(lengths: Write) -> None:
    line = fault("calibrate", "--config", lengths(), "--router", "bert", "--strong-share", "0.3")
    assert line.endswith("0 prompts are logged with their texts (`keep: text`), 100 are needed; give --prompts FILE")


def test_an_encoder_can_be_named_to_calibrate_with(config: Write, tmp_path: Path) -> None:
    prompts = tmp_path / "mine.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Sum {n} and {n * n}."}) + "\n" for n in range(50)))
    options = ["--router", "mf", "--strong-share", "0.5", "--prompts", prompts]
    versions = [calibrated(config(), *options, "--encoder", name).split(" on ")[0] for name in ("minilm", "static")]
    shipped = [json.loads((PRETRAINED / name / "mf" / "artifact.json").read_bytes()) for name in ("minilm", "static")]
    assert versions == [f"mf {manifest['version']}" for manifest in shipped]


def test_router_that_is_not_configured_cannot_be_calibrated(config: Write) -> None:
    line = fault("calibrate", "--config", config(), "--router", "sw", "--strong-share", "0.3")
    assert "--router sw:" in line
    assert "lists mf, random" in line
