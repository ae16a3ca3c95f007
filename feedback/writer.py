"""Writes decisions behind the answer: routing never waits for the database, nor fails with it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice

from feedback.database import Unavailable
from feedback.store import Store
from scorer.decisions import Decision

_BATCH = 256
_LINGER_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 5.0
_LOG_SECONDS = 10.0

_log = logging.getLogger(__name__)


class DecisionWriter:
    """A bounded queue of decisions and the one task that empties it. For use in one event loop.

    `written` and `dropped` count decisions since the start: dropped are those that met a full queue, that the
    database refused, or that were left at the end.
    """

    def __init__(self, store: Store, capacity: int = 10_000) -> None:
        self._store = store
        self._capacity = capacity
        self._queue: dict[str, Decision] = {}  # oldest first; a batch leaves it once it is written
        self.written = self.dropped = self._accepted = 0
        self._some, self._plenty = asyncio.Event(), asyncio.Event()
        self._progress = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._next_log = 0.0

    @property
    def queued(self) -> int:
        return len(self._queue)

    def put(self, decision: Decision) -> None:
        """Queues a decision, or counts it as dropped; the first of an id counts."""
        if decision.decision_id in self._queue:
            return
        if self._closed or len(self._queue) >= self._capacity:
            self._drop(1, "the queue is full" if not self._closed else "the writer is closed")
            return
        self._queue[decision.decision_id] = decision
        self._accepted += 1
        self._some.set()
        if len(self._queue) >= _BATCH:
            self._plenty.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def pending(self, decision_id: str) -> Decision | None:
        """The decision, while it is not yet known to be written."""
        return self._queue.get(decision_id)

    def called(self, call_id: str) -> list[str]:
        """The ids of decisions on a LiteLLM call, while they are not yet known to be written."""
        return [one.decision_id for one in self._queue.values() if one.call_id == call_id]

    async def flush(self) -> None:
        """Returns when everything put so far is written or dropped; waits as long as the database is away."""
        target = self._accepted
        async with self._progress:
            await self._progress.wait_for(lambda: self._settled >= target)

    async def settle(self, seconds: float) -> None:
        """Flushes, for so long at most."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.flush(), seconds)

    async def close(self, deadline: float = 5.0) -> None:
        """Flushes for at most `deadline` seconds; what is left then is dropped."""
        self._closed = True
        await self.settle(deadline)
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._queue:
            self._drop(len(self._queue), "the database did not take them in time")
            self._queue.clear()

    @property
    def _settled(self) -> int:
        return self._accepted - len(self._queue)

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._plenty.wait(), _LINGER_SECONDS)
            batch = list(islice(self._queue.values(), _BATCH))
            await self._write(batch)
            await self._settle(batch)

    async def _settle(self, batch: Sequence[Decision]) -> None:
        for decision in batch:
            del self._queue[decision.decision_id]
        if not self._queue:
            self._some.clear()
        if len(self._queue) < _BATCH:
            self._plenty.clear()
        async with self._progress:
            self._progress.notify_all()

    async def _write(self, batch: Sequence[Decision]) -> None:
        """Until the database takes the batch; what it refuses is dropped."""
        pause = _LINGER_SECONDS
        while True:
            try:
                await self._store.add_decisions(batch)
                self.written += len(batch)
                return
            except Unavailable as error:
                self._warn(f"decisions wait, {len(self._queue)} by now: {error}")
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            except Exception as error:
                if len(batch) > 1:
                    for decision in batch:
                        await self._write([decision])
                else:
                    reason = str(error).partition("\n")[0]  # what follows may quote the row
                    self._drop(1, f"the database refused {batch[0].decision_id}: {reason}")
                return

    def _drop(self, count: int, why: str) -> None:
        self.dropped += count
        self._warn(f"decisions dropped, {self.dropped} by now: {why}")

    def _warn(self, message: str) -> None:
        """Logs at most one line in ten seconds."""
        now = time.monotonic()
        if now >= self._next_log:
            self._next_log = now + _LOG_SECONDS
            _log.warning(message)
