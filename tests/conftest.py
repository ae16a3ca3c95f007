"""Fixtures that every package's tests share."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

if TYPE_CHECKING:
    from scorer.encoder import Encoder
    from tests.postgres import Postgres

Serve = Callable[[object], str]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Runs ASGI applications on real sockets until the test ends; called with an app, answers its URL."""
    with contextlib.ExitStack() as running:
        yield lambda app: running.enter_context(served(app))


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The real sentence encoder, exported to the ordinary cache the first time it is asked for."""
    from scorer.encoder import Encoder
    from scorer.export import export

    return Encoder.load(export())


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as folder:
        from tests.postgres import Postgres

        server = Postgres(folder)
        yield server
        server.close()


@contextlib.contextmanager
def served(app: object, **options: Any) -> Iterator[str]:
    """options: of uvicorn."""
    port = free_port()
    options = {"log_level": "warning", **options}
    config = uvicorn.Config(app, host="127.0.0.1", port=port, **options)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the server did not start")
            time.sleep(0.005)
        yield f"{'https' if config.is_ssl else 'http'}://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)
