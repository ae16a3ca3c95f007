"""The command line: its faults are one line and exit code 2, and what was decided outlives it."""

from __future__ import annotations

import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from scorer.calibration import PRETRAINED
from tests.demo.stack import Service
from tests.scorer.commanding import Write, fault


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
