"""Clients that are slow, or that stop half way and never close."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

_BODY = json.dumps({"prompt": "Why is the sky blue, and the sunset red? " * 20}).encode()
_LINES = (
    "POST /v1/route HTTP/1.1",
    "Host: 127.0.0.1",
    "Content-Type: application/json",
    f"Content-Length: {len(_BODY)}",
)
_HEAD = "\r\n".join((*_LINES, "", ""))
REQUEST = _HEAD.encode() + _BODY
_CUTS = (0, 20, len(_HEAD) + 20)  # nothing sent, half a head, half a body


async def trickle(url: str, connections: int, seconds: float) -> None:
    """Each sends a byte a second of a request."""
    await asyncio.gather(*(_trickled(url, seconds) for _ in range(connections)))


async def _trickled(url: str, seconds: float) -> None:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(*_address(url))
            try:
                for octet in REQUEST:
                    writer.write(bytes([octet]))
                    await writer.drain()
                    await asyncio.sleep(1)
            finally:
                writer.close()


@contextlib.contextmanager
def half_open(url: str, connections: int) -> Iterator[list[socket.socket]]:
    """Sockets that sent nothing, half a head or half a body, and say no more."""
    opened: list[socket.socket] = []
    try:
        for number in range(connections):
            with contextlib.suppress(OSError):  # where the daemon has no room left
                one = socket.create_connection(_address(url), timeout=5)
                opened.append(one)
                one.sendall(REQUEST[: _CUTS[number % len(_CUTS)]])
                one.setblocking(False)
        yield opened
    finally:
        for one in opened:
            one.close()


def left_open(opened: Sequence[socket.socket], seconds: float) -> int:
    """How many the other side has not closed by then."""
    deadline = time.monotonic() + seconds
    while not all(map(_closed, opened)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return len(opened) - sum(map(_closed, opened))


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def _closed(one: socket.socket) -> bool:
    """Whether the other side has closed it."""
    try:
        while one.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
