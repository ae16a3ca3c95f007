"""Connections to the daemon: a request that does not arrive is not waited for.

uvicorn times how long a connection idles between requests, but not how long one takes to arrive: who sends a byte now
and then, or vanished without closing, would keep the connection, and a file, for ever.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 15.0  # for a head, from its first byte or the connection's beginning; bodies: web.read_body
HEAD_BYTES = 64 * 1024


class Impatient(HttpToolsProtocol):
    """Cut off while the head of a request is late or too long, and where its body is late though it was answered."""

    _due: asyncio.TimerHandle | None = None  # what is waited for
    _whole = True  # the request has arrived to its end
    _head = 0  # bytes so far

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._due is None and self._whole and self._answered:
            self._wait()
        self._head += len(data)
        super().data_received(data)
        if self._due is not None and self._whole and self._head > HEAD_BYTES:
            self._cut_off()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._due is None:
            self._wait()

    def on_headers_complete(self) -> None:
        self._arrived()
        self._whole = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._arrived()
        self._whole = True
        super().on_message_complete()
        if self._answered:  # before the body was there: uvicorn no longer times it
            self._wait()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._whole and not self.transport.is_closing():
            self._wait()

    @property
    def _answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait(self) -> None:
        self._arrived()
        self._head = 0
        self._due = self.loop.call_later(HEAD_SECONDS, self._cut_off)

    def _arrived(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _cut_off(self) -> None:
        self._arrived()
        self.transport.abort()
