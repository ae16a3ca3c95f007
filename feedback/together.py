"""Writes that meet share a transaction: while one is committed the next gathers, so that a commit, which waits for the
disk, serves the more requests the more there are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Job = TypeVar("Job")
Answer = TypeVar("Answer")

_LARGEST = 64  # jobs in a transaction


class Together(Generic[Job, Answer]):
    """`write` answers jobs in their order, in one transaction; what it raises is raised for all of them. For use in one
    event loop."""

    def __init__(self, write: Callable[[Sequence[Job]], Awaitable[Sequence[Answer]]]) -> None:
        self._write = write
        self._waiting: list[tuple[Job, asyncio.Future[Answer]]] = []
        self._task: asyncio.Task[None] | None = None

    async def submit(self, job: Job) -> Answer:
        """The job's answer, once it is committed."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((job, answer))
        if self._task is None:
            self._task = loop.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_LARGEST], self._waiting[_LARGEST:]
                await self._serve([(job, answer) for job, answer in batch if not answer.done()])  # who left gets none
        finally:
            self._task = None

    async def _serve(self, batch: list[tuple[Job, asyncio.Future[Answer]]]) -> None:
        if not batch:
            return
        try:
            answers = await self._write([job for job, _ in batch])
        except Exception as error:
            for _, waiting in batch:
                if not waiting.done():
                    waiting.set_exception(error)
        else:
            for (_, waiting), answer in zip(batch, answers, strict=True):
                if not waiting.done():
                    waiting.set_result(answer)
        finally:  # stopped in the middle: nobody is left waiting
            for _, waiting in batch:
                waiting.cancel()
