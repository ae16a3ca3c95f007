"""Outcomes on their way to the daemon: a bounded queue that one task empties in batches."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from gateway_plugin.faults import Rejected, Unavailable

logger = logging.getLogger(__name__)

Outcome = dict[str, object]
Deliver = Callable[[Sequence[Outcome]], Awaitable[None]]

_BATCH = 100
_GATHER_S = 0.2  # outcomes that end this close together travel together
_LONGEST_PAUSE_S = 10.0


class Outcomes:
    """Keeps up to `size` outcomes while the daemon is away; `dropped` counts those beyond, oldest first."""

    def __init__(self, deliver: Deliver, size: int) -> None:
        self.dropped = 0
        self._deliver, self._size = deliver, size
        self._queue: deque[Outcome] = deque()
        self._filled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def put(self, outcome: Outcome) -> None:
        self._queue.append(outcome)
        self._bound()
        self._filled.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._empty())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Delivers what waits, once, and stops."""
        self.stop()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)  # what it was delivering waits again
        while self._queue and await self._delivered(self._next()):
            pass

    async def _empty(self) -> None:
        pause = _GATHER_S
        while True:
            await self._filled.wait()
            await asyncio.sleep(pause)
            batch = self._next()
            try:
                done = await self._delivered(batch)
            except asyncio.CancelledError:
                self._queue.extendleft(reversed(batch))  # what comes twice counts once
                raise
            if done:
                pause = _GATHER_S
            else:
                self._queue.extendleft(reversed(batch))
                self._bound()
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            if not self._queue:
                self._filled.clear()

    def _next(self) -> list[Outcome]:
        return [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]

    async def _delivered(self, batch: list[Outcome]) -> bool:
        """False when the batch should be tried again."""
        try:
            await self._deliver(batch)
        except Unavailable as error:
            logger.info("routerd: %d outcomes wait for the daemon: %s", len(batch) + len(self._queue), error)
            return False
        except Rejected as error:
            self.dropped += len(batch)
            logger.warning("routerd: the daemon refused %d outcomes: %s", len(batch), error)
        except Exception:
            self.dropped += len(batch)
            logger.exception("routerd: %d outcomes could not be delivered", len(batch))
        return True

    def _bound(self) -> None:
        excess = len(self._queue) - self._size
        if excess <= 0:
            return
        if not self.dropped:
            logger.warning("routerd: the outcome queue is full (%d); the oldest outcomes are dropped", self._size)
        self.dropped += excess
        for _ in range(excess):
            self._queue.popleft()
