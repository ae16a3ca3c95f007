"""The traffic that thresholds are calibrated on."""

from __future__ import annotations

import numpy as np

from feedback.store import Store
from scorer.decisions import Decision
from tests.feedback.examples import a_decision

DAY = 24 * 3600.0


def made(at: float, number: int) -> Decision:
    return a_decision(created_at=at, text_hash=str(number), embedding=b"e%d" % number, features=b"f%d" % number)


async def test_traffic_is_the_newest_prompts_of_the_encoder(store: Store) -> None:
    decisions = [made(n * DAY, n) for n in range(5)]
    foreign = a_decision(created_at=9 * DAY, encoder_id="another")
    forgotten = a_decision(created_at=9 * DAY, encoder_id=None, embedding=None, features=None)
    await store.add_decisions([*decisions, foreign, forgotten])
    encoder_id = decisions[0].encoder_id
    assert encoder_id is not None
    assert await store.traffic(encoder_id, 2) == [("4", b"e4", b"f4"), ("3", b"e3", b"f3")]
    assert await store.traffic("unheard of", 2) == []


async def test_traffic_of_a_busy_day_is_drawn_from_all_its_hours(store: Store) -> None:
    decisions = [made(9 * DAY + n * DAY / 2000, n) for n in range(2000)]
    await store.add_decisions([*decisions, made(DAY, 5000)])
    encoder_id = decisions[0].encoder_id
    assert encoder_id is not None
    drawn = [int(one.text_hash) for one in await store.traffic(encoder_id, 400)]
    assert (len(drawn), len(set(drawn))) == (400, 400)
    assert drawn == sorted(drawn, reverse=True)
    assert abs(np.mean(drawn) - 999.5) < 4 * 2000 / np.sqrt(12 * 400)
    assert [int(one.text_hash) for one in await store.traffic(encoder_id, 400)] == drawn
