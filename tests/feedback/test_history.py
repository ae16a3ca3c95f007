from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from sqlalchemy import event

from feedback.database import open_engine
from feedback.history import everything, first_id, telling
from feedback.migrations import migrate
from feedback.records import Outcome, Rating, Record
from feedback.store import Store
from gateway_plugin import ids
from tests.feedback.examples import a_decision, id_aged

ALL = ("regenerated", "disconnected", "length", "error")


async def collected(pages: AsyncIterator[list[Record]]) -> list[Record]:
    return [record async for page in pages for record in page]


async def found(pages: AsyncIterator[list[Record]]) -> list[str]:
    return [record.decision_id for record in await collected(pages)]


async def test_a_rated_decision_comes_with_all_that_is_known(store: Store) -> None:
    decision = a_decision()
    await store.add_decisions([decision, a_decision()])
    await store.record_outcomes([Outcome(decision_id=decision.decision_id, status="success", served="cheap")])
    tagged = Rating(decision_id=decision.decision_id, value=0.75, kind="stars", user="ann", tags=("slow", "terse"))
    for rating in (Rating(decision_id=decision.decision_id, value=1.0, user="ann"), tagged):
        await store.rate(rating)
    (record,) = await collected(store.rated())
    assert (record.decision_id, record.decision, record.ratings) == (decision.decision_id, decision, [tagged])
    assert record.outcome is not None
    assert record.outcome.served == "cheap"
    assert not record.regenerated
    assert record == await store.decision(decision.decision_id)


async def test_nothing_that_was_rated_is_left_out(store: Store) -> None:
    expired, retracted, fallback, lost, pending = (id_aged(seconds) for seconds in (9000, 400, 300, 200, 100))
    await store.add_decisions([a_decision(decision_id=expired, created_at=time.time() - 9000)])
    await store.add_decisions([a_decision(decision_id=retracted)])
    await store.expire(older_than=3600)
    await store.record_outcomes([Outcome(decision_id=fallback, status="fallback", served="strong")])
    await store.record_outcomes([Outcome(decision_id=lost, status="success", served="strong")])
    for decision_id in (pending, lost, fallback, expired):
        await store.rate(Rating(decision_id=decision_id, value=1.0))
    await store.rate(Rating(decision_id=retracted, value=None))
    records = await collected(store.rated())
    assert [record.decision_id for record in records] == [expired, retracted, fallback, lost, pending]
    assert [record.status for record in records] == ["expired", "routed", "fallback", "lost", "lost"]
    assert [len(record.ratings) for record in records] == [1, 1, 1, 1, 1]
    assert (records[4].decision, records[4].outcome) == (None, None)


async def test_what_is_logged_is_everything_rated_or_not(store: Store) -> None:
    decided, fallback, pending = id_aged(300), id_aged(200), id_aged(100)
    await store.add_decisions([a_decision(decision_id=decided)])
    await store.record_outcomes([Outcome(decision_id=fallback, status="fallback", served="strong")])
    await store.rate(Rating(decision_id=pending, value=1.0))
    assert await found(store.logged()) == [decided, fallback, pending]
    assert await found(store.rated()) == [pending]


async def test_pages_of_any_size_hold_everything_once_in_order(store: Store) -> None:
    made = sorted(id_aged(seconds / 7) for seconds in range(40))
    await store.add_decisions([a_decision(decision_id=one) for one in made[::2]])
    await store.record_outcomes([Outcome(decision_id=one, status="fallback") for one in made[1::2]])
    for one in made[::3]:
        for user in ("ann", "bob", "eve"):
            await store.rate(Rating(decision_id=one, value=1.0, user=user))
    for page in (1, 2, 7, 14, 100):
        assert await found(store.rated(page=page)) == made[::3]
        assert await found(store.logged(page=page)) == made
    sizes = [len(records) async for records in store.rated(page=5)]
    assert sizes == [5, 5, 4]


async def test_a_span_of_time_begins_with_its_first_millisecond_and_ends_before_its_last(store: Store) -> None:
    made = [id_aged(seconds) for seconds in (400, 300, 200, 100)]
    await store.add_decisions([a_decision(decision_id=one) for one in made])
    second, fourth = ids.minted_at(made[1]), ids.minted_at(made[3])
    assert await found(store.logged(second, fourth)) == made[1:3]
    assert await found(store.logged(second + 0.001)) == made[2:]
    assert await found(store.logged(before=second)) == made[:1]


def test_the_first_id_of_a_time_sorts_between_the_ids_around_it() -> None:
    one = id_aged(50)
    minted = ids.minted_at(one)
    assert first_id(minted) < one < first_id(minted + 0.001)
    assert first_id(-1.0) == "00000000-0000"
    assert first_id(float("inf")) == "ffffffff-ffff"


async def test_pages_without_vectors_have_the_rest(store: Store) -> None:
    decision = a_decision()
    await store.add_decisions([decision])
    (record,) = await collected(store.logged(vectors=False))
    assert record.decision is not None
    assert (record.decision.embedding, record.decision.features) == (None, None)
    assert (record.decision.win_rates, record.decision.text_hash) == (decision.win_rates, decision.text_hash)


