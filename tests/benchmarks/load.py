"""A closed-loop HTTP client: so many connections, each of which asks again as soon as it has its answer."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools
import uvloop

LONGEST_WAIT = 60.0  # seconds, for the answers that are still awaited when the time is up


class Load(NamedTuple):
    """What was seen after the warm-up: milliseconds of each request that was answered 200, those included that were
    under way at the end; how many were answered otherwise, and how many answers came in so many seconds; and all
    requests, with the warm-up's."""

    spans: list[float]
    failed: int
    answered: int
    seconds: float
    asked: int


def post(url: str, body: bytes) -> bytes:
    """A request as it goes over the wire."""
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def run(url: str, requests: Sequence[bytes], connections: int, seconds: float, warm: float) -> Load:
    """Asks for `seconds`, after `warm` seconds that do not count."""
    return uvloop.run(_run(url, requests, connections, seconds, warm))


async def _run(url: str, requests: Sequence[bytes], connections: int, seconds: float, warm: float) -> Load:
    parts, loop = urlsplit(url), asyncio.get_running_loop()
    seen = _Seen(itertools.cycle(requests), time.perf_counter() + warm, seconds)
    made = [
        (await loop.create_connection(lambda: _Connection(seen), parts.hostname or "", parts.port or 80))[1]
        for _ in range(connections)
    ]
    async with asyncio.timeout(warm + seconds + LONGEST_WAIT):
        await asyncio.gather(*(connection.done for connection in made))
    return Load(seen.spans, seen.failed, seen.answered, seconds, seen.asked)


class _Seen:
    """What the connections share. Times are those of the performance counter."""

    def __init__(self, requests: Iterator[bytes], begins: float, seconds: float) -> None:
        self.requests, self.begins, self.ends = requests, begins, begins + seconds
        self.spans: list[float] = []
        self.failed = self.answered = self.asked = 0


class _Connection(asyncio.Protocol):
    def __init__(self, seen: _Seen) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._seen = seen
        self._answer = httptools.HttpResponseParser(self)
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._answer.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionResetError("the server closed a connection"))

    def on_message_complete(self) -> None:
        """Called by the parser at the end of an answer."""
        now, seen = time.perf_counter(), self._seen
        if now >= seen.begins:
            if self._answer.get_status_code() == 200:
                seen.spans.append(1000 * (now - self._began))
            else:
                seen.failed += 1
        seen.answered += seen.begins <= now < seen.ends
        if now < seen.ends:
            self._ask()
        else:
            self.done.set_result(None)
            self._transport.close()

    def _ask(self) -> None:
        self._seen.asked += 1
        self._began = time.perf_counter()
        self._transport.write(next(self._seen.requests))
