"""Pins within a deadline: a database that is slow or away must not keep a request waiting, nor fail it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from scorer.sessions import Pin

_WAIT_SECONDS = 0.1  # for the database, at most
_REST_SECONDS = 1.0  # after which it is asked again, once it did not answer

T = TypeVar("T")

Find = Callable[[str, str], Awaitable[Pin | None]]
Write = Callable[[Pin, Pin | None], Awaitable[Pin]]


class Away(Exception):
    """The database does not answer in time."""


class Conversations:
    """Where pins are found and kept. `find` takes a session and a virtual name; `write` takes a pin and the one that
    was found, and answers the one that counts. Both may raise anything."""

    def __init__(self, find: Find, write: Write) -> None:
        self._find, self._write = find, write
        self._resting_until = 0.0

    async def find(self, session: str, requested: str) -> Pin | None:
        """The conversation's pin. Raises Away."""
        return await self._within(lambda: self._find(session, requested))

    async def keep(self, pin: Pin, seen: Pin | None) -> Pin:
        """The pin that counts from now on. Raises Away."""
        return await self._within(lambda: self._write(pin, seen))

    async def _within(self, work: Callable[[], Awaitable[T]]) -> T:
        if time.monotonic() < self._resting_until:
            raise Away
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                return await work()
        except Exception:
            self._resting_until = time.monotonic() + _REST_SECONDS
            raise Away from None
