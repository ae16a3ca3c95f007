"""Shares are calibrated by command: on traffic, on tables, on texts where they are kept."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from scorer.calibration import PRETRAINED
from tests.scorer.commanding import Write, fault, run


def calibrated(config_path: Path, *arguments: object) -> str:
    result = run("calibrate", "--config", config_path, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_share_is_calibrated_on_logged_traffic_and_followed_by_a_running_daemon(
    config: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    from starlette.testclient import TestClient

    from scorer import chores, daemon
    from scorer import config as settings

    monkeypatch.setattr(chores, "_POLL_SECONDS", 0.1)
    path = config()
    with TestClient(daemon.build(settings.load(path)), "http://127.0.0.1") as client:
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
    with TestClient(daemon.build(settings.load(path)), "http://127.0.0.1") as client:
        strong = client.post("/v1/route", json={"prompt": "x" * 71}).json()
    assert strong["threshold"] == pytest.approx(0.705)
    assert strong["probabilities"]["big"] > 0.5


def test_a_router_of_texts_is_calibrated_on_logged_texts_where_they_are_kept(lengths: Write) -> None:
    from starlette.testclient import TestClient

    from scorer import config as settings
    from scorer import daemon

    path = lengths("keep: text\n")
    with TestClient(daemon.build(settings.load(path)), "http://127.0.0.1") as client:
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
