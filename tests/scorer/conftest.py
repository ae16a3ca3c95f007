"""A real daemon to talk to: real encoder, shipped artifact, SQLite."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from scorer import daemon
from scorer.config import Config
from scorer.encoder import Encoder
from scorer.sections import Rung
from tests.conftest import Serve, free_port
from tests.demo.stack import Service
from tests.scorer.commanding import LADDER, Write

TWO = (Rung("strong", like="gpt-4-1106-preview"), Rung("weak", like="mixtral-8x7b-instruct-v0.1"))
THREE = (
    TWO[0],
    Rung("middle", like="llama-3-70b-instruct"),
    Rung("small", like="mixtral-8x7b-instruct-v0.1"),
)

EASY = "What is the capital of France?"
HARD = "Prove that every finite integral domain is a field, and say where finiteness is used."

Start = Callable[..., httpx.Client]


@pytest.fixture
def start(serve: Serve, tmp_path: Path, encoder: Encoder) -> Start:
    """Starts a daemon with these settings changed, and gives a client of it."""

    def run(ladder: tuple[Rung, ...] = TWO, **changes: object) -> httpx.Client:
        config = Config(ladder=ladder, data_dir=tmp_path, exploration=0.0)
        config = msgspec.structs.replace(config, **changes)
        return httpx.Client(base_url=serve(daemon.build(config)), timeout=30)

    return run


@pytest.fixture
def config(tmp_path: Path, encoder: Encoder) -> Write:
    """Writes a configuration: the ladder, a data folder, and what it is called with."""

    def write(more: str = "") -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(f"{LADDER}data_dir: {tmp_path / 'data'}\n{more}")
        return path

    return write


@pytest.fixture(name="daemon")
def service(config: Write, tmp_path: Path) -> Iterator[Service]:
    """`routerd serve` in a process of its own."""
    port = free_port()
    path = config(f"listen: 127.0.0.1:{port}")
    command = [sys.executable, "-m", "scorer", "serve", "--config", str(path)]
    started = Service("daemon", command, f"http://127.0.0.1:{port}/readyz", tmp_path / "daemon.log")
    started.start()
    yield started
    started.stop()


def route(client: httpx.Client, prompt: str = EASY, **body: object) -> dict[str, object]:
    answer = client.post("/v1/route", json={"model": "router", "prompt": prompt, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]
