from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from gateway_plugin import outcomes as module
from gateway_plugin.client import Rejected, Unavailable
from gateway_plugin.outcomes import Outcome, Outcomes


class Sink:
    """Takes deliveries, or raises what it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[Outcome]] = []
        self.error: Exception | None = None
        self.tries = 0
        self._came = asyncio.Event()

    async def __call__(self, batch: Sequence[Outcome]) -> None:
        self.tries += 1
        if self.error:
            raise self.error
        self.batches.append(list(batch))
        self._came.set()

    @property
    def taken(self) -> list[object]:
        return [outcome["n"] for batch in self.batches for outcome in batch]

    async def until(self, number: int) -> None:
        async with asyncio.timeout(10):
            while len(self.taken) < number:
                self._came.clear()
                await self._came.wait()


async def test_outcomes_that_end_together_travel_together_and_in_order() -> None:
    sink = Sink()
    queue = Outcomes(sink, 1000)
    for n in range(250):
        queue.put({"n": n})
    await sink.until(250)
    assert sink.taken == list(range(250))
    assert [len(batch) for batch in sink.batches] == [100, 100, 50]
    queue.stop()


async def test_what_waits_at_the_end_is_delivered_once() -> None:
    sink = Sink()
    queue = Outcomes(sink, 1000)
    for n in range(150):
        queue.put({"n": n})
    await queue.close()
    assert sink.taken == list(range(150))
    sink.error = Unavailable("away")
    queue.put({"n": 150})
    await queue.close()
    assert (sink.tries, len(sink.taken)) == (3, 150)


async def test_nothing_is_sent_while_there_is_nothing() -> None:
    sink = Sink()
    queue = Outcomes(sink, 10)
    queue.put({"n": 0})
    await sink.until(1)
    await asyncio.sleep(0.5)
    assert sink.tries == 1
    queue.put({"n": 1})
    await sink.until(2)
    queue.stop()


async def test_while_the_daemon_is_away_they_wait_with_growing_pauses() -> None:
    sink = Sink()
    sink.error = Unavailable("unreachable")
    queue = Outcomes(sink, 10)
    queue.put({"n": 0})
    queue.put({"n": 1})
    await asyncio.sleep(1.0)
    assert sink.tries == 2  # after 0.2 s and 0.4 s more, not yet after 0.8 s more
    sink.error = None
    await sink.until(2)
    assert sink.taken == [0, 1]
    assert queue.dropped == 0
    queue.stop()


async def test_a_full_queue_drops_the_oldest_and_counts_them(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink()
    queue = Outcomes(sink, 10)
    for n in range(25):
        queue.put({"n": n})
    await sink.until(10)
    assert sink.taken == list(range(15, 25))
    assert queue.dropped == 15
    assert len(caplog.records) == 1
    queue.stop()


async def test_a_batch_that_comes_back_does_not_push_out_newer_ones() -> None:
    sink = Sink()
    sink.error = Unavailable("unreachable")
    queue = Outcomes(sink, 3)
    for n in range(3):
        queue.put({"n": n})
    await asyncio.sleep(0.3)
    for n in range(3, 5):
        queue.put({"n": n})
    sink.error = None
    await sink.until(3)
    assert sink.taken == [2, 3, 4]
    assert queue.dropped == 2
    queue.stop()


async def test_what_the_daemon_refuses_for_good_is_dropped() -> None:
    sink = Sink()
    sink.error = Rejected("decision_id: missing")
    queue = Outcomes(sink, 10)
    queue.put({"n": 0})
    await asyncio.sleep(0.4)
    sink.error = None
    queue.put({"n": 1})
    await sink.until(1)
    assert (sink.taken, queue.dropped) == ([1], 1)
    queue.stop()


async def test_an_error_of_ours_does_not_stop_the_sending() -> None:
    sink = Sink()
    sink.error = TypeError("not JSON")
    queue = Outcomes(sink, 10)
    queue.put({"n": 0})
    await asyncio.sleep(0.4)
    sink.error = None
    queue.put({"n": 1})
    await sink.until(1)
    assert (sink.taken, queue.dropped) == ([1], 1)
    queue.stop()


async def test_putting_takes_microseconds() -> None:
    queue = Outcomes(Sink(), 10_000)
    started = time.perf_counter()
    for n in range(10_000):
        queue.put({"n": n})
    assert time.perf_counter() - started < 0.5
    queue.stop()


def test_a_pause_is_never_longer_than_ten_seconds() -> None:
    assert module._LONGEST_PAUSE_S == 10.0
