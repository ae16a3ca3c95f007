"""An OpenAI-compatible embeddings endpoint on a real socket, which can be slow, wrong or down."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from scorer.sections import EmbeddingsConfig

DIMENSION = 1536

Reply = tuple[int, bytes]


def vector(text: str, dimension: int = DIMENSION) -> NDArray[np.float32]:
    """The unit embedding of a text: random, and always the same."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    drawn = np.random.default_rng(seed).normal(size=dimension)
    unit: NDArray[np.float32] = (drawn / np.linalg.norm(drawn)).astype(np.float32)
    return unit


def refusal(status: int, message: str) -> Reply:
    return status, json.dumps({"error": {"message": message}}).encode()


class Endpoint:
    """asked: the inputs of every call, in order; headers: those of the last one; opened: connections so far."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.headers: dict[str, str] = {}
        self.path = ""
        self.opened = 0
        self.connections: list[socket.socket] = []
        self.seconds = 0.0  # before an answer
        self.reply: Callable[[dict[str, Any]], Reply] = self.embed
        self.server: ThreadingHTTPServer | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def settings(self, **changes: Any) -> EmbeddingsConfig:
        return msgspec.structs.replace(EmbeddingsConfig(self.url, key="sk-secret", timeout_ms=2000), **changes)

    def embed(self, body: dict[str, Any]) -> Reply:
        """As OpenAI does; the items in another order than asked, which their index tells."""
        items = [{"index": i, "embedding": self.encoded(body, text)} for i, text in enumerate(body["input"])]
        return 200, json.dumps({"object": "list", "data": items[::-1], "model": body["model"]}).encode()

    def encoded(self, body: dict[str, Any], text: str) -> object:
        assert body["encoding_format"] == "base64"
        return base64.b64encode(vector(text).astype("<f4").tobytes()).decode()

    def start(self) -> None:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                endpoint.opened += 1
                endpoint.connections.append(self.connection)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.path, endpoint.headers = self.path, dict(self.headers)
                endpoint.asked.append(body["input"])
                time.sleep(endpoint.seconds)
                status, content = endpoint.reply(body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # a client that did not wait

        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self.server = None
