"""Ratings in the store: the last one counts, the unknown wait, calls and keys find theirs."""

import asyncio

import pytest

from feedback.keys import Idempotency, KeyReused
from feedback.ratings import AmbiguousCall, UnknownCall, UnknownDecision
from feedback.records import Outcome, Rating
from feedback.store import Store
from gateway_plugin import ids
from tests.feedback.examples import a_decision, execute, id_aged, rows, whole


async def test_changing_ones_mind_overwrites_and_keeps_the_history(store: Store, store_url: str) -> None:
    decision = a_decision()
    await store.add_decisions([decision])
    for value in (1.0, 0.0, None):
        await store.rate(Rating(decision_id=decision.decision_id, value=value, user="ann"))
    record = await whole(store, decision.decision_id)
    assert [rating.value for rating in record.ratings] == [None]
    history = rows(store_url, "SELECT value, superseded_at IS NULL FROM ratings ORDER BY created_at")
    assert [(value, bool(current)) for value, current in history] == [(1.0, False), (0.0, False), (None, True)]


async def test_an_unknown_young_id_is_pending_and_joins_on_any_replica(store: Store, store_url: str) -> None:
    decision = a_decision(decision_id=id_aged(590))
    receipt = await store.rate(Rating(decision_id=decision.decision_id, value=1.0))
    assert receipt.status == "pending"
    assert await store.decision(decision.decision_id) is None
    replica = Store(store_url)
    await replica.add_decisions([decision])
    await replica.close()
    record = await whole(store, decision.decision_id)
    assert [rating.feedback_id for rating in record.ratings] == [receipt.feedback_id]


@pytest.mark.parametrize("age", [610, 10 * 365 * 86400, -610])
async def test_an_unknown_id_of_another_time_is_refused(store: Store, store_url: str, age: float) -> None:
    with pytest.raises(UnknownDecision):
        await store.rate(Rating(decision_id=id_aged(age), value=1.0), Idempotency("key", "digest"))
    assert rows(store_url, "SELECT count(*) FROM ratings") == [(0,)]
    assert rows(store_url, "SELECT count(*) FROM idempotency_keys") == [(0,)]


async def test_an_old_id_is_known_by_its_decision_its_outcome_or_the_caller(store: Store) -> None:
    decided, fallen_back, vouched_for = (id_aged(7200) for _ in range(3))
    await store.add_decisions([a_decision(decision_id=decided)])
    await store.record_outcomes([Outcome(decision_id=fallen_back, status="fallback", served="strong")])
    receipts = [
        await store.rate(Rating(decision_id=decided, value=1.0)),
        await store.rate(Rating(decision_id=fallen_back, value=0.0)),
        await store.rate(Rating(decision_id=vouched_for, value=1.0), known=True),
    ]
    assert [receipt.status for receipt in receipts] == ["stored"] * 3
    assert [rating.value for rating in (await whole(store, fallen_back)).ratings] == [0.0]


async def test_people_who_rate_at_once_leave_one_current_rating_each(store_url: str) -> None:
    url = store_url.replace("timeout=0.1", "timeout=10")
    store, replica = Store(url), Store(url)
    decision = a_decision()
    await store.add_decisions([decision])
    receipts = await asyncio.gather(
        *(
            (store if turn % 2 else replica).rate(Rating(decision_id=decision.decision_id, value=0.5, user=user))
            for turn in range(24)
            for user in ("ann", "bob", "")
        )
    )
    assert len({receipt.feedback_id for receipt in receipts}) == 72
    record = await whole(store, decision.decision_id)
    assert sorted(rating.user for rating in record.ratings) == ["", "ann", "bob"]
    assert rows(store_url, "SELECT count(*) FROM ratings") == [(72,)]
    await store.close()
    await replica.close()


async def test_a_call_is_rated_by_its_decision_or_its_outcome(store: Store) -> None:
    decided, fallback = a_decision(call_id="call 1"), ids.mint()
    await store.add_decisions([decided, a_decision(call_id="call 3")])
    await store.record_outcomes([Outcome(decision_id=decided.decision_id, status="success", call_id="call 1")])
    await store.record_outcomes([Outcome(decision_id=fallback, status="fallback", call_id="call 2")])
    for call_id, decision_id in (("call 1", decided.decision_id), ("call 2", fallback)):
        receipt = await store.rate_call(call_id, Rating(decision_id="", value=1.0))
        assert receipt.status == "stored"
        (rating,) = (await whole(store, decision_id)).ratings
        assert (rating.feedback_id, rating.decision_id) == (receipt.feedback_id, decision_id)


