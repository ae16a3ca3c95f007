"""Logs of a real daemon, in a process of its own: JSON lines with decision ids, and no word of anybody's prompt."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway_plugin import ids
from scorer import logs
from tests.conftest import free_port
from tests.feedback.examples import a_decision

SECRET = "xylophone-of-the-czar"


@pytest.fixture
def formatted() -> Iterator[list[str]]:
    """Lines as the JSON handler would write them."""
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Kept()
    handler.setFormatter(logs.JSONFormatter())
    logger = logging.getLogger("routerd.test")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def run(tmp_path: Path, kind: str) -> tuple[str, list[dict[str, str]]]:
    """Serves prompts well and badly asked; what was logged, and the answers to those that were routed."""
    port = free_port()
    config = tmp_path / "config.yaml"
    config.write_text(
        "ladder: [{model: strong, like: gpt-4-1106-preview}, {model: weak, like: mixtral-8x7b-instruct-v0.1}]\n"
        f"encoder: static\nkeep: text\nlog: {kind}\nlisten: 127.0.0.1:{port}\ndata_dir: {tmp_path}\n"
    )
    command = [sys.executable, "-m", "scorer", "serve", "--config", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            routed = asked(client, process)
    finally:
        process.terminate()
        _, written = process.communicate(timeout=30)
    return written, routed


def asked(client: httpx.Client, process: subprocess.Popen[str]) -> list[dict[str, str]]:
    deadline = time.monotonic() + 60
    while True:
        try:
            client.get("/readyz").raise_for_status()
            break
        except httpx.TransportError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
    turns = [{"role": "user", "content": f"Who plays the {SECRET}?"}]
    answers = [client.post("/v1/route", json={"messages": turns}) for _ in range(3)]
    routed = [answer.json() for answer in answers]
    client.post("/v1/score", json={"router": "mf", "prompts": [SECRET]})
    client.post("/v1/route", json={"messages": SECRET})
    client.post("/v1/route", content=SECRET.encode())
    client.post("/v1/route", json={"prompt": SECRET, "model": f"router-{SECRET}"})
    client.get(f"/{SECRET}")
    rated = {"decision_id": routed[0]["decision_id"], "rating": "down", "comment": SECRET}
    assert client.post("/v1/feedback", json=rated).status_code == 201
    pair = {"prompt": SECRET, "model_a": "strong", "model_b": "weak", "winner": "tie"}
    assert client.post("/v1/comparisons", json=pair).status_code == 201
    client.post("/v1/outcomes", json=[{"decision_id": routed[0]["decision_id"], "status": "failure", "error": SECRET}])
    return routed


def test_lines_are_json_with_decision_ids_and_without_prompts(tmp_path: Path) -> None:
    written, routed = run(tmp_path, "json")
    assert SECRET not in written
    lines = [json.loads(line) for line in written.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    decided = [line for line in lines if line["message"] == "decided"]
    assert [line["decision_id"] for line in decided] == [answer["decision_id"] for answer in routed]
    assert [line["model"] for line in decided] == [answer["model"] for answer in routed]


def test_lines_of_text_have_no_prompts_either(tmp_path: Path) -> None:
    written, routed = run(tmp_path, "text")
    assert SECRET not in written
    assert routed[0]["decision_id"] not in written


def test_exception_is_told_by_class_and_place(formatted: list[str]) -> None:
    token = logs.decision_id.set("0190-id")
    try:
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            raise KeyError(SECRET) from error
    except KeyError:
        logging.getLogger("routerd.test").exception("it failed")
    logs.decision_id.reset(token)
    (line,) = map(json.loads, formatted)
    assert (line["message"], line["exception"], line["decision_id"]) == ("it failed", "KeyError", "0190-id")
    assert line["traceback"][-1] == "KeyError"
    assert line["traceback"].index("ValueError") < len(line["traceback"]) - 1
    assert "test_logs.py" in line["traceback"][0]
    assert SECRET not in formatted[0]


def test_text_formatter_leaves_out_what_exceptions_say() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, __file__, 1, "it failed", (), sys.exc_info())
    line = logs.TextFormatter().format(record)
    assert "ERROR a: it failed" in line
    assert "ValueError" in line
    assert SECRET not in line


def test_decision_is_one_line_where_lines_are_json(caplog: pytest.LogCaptureFixture) -> None:
    decision = a_decision(decision_id=ids.mint(), text=SECRET)
    with caplog.at_level(logging.INFO, "routerd.decisions"):
        logs.decided(decision)
    (record,) = caplog.records
    line = json.loads(logs.JSONFormatter().format(record))
    assert (line["decision_id"], line["model"], line["propensity"]) == (decision.decision_id, "cheap", 0.95)
    assert SECRET not in str(line)
