"""A real daemon to talk to: real encoder, shipped artifact, SQLite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import pytest

from scorer import daemon
from scorer.config import Config
from scorer.encoder import Encoder
from scorer.sections import Rung
from tests.conftest import Serve

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


def route(client: httpx.Client, prompt: str = EASY, **body: object) -> dict[str, object]:
    answer = client.post("/v1/route", json={"model": "router", "prompt": prompt, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]
