"""Spend: what decisions come to, as paid where that is known, else as expected."""

from __future__ import annotations

import time

import pytest

from feedback.records import Outcome
from feedback.store import Store
from gateway_plugin import ids
from scorer.budget import SLOT_SECONDS
from scorer.decisions import Decision
from tests.feedback.examples import a_decision

NOW = 1_800_000_000.0 // SLOT_SECONDS * SLOT_SECONDS + 60  # a minute into a slot
START = int(NOW - 60)


def made(at: float, model: str = "cheap", **changes: object) -> Decision:
    return a_decision(
        decision_id=ids.mint(), created_at=at, model=model, **{"expected_cost": 0.01, "costs": None, **changes}
    )


async def test_a_slot_sums_up_its_decisions(store: Store) -> None:
    decisions = [made(NOW), made(NOW, "strong"), made(NOW - 60), made(NOW - 61), made(NOW, expected_cost=None)]
    await store.add_decisions(decisions)
    earlier, current = await store.spend("strong", NOW)
    assert (earlier.start, earlier.calls, earlier.strong) == (START - SLOT_SECONDS, 1, 0)
    assert (current.start, current.calls, current.strong) == (START, 4, 1)
    assert [earlier.dollars, earlier.expected] == pytest.approx([0.01, 0.01])
    assert [current.dollars, current.expected] == pytest.approx([0.03, 0.03])


async def test_what_was_paid_takes_the_place_of_what_was_expected(store: Store) -> None:
    paid, failed, unpriced = (made(NOW) for _ in range(3))
    await store.add_decisions([paid, failed, unpriced])
    await store.record_outcomes(
        [
            Outcome(decision_id=paid.decision_id, status="success", cost=0.5),
            Outcome(decision_id=failed.decision_id, status="failure"),
            Outcome(decision_id=unpriced.decision_id, status="success"),
        ]
    )
    (slot,) = await store.spend("strong", NOW)
    assert [slot.dollars, slot.expected] == pytest.approx([0.51, 0.03])


async def test_an_outcome_within_the_hour_still_counts_and_looking_twice_changes_nothing(store: Store) -> None:
    one = made(NOW)
    await store.add_decisions([one])
    first = await store.spend("strong", NOW)
    assert await store.spend("strong", NOW) == first
    await store.record_outcomes([Outcome(decision_id=one.decision_id, status="success", cost=2.0)])
    (slot,) = await store.spend("strong", NOW + 3500)
    assert slot.dollars == 2.0


async def test_replicas_agree(store_url: str, store: Store) -> None:
    other = Store(store_url)
    await store.add_decisions([made(NOW - 1000 * hours) for hours in range(10)])
    assert await store.spend("strong", NOW) == await other.spend("strong", NOW)
    await other.close()


async def test_the_sample_is_of_one_version_and_the_newest(store: Store) -> None:
    costs = {"strong": 0.3, "medium": 0.2, "cheap": 0.1}
    await store.add_decisions(
        [
            made(time.time() - 30, version="old", costs=costs),
            made(time.time() - 20, costs=costs, win_rates={"strong": 0.5, "medium": 0.1, "cheap": 0.2}),
            made(time.time() - 10, costs=None),
        ]
    )
    newest, older = await store.weighed("mf", "2026-01-01")
    assert older == ({"strong": 0.5, "medium": 0.1, "cheap": 0.2}, costs)
    assert newest[1] == {"strong": 0.0, "medium": 0.0, "cheap": 0.0}
    assert len(await store.weighed("mf", "2026-01-01", limit=1)) == 1
