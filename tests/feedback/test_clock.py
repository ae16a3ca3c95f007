"""A clock that was wrong for a while leaves nothing wrong behind."""

from __future__ import annotations

import time

import pytest

from feedback.records import Outcome
from feedback.store import Store
from scorer.decisions import Decision
from tests.feedback.examples import a_decision, id_aged

HOUR, DAY = 3600.0, 86_400.0


def old_decision(hours: float) -> Decision:
    return a_decision(decision_id=id_aged(hours * HOUR), created_at=time.time() - hours * HOUR)


async def test_decisions_expire_again_once_the_clock_is_no_longer_ahead(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as ahead:
        ahead.setattr(time, "time", lambda real=time.time: real() + 2 * DAY)
        assert await store.expire(HOUR) == 0
    await store.add_decisions([old_decision(1.5)])
    assert await store.expire(HOUR) == 1


async def test_what_expired_too_early_counts_once_its_outcome_arrives(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision = a_decision()
    await store.add_decisions([decision])
    with monkeypatch.context() as ahead:
        ahead.setattr(time, "time", lambda real=time.time: real() + 2 * DAY)
        assert await store.expire(HOUR) == 1
    await store.record_outcomes([Outcome(decision_id=decision.decision_id, status="success", chosen="cheap")])
    record = await store.decision(decision.decision_id)
    assert record is not None
    assert record.status == "routed"
