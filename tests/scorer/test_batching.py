"""Batching: what meets is scored together, off the event loop, in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from scorer.batching import Batcher, QueueFull


@contextlib.asynccontextmanager
async def running(
    score: Callable[[Sequence[int]], Sequence[int]], *, capacity: int = 1024, largest: int = 32
) -> AsyncIterator[Batcher[int, int]]:
    batcher = Batcher(score, capacity=capacity, largest=largest)
    task = asyncio.create_task(batcher.run())
    try:
        yield batcher
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_each_caller_gets_its_own_answer() -> None:
    async with running(lambda jobs: [job * job for job in jobs]) as batcher:
        answers = await asyncio.gather(*(batcher.submit(n) for n in range(200)))
    assert answers == [n * n for n in range(200)]


async def test_requests_that_arrive_while_one_is_scored_are_scored_together() -> None:
    batches: list[int] = []
    first_started, release = threading.Event(), threading.Event()

    def score(jobs: Sequence[int]) -> Sequence[int]:
        batches.append(len(jobs))
        first_started.set()
        release.wait(5)
        return jobs

    async with running(score, largest=8) as batcher:
        waiting = [asyncio.create_task(batcher.submit(0))]
        await asyncio.to_thread(first_started.wait, 5)
        waiting += [asyncio.create_task(batcher.submit(n)) for n in range(1, 12)]
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(*waiting)
    assert batches == [1, 8, 3]


async def test_event_loop_keeps_turning_while_a_batch_is_scored() -> None:
    def score(jobs: Sequence[int]) -> Sequence[int]:
        time.sleep(0.3)
        return jobs

    async with running(score) as batcher:
        answer = asyncio.create_task(batcher.submit(1))
        turns = 0
        while not answer.done():
            await asyncio.sleep(0.005)
            turns += 1
    assert turns > 10


async def test_full_queue_refuses_at_once_and_serves_those_it_took() -> None:
    release = threading.Event()

    def score(jobs: Sequence[int]) -> Sequence[int]:
        release.wait(5)
        return jobs

    async with running(score, capacity=2) as batcher:
        taken = [asyncio.create_task(batcher.submit(0))]
        await asyncio.sleep(0.05)  # the first is being scored, so two more fit
        taken += [asyncio.create_task(batcher.submit(n)) for n in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await batcher.submit(3)
        release.set()
        assert await asyncio.gather(*taken) == [0, 1, 2]


async def test_failing_batch_fails_its_callers_and_no_others() -> None:
    def score(jobs: Sequence[int]) -> Sequence[int]:
        if 13 in jobs:
            raise ValueError("unlucky")
        return jobs

    async with running(score) as batcher:
        with pytest.raises(ValueError, match="unlucky"):
            await batcher.submit(13)
        assert await batcher.submit(14) == 14


async def test_listener_that_fails_ends_no_queue() -> None:
    def told(size: int) -> None:
        if size == 1:
            raise ValueError("a single job")

    batcher: Batcher[int, int] = Batcher(lambda jobs: jobs, batched=told)
    task = asyncio.create_task(batcher.run())
    with pytest.raises(ValueError, match="a single job"):
        await batcher.submit(1)
    assert list(await asyncio.gather(batcher.submit(2), batcher.submit(3))) == [2, 3]
    task.cancel()


async def test_caller_that_left_is_not_scored() -> None:
    seen: list[int] = []
    started, release = threading.Event(), threading.Event()

    def score(jobs: Sequence[int]) -> Sequence[int]:
        seen.extend(jobs)
        started.set()
        release.wait(5)
        return jobs

    async with running(score) as batcher:
        first = asyncio.create_task(batcher.submit(1))
        await asyncio.to_thread(started.wait, 5)
        leaver = asyncio.create_task(batcher.submit(2))
        await asyncio.sleep(0)
        leaver.cancel()
        stayer = asyncio.create_task(batcher.submit(3))
        await asyncio.sleep(0)
        release.set()
        assert (await first, await stayer) == (1, 3)
    assert seen == [1, 3]


async def test_callers_still_waiting_when_the_queue_stops_are_released() -> None:
    release = threading.Event()

    def score(jobs: Sequence[int]) -> Sequence[int]:
        release.wait(5)
        return jobs

    async with running(score) as batcher:
        tasks = [asyncio.create_task(batcher.submit(n)) for n in range(3)]
        await asyncio.sleep(0.05)
    release.set()
    done, pending = await asyncio.wait(tasks, timeout=1)
    assert len(done) == 3
    assert not pending