async def test_a_call_that_is_unknown_or_not_one_is_refused(store: Store, store_url: str) -> None:
    await store.add_decisions([a_decision(call_id="twice") for _ in range(3)])
    key = Idempotency("key", "digest")
    with pytest.raises(AmbiguousCall):
        await store.rate_call("twice", Rating(decision_id="", value=1.0), key)
    with pytest.raises(UnknownCall):
        await store.rate_call("once", Rating(decision_id="", value=1.0), key)
    with pytest.raises(AmbiguousCall):
        await store.rate_call("once", Rating(decision_id="", value=1.0), key, [ids.mint(), ids.mint()])
    assert rows(store_url, "SELECT count(*) FROM ratings") == [(0,)]
    assert rows(store_url, "SELECT count(*) FROM idempotency_keys") == [(0,)]
    unwritten = ids.mint()
    assert (await store.rate_call("once", Rating(decision_id="", value=1.0), key, [unwritten])).status == "stored"
    assert rows(store_url, "SELECT decision_id FROM ratings") == [(unwritten,)]


async def test_a_key_answers_for_a_call_that_has_become_ambiguous_since(store: Store) -> None:
    key = Idempotency("key", "digest")
    await store.add_decisions([a_decision(call_id="call")])
    first = await store.rate_call("call", Rating(decision_id="", value=1.0), key)
    await store.add_decisions([a_decision(call_id="call")])
    assert await store.rate_call("call", Rating(decision_id="", value=1.0), key) == first


async def test_a_key_gives_the_same_answer_again_even_when_it_would_now_differ(store: Store, store_url: str) -> None:
    decision = a_decision(decision_id=id_aged(300))
    key = Idempotency("key", "digest")
    first = await store.rate(Rating(decision_id=decision.decision_id, value=1.0), key)
    assert first.status == "pending"
    await store.add_decisions([decision])
    assert await store.rate(Rating(decision_id=decision.decision_id, value=1.0), key) == first
    assert rows(store_url, "SELECT count(*) FROM ratings") == [(1,)]


async def test_a_key_with_another_body_is_refused(store: Store, store_url: str) -> None:
    decision_id = ids.mint()
    await store.rate(Rating(decision_id=decision_id, value=1.0), Idempotency("key", "one"))
    with pytest.raises(KeyReused):
        await store.rate(Rating(decision_id=decision_id, value=0.0), Idempotency("key", "other"))
    assert rows(store_url, "SELECT value FROM ratings") == [(1.0,)]


async def test_duplicates_at_once_get_one_answer(store: Store, store_url: str) -> None:
    decision_id = ids.mint()
    receipts = await asyncio.gather(
        *(store.rate(Rating(decision_id=decision_id, value=1.0), Idempotency("key", "body")) for _ in range(20))
    )
    assert len({receipt.feedback_id for receipt in receipts}) == 1
    assert rows(store_url, "SELECT feedback_id FROM ratings") == [(receipts[0].feedback_id,)]


async def test_of_different_bodies_at_once_one_wins_and_the_others_are_refused(store: Store, store_url: str) -> None:
    answers = await asyncio.gather(
        *(
            store.rate(Rating(decision_id=ids.mint(), value=1.0), Idempotency("key", f"body {position}"))
            for position in range(20)
        ),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers].count(KeyReused) == 19
    assert rows(store_url, "SELECT count(*) FROM ratings") == [(1,)]


async def test_a_key_is_forgotten_after_a_day(store: Store, store_url: str) -> None:
    for key in ("young", "old", "older"):
        await store.rate(Rating(decision_id=ids.mint(), value=1.0), Idempotency(key, "one"))
    execute(store_url, "UPDATE idempotency_keys SET created_at = created_at - 86401 WHERE key LIKE 'old%'")
    await store.rate(Rating(decision_id=ids.mint(), value=0.0), Idempotency("old", "other"))
    with pytest.raises(KeyReused):
        await store.rate(Rating(decision_id=ids.mint(), value=0.0), Idempotency("young", "other"))
    assert await store.forget_keys() == 1
    assert rows(store_url, "SELECT key FROM idempotency_keys ORDER BY key") == [("old",), ("young",)]
