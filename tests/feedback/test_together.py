"""Writes that meet share a transaction; each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from feedback.store import Store
from feedback.together import Together
from scorer.sessions import Pin


class Disk:
    """A write that takes until it is let go; 13 cannot be written."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free = asyncio.Event()

    async def write(self, jobs: Sequence[int]) -> list[int]:
        self.batches.append(list(jobs))
        await self.free.wait()
        if 13 in jobs:
            raise ValueError("unlucky")
        return [job * job for job in jobs]


async def test_each_caller_gets_its_own_answer() -> None:
    disk = Disk()
    disk.free.set()
    together = Together(disk.write)
    assert await asyncio.gather(*(together.submit(n) for n in range(200) if n != 13)) == [
        n * n for n in range(200) if n != 13
    ]


async def test_writes_that_meet_while_one_is_committed_are_committed_together() -> None:
    disk = Disk()
    together = Together(disk.write)
    waiting = [asyncio.create_task(together.submit(0))]
    await settled()
    waiting += [asyncio.create_task(together.submit(n)) for n in range(1, 70) if n != 13]
    await settled()
    disk.free.set()
    await asyncio.gather(*waiting)
    assert [len(batch) for batch in disk.batches] == [1, 64, 4]


async def test_failed_transaction_fails_those_in_it_and_nobody_later() -> None:
    disk = Disk()
    disk.free.set()
    together = Together(disk.write)
    found = await asyncio.gather(together.submit(13), together.submit(2), return_exceptions=True)
    assert [type(each) for each in found] == [ValueError, ValueError]
    assert await together.submit(3) == 9


async def test_who_left_is_not_written() -> None:
    disk = Disk()
    together = Together(disk.write)
    first = asyncio.create_task(together.submit(1))
    await settled()
    leaver, stayer = (asyncio.create_task(together.submit(n)) for n in (2, 3))
    await settled()
    leaver.cancel()
    await settled()
    disk.free.set()
    assert (await first, await stayer) == (1, 9)
    assert disk.batches == [[1], [3]]


async def test_pins_that_meet_are_all_kept_and_the_first_of_a_conversation_counts(store: Store) -> None:
    sessions = [f"s{n % 10}" for n in range(40)]
    asked = [a_pin(session, f"m{n}") for n, session in enumerate(sessions)]
    counted = await asyncio.gather(*(store.write_pin(pin, None) for pin in asked))
    assert [pin.session for pin in counted] == sessions
    assert [pin.model for pin in counted] == [f"m{n % 10}" for n in range(40)]
    assert [await store.find_pin(session, "router") for session in sessions[:10]] == counted[:10]


async def test_pins_that_meet_are_renewed_each_where_it_is_what_was_seen(store: Store) -> None:
    first = await asyncio.gather(*(store.write_pin(a_pin(f"s{n}", "old"), None) for n in range(5)))
    stale = a_pin("s4", "other")
    renewed = [(a_pin(pin.session, "new"), pin) for pin in first[:4]] + [(a_pin("s4", "new"), stale)]
    counted = await asyncio.gather(*(store.write_pin(pin, seen) for pin, seen in renewed))
    assert [pin.model for pin in counted] == ["new"] * 4 + ["old"]


def a_pin(session: str, model: str) -> Pin:
    return Pin(session=session, requested="router", model=model, version="1", pinned_at=1.0, seen_at=1.0, tokens=9.0)


async def settled() -> None:
    """Everything that can go on has."""
    for _ in range(5):
        await asyncio.sleep(0)