# Signals


async def answered(store: Store, at: float, latency: float = 2.0, status: str = "success", **changes: object) -> str:
    """The id of a decision made at a time, in seconds from long ago, and answered after some more."""
    decision = a_decision(**{"created_at": 1e9 + at, "decision_id": id_aged(1e6 - at), **changes})
    await store.add_decisions([decision])
    outcome = {"decision_id": decision.decision_id, "served": "cheap", "latency_ms": latency * 1000}
    await store.record_outcomes([Outcome(status=status, **outcome)])  # type: ignore[arg-type]
    return decision.decision_id


async def regenerated(store: Store) -> list[str]:
    assert [one.decision_id for one in await collected(store.logged()) if one.regenerated] == await found(
        store.rated(signals=["regenerated"])
    )
    return await found(store.rated(signals=["regenerated"]))


async def test_asking_the_same_again_within_a_minute_of_the_answer_is_a_signal(store: Store) -> None:
    first = await answered(store, 0)
    second = await answered(store, 62)
    await answered(store, 127)
    assert await regenerated(store) == [first]
    assert await found(store.rated()) == []
    assert await found(store.rated(signals=["length", "error"])) == []
    again = await answered(store, 64.5, session_id="session-1")
    assert await regenerated(store) == [first, second]
    assert again not in await regenerated(store)


async def test_pages_of_any_size_hold_what_was_rated_and_what_was_regenerated(store: Store) -> None:
    expected = []
    for turn in range(12):
        again = [await answered(store, 1000 * turn + late, session_id=f"session-{turn}") for late in (0, 10)]
        expected.append(again[0])
        if turn % 2:
            expected.append(again[1])
            await store.rate(Rating(decision_id=again[1], value=1.0), known=True)
    for page in (1, 2, 5, 100):
        assert await found(store.rated(signals=ALL, page=page)) == expected


async def test_asking_again_before_the_answer_is_there_is_no_signal(store: Store) -> None:
    """Several answers to one prompt, asked for at once."""
    for at in (0, 0.5, 1.9):
        await answered(store, at)
    assert await regenerated(store) == []


async def test_only_the_same_request_from_the_same_session_or_user_is_asking_again(store: Store) -> None:
    await answered(store, 0)
    await answered(store, 10, session_id="session-2")
    await answered(store, 20, text_hash="1" * 64)
    await answered(store, 30, needs={"tools": True, "chars": 1300})  # the next turn of a tool loop
    await answered(store, 40, session_id=None, user="ann")
    await answered(store, 45, session_id=None, user="bob")
    assert await regenerated(store) == []
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    await answered(store, 50, text_hash=empty)
    await answered(store, 55, text_hash=empty)
    assert await regenerated(store) == []
    await answered(store, 60, session_id=None, user="ann")
    assert len(await regenerated(store)) == 1


async def test_asking_again_after_a_failure_is_no_signal_against_an_answer(store: Store) -> None:
    await answered(store, 0, status="failure")
    await answered(store, 10)
    assert await regenerated(store) == []


async def test_outcomes_that_speak_against_an_answer_are_found_and_others_are_not(store: Store) -> None:
    made = [id_aged(seconds) for seconds in (500, 400, 300, 200, 100)]
    await store.add_decisions([a_decision(decision_id=one) for one in made])
    reports = (
        Outcome(decision_id=made[0], status="success", finish_reason="length"),
        Outcome(decision_id=made[1], status="success", finish_reason="stop", disconnected=False),
        Outcome(decision_id=made[2], status="failure", error="APIError 500"),
        Outcome(decision_id=made[3], status="success", disconnected=True),
        Outcome(decision_id=made[4], status="rejected"),
    )
    await store.record_outcomes(reports)
    await store.rate(Rating(decision_id=made[4], value=1.0))
    assert await found(store.rated(signals=ALL)) == [made[0], made[2], made[3], made[4]]
    assert await found(store.rated(signals=ALL, page=1)) == [made[0], made[2], made[3], made[4]]


def test_pages_are_searched_for_in_indexes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/feedback.sqlite"  # whose plans do not depend on how full the tables are
    migrate(url)
    engine = open_engine(url, connections=1)
    asked: list[tuple[str, Any]] = []
    event.listen(engine, "before_cursor_execute", lambda *call: asked.append((call[2], call[3])))
    with engine.connect() as connection:
        telling(ALL, "0", "9", 10, connection)
        everything("0", "9", 10, connection)
        queries = [(query, values) for query, values in asked if query.startswith("SELECT")]
        plans = [connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", values).all() for query, values in queries]
    engine.dispose()
    steps = [step[-1] for plan in plans for step in plan]
    assert len(plans) == 3
    assert "SEARCH outcomes USING INDEX ix_outcomes_faulty (decision_id>? AND decision_id<?)" in steps
    assert [step for step in steps if re.match("SCAN (decisions|outcomes|ratings)", step)] == []
