"""How many threads the daemon multiplies on."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import uvicorn
import yaml
from click.testing import CliRunner
from threadpoolctl import threadpool_info, threadpool_limits

from scorer.cli import cli
from tests.conftest import free_port


def test_daemon_multiplies_on_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several spin while they wait for each other: sw, asked by eight at once, took four times the processor time."""
    settings = {
        "ladder": [{"model": "strong"}, {"model": "weak"}],
        "routers": {"random": {}},
        "default": "router-random-0.5",
        "encoder": "static",
        "listen": f"127.0.0.1:{free_port()}",
        "data_dir": str(tmp_path),
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    seen: list[int] = []

    def run(_: uvicorn.Server, sockets: list[socket.socket]) -> None:
        sockets[0].close()
        seen.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")

    monkeypatch.setattr(uvicorn.Server, "run", run)
    with threadpool_limits(2, "blas"):  # put back at its end
        result = CliRunner().invoke(cli, ["serve", "--config", str(tmp_path / "config.yaml")])
    assert result.exit_code == 0, result.output
    assert set(seen) == {1}
