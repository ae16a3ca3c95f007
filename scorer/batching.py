"""Micro-batching: one task owns the queue, and requests that meet there are scored together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Job = TypeVar("Job")
Answer = TypeVar("Answer")


class QueueFull(Exception):
    """More requests wait than the queue holds."""


class Batcher(Generic[Job, Answer]):
    """Scores jobs in a thread of its own, never on the event loop.

    There is no artificial delay: while one batch is being scored the next gathers, so batches grow with load alone.
    `batched` is told how many jobs each one has.
    """

    def __init__(
        self,
        score: Callable[[Sequence[Job]], Sequence[Answer]],
        *,
        capacity: int = 1024,
        largest: int = 32,
        batched: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._score = score
        self._batched = batched
        self._largest = largest
        self._queue: asyncio.Queue[tuple[Job, asyncio.Future[Answer]]] = asyncio.Queue(capacity)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scoring")

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return self._queue.qsize()

    async def submit(self, job: Job) -> Answer:
        """The job's answer. Raises QueueFull at once rather than waiting for a place."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((job, answer))
        except asyncio.QueueFull:
            raise QueueFull from None
        return await answer

    async def run(self) -> None:
        """Serves the queue until cancelled."""
        try:
            while True:
                await self._serve(await self._gather())
        finally:
            self._thread.shutdown(wait=False)
            while not self._queue.empty():
                self._queue.get_nowait()[1].cancel()

    async def _gather(self) -> list[tuple[Job, asyncio.Future[Answer]]]:
        batch = [await self._queue.get()]
        while len(batch) < self._largest and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        return [(job, answer) for job, answer in batch if not answer.done()]  # a caller may have left

    async def _serve(self, batch: list[tuple[Job, asyncio.Future[Answer]]]) -> None:
        if not batch:
            return
        loop = asyncio.get_running_loop()
        try:
            self._batched(len(batch))
            answers = await loop.run_in_executor(self._thread, self._score, [job for job, _ in batch])
            for (_, waiting), answer in zip(batch, answers, strict=True):
                if not waiting.done():
                    waiting.set_result(answer)
        except Exception as error:  # the batch fails, the queue lives on
            for _, waiting in batch:
                if not waiting.done():
                    waiting.set_exception(error)
        finally:  # stopped in mid-batch: nobody is left waiting
            for _, waiting in batch:
                waiting.cancel()
