from __future__ import annotations

import asyncio
import logging
import time

import pytest

from feedback.store import Store
from feedback.writer import DecisionWriter
from tests.feedback.conftest import Away
from tests.feedback.examples import a_decision, execute, rows

COUNT = "SELECT count(*) FROM decisions"


async def test_decisions_are_written_soon_without_anybody_asking(store: Store, store_url: str) -> None:
    writer = DecisionWriter(store)
    for _ in range(3):
        writer.put(a_decision())
    assert writer.queued == 3
    await asyncio.sleep(0.5)
    assert rows(store_url, COUNT) == [(3,)]
    assert (writer.written, writer.dropped) == (3, 0)
    await writer.close()


async def test_flush_returns_when_everything_put_before_is_written(store: Store, store_url: str) -> None:
    writer = DecisionWriter(store)
    await writer.flush()
    for _ in range(600):
        writer.put(a_decision())
    await writer.flush()
    assert rows(store_url, COUNT) == [(600,)]
    await writer.close()


async def test_putting_waits_for_nothing_while_the_database_is_away(store: Store, away: Away) -> None:
    writer = DecisionWriter(store)
    with away():
        for _ in range(5000):
            writer.put(a_decision())  # no await: nothing else has run in between
        assert (writer.queued, writer.written, writer.dropped) == (5000, 0, 0)
    await asyncio.wait_for(writer.flush(), 30)
    assert (writer.written, writer.dropped) == (5000, 0)
    await writer.close()


async def test_a_read_sees_what_is_still_queued(store: Store) -> None:
    writer = DecisionWriter(store)
    decision = a_decision()
    writer.put(decision)
    assert writer.pending(decision.decision_id) is decision
    await writer.flush()
    assert writer.pending(decision.decision_id) is None
    assert await store.find_decision(decision.decision_id) == decision
    await writer.close()


async def test_the_first_of_an_id_counts(store: Store, store_url: str) -> None:
    writer = DecisionWriter(store)
    decision = a_decision(model="cheap")
    writer.put(decision)
    writer.put(a_decision(decision_id=decision.decision_id, model="strong"))
    await writer.flush()
    writer.put(a_decision(decision_id=decision.decision_id, model="strong"))
    await writer.close()
    assert rows(store_url, "SELECT model FROM decisions") == [("cheap",)]


async def test_a_full_queue_drops_counts_and_says_so_once(
    store: Store, store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    writer = DecisionWriter(store, capacity=10)
    with caplog.at_level(logging.WARNING, "feedback.writer"):
        for _ in range(25):
            writer.put(a_decision())
    assert writer.dropped == 15
    assert len(caplog.records) == 1
    assert "decisions dropped" in caplog.text
    await writer.close()
    assert (writer.written, rows(store_url, COUNT)) == (10, [(10,)])


async def test_decisions_wait_for_a_database_that_is_away(
    store: Store, store_url: str, away: Away, caplog: pytest.LogCaptureFixture
) -> None:
    writer = DecisionWriter(store)
    decisions = [a_decision() for _ in range(300)]
    with away():
        for decision in decisions:
            writer.put(decision)
        await asyncio.sleep(0.5)
        assert writer.written == 0
        assert writer.pending(decisions[0].decision_id) is decisions[0]
    await asyncio.wait_for(writer.flush(), 10)
    assert (writer.written, writer.dropped) == (300, 0)
    assert rows(store_url, COUNT) == [(300,)]
    assert "decisions wait" in caplog.text
    await writer.close()


async def test_closing_gives_up_on_a_database_that_stays_away(store: Store, store_url: str, away: Away) -> None:
    writer = DecisionWriter(store)
    with away():
        writer.put(a_decision())
        started = time.monotonic()
        await writer.close(deadline=0.3)
        assert time.monotonic() - started < 2
    assert (writer.written, writer.dropped, writer.queued) == (0, 1, 0)
    writer.put(a_decision())
    assert writer.dropped == 2


async def test_what_the_database_refuses_is_dropped_alone_and_not_quoted(
    store: Store, store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    writer = DecisionWriter(store)
    good = [a_decision() for _ in range(3)]
    for decision in (good[0], a_decision(model=None), good[1], a_decision(win_rates=None), good[2]):
        writer.put(decision)
    await writer.flush()
    assert (writer.written, writer.dropped) == (3, 2)
    assert "the database refused" in caplog.text
    assert "what is 1 + 1?" not in caplog.text
    assert rows(store_url, COUNT) == [(3,)]
    await writer.close()


async def test_a_table_that_is_missing_for_a_while_loses_nothing(store: Store, store_url: str) -> None:
    execute(store_url, "ALTER TABLE decisions RENAME TO elsewhere")
    writer = DecisionWriter(store)
    writer.put(a_decision())
    await asyncio.sleep(0.2)
    execute(store_url, "ALTER TABLE elsewhere RENAME TO decisions")
    await asyncio.wait_for(writer.flush(), 10)
    assert (writer.written, writer.dropped) == (1, 0)
    await writer.close()
