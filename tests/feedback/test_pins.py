"""Pins: the first one counts, on both databases, and a database that is away keeps nobody waiting."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from feedback.records import Outcome
from feedback.store import Store
from scorer.conversations import Away, Conversations
from scorer.sessions import Pin
from tests.feedback.conftest import Away as Outage
from tests.feedback.examples import a_decision


def a_pin(**changes: object) -> Pin:
    pin = Pin(session="s", requested="router", model="strong", version="1", pinned_at=1.0, seen_at=1.0, tokens=10.0)
    return msgspec.structs.replace(pin, **changes)


async def test_a_pin_is_found_by_its_session_and_virtual_name(store: Store) -> None:
    assert await store.find_pin("s", "router") is None
    assert await store.write_pin(a_pin(), None) == a_pin()
    assert await store.find_pin("s", "router") == a_pin()
    assert await store.find_pin("s", "router-mf-p30") is None


async def test_of_two_that_begin_together_the_first_counts_for_both(store_url: str) -> None:
    """Two replicas, each with a store of its own; ten conversations."""
    replicas = Store(store_url), Store(store_url)
    if store_url.startswith("sqlite"):
        replicas = (replicas[0], replicas[0])  # its file waits 0.1 s for a lock in these tests
    for number in range(10):
        pins = [a_pin(session=f"s{number}", model=model) for model in ("strong", "weak")]
        written = await asyncio.gather(
            *(replica.write_pin(pin, None) for replica, pin in zip(replicas, pins, strict=True))
        )
        assert written[0] == written[1]
        assert written[0] in pins
    for replica in set(replicas):
        await replica.close()


async def test_a_move_counts_unless_another_came_before(store: Store) -> None:
    await store.write_pin(a_pin(), None)
    moved = a_pin(model="weak", pinned_at=2.0, seen_at=2.0)
    assert await store.write_pin(moved, a_pin()) == moved
    late = a_pin(model="other", pinned_at=3.0, seen_at=3.0)
    assert await store.write_pin(late, a_pin()) == moved  # it was made from what is no longer there
    seen_again = a_pin(model="weak", pinned_at=2.0, seen_at=4.0, tokens=20.0)
    assert await store.write_pin(seen_again, moved) == seen_again


@pytest.mark.parametrize(
    ("pinned", "served", "cached", "tokens"),
    [
        ("session", "cheap", 40, 40.0),
        ("tool_loop", "cheap", 0, 0.0),
        ("session", "cheap", None, 900.0),  # the provider did not say
        (None, "cheap", 0, 900.0),  # the first turn: nothing was there yet
        ("session", "strong", 0, 900.0),  # another one served
    ],
)
async def test_a_pin_learns_what_the_provider_had_in_its_cache(
    store: Store, pinned: str | None, served: str, cached: int | None, tokens: float
) -> None:
    await store.write_pin(a_pin(model="cheap", tokens=900.0), None)
    turn = a_decision(unit="s", requested="router", pinned=pinned)
    await store.add_decisions([turn])
    await store.record_outcomes(
        [Outcome(decision_id=turn.decision_id, status="success", served=served, cached_tokens=cached)]
    )
    found = await store.find_pin("s", "router")
    assert found is not None
    assert (found.model, found.tokens) == ("cheap", tokens)


async def test_old_pins_are_forgotten(store: Store) -> None:
    await store.write_pin(a_pin(), None)
    await store.write_pin(a_pin(session="t", seen_at=100.0), None)
    assert await store.forget_pins(50.0) == 1
    assert await store.find_pin("s", "router") is None
    assert await store.find_pin("t", "router") is not None


async def test_an_outage_is_told_at_once_and_over_after_a_moment(
    store: Store, away: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scorer.conversations._REST_SECONDS", 0.2)
    conversations = Conversations(store.find_pin, store.write_pin)
    assert await conversations.keep(a_pin(), None) == a_pin()
    with away():
        began = time.monotonic()
        with pytest.raises(Away):
            await conversations.keep(a_pin(session="t"), None)
        assert time.monotonic() - began < 0.3
        began = time.monotonic()
        with pytest.raises(Away):
            await conversations.find("s", "router")  # not even asked
        assert time.monotonic() - began < 0.05
    await asyncio.sleep(0.3)
    deadline = time.monotonic() + 10
    while True:
        try:
            assert await conversations.find("s", "router") == a_pin()
            return
        except Away:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
