from __future__ import annotations

import asyncio

import msgspec
import pytest

from feedback.keys import Idempotency, KeyReused
from feedback.ratings import UnknownDecision
from feedback.records import Comparison
from feedback.store import Store
from gateway_plugin import ids
from tests.feedback.examples import a_decision, id_aged, rows


def a_comparison(number: int = 0, **changes: object) -> Comparison:
    fields: dict[str, object] = {"model_a": "strong", "model_b": "cheap", "winner": "model_a"}
    return msgspec.convert({**fields, "created_at": 1000.0 + number, **changes}, Comparison)


async def everything(store: Store, after: float = 0.0, before: float = 1e12, page: int = 1000) -> list[Comparison]:
    return [one async for found in store.comparisons(after, before, page=page) for one in found]


async def test_a_comparison_with_a_prompt_of_its_own_comes_back_as_it_went_in(store: Store) -> None:
    comparison = a_comparison(
        text_hash="a" * 64, text="why?", encoder_id="f" * 64, embedding=b"e", features=b"f", user="ann", winner="tie"
    )
    receipt = await store.compare(comparison)
    assert (receipt.comparison_id, receipt.status) == (comparison.comparison_id, "stored")
    assert await everything(store) == [comparison]


async def test_a_comparison_of_a_decision_has_the_decisions_prompt(store: Store) -> None:
    decision = a_decision()
    await store.add_decisions([decision])
    assert (await store.compare(a_comparison(decision_id=decision.decision_id))).status == "stored"
    (found,) = await everything(store)
    for name in ("text_hash", "text", "encoder_id", "embedding", "features"):
        assert getattr(found, name) == getattr(decision, name)
    async for page in store.comparisons(vectors=False):
        assert [(one.text, one.embedding, one.features) for one in page] == [(decision.text, None, None)]


async def test_a_comparison_of_an_unknown_decision_is_pending_or_refused(store: Store, store_url: str) -> None:
    young, old = ids.mint(), id_aged(601)
    assert (await store.compare(a_comparison(decision_id=young))).status == "pending"
    assert (await store.compare(a_comparison(decision_id=old), known=True)).status == "stored"
    with pytest.raises(UnknownDecision):
        await store.compare(a_comparison(decision_id=old), Idempotency("key", "digest"))
    assert rows(store_url, "SELECT count(*) FROM comparisons") == [(2,)]
    assert rows(store_url, "SELECT count(*) FROM idempotency_keys") == [(0,)]
    await store.add_decisions([a_decision(decision_id=young)])
    assert {one.decision_id: one.text for one in await everything(store)} == {young: "what is 1 + 1?", old: None}


async def test_a_key_gives_the_same_answer_again(store: Store, store_url: str) -> None:
    key = Idempotency("key", "digest")
    receipts = await asyncio.gather(*(store.compare(a_comparison(text_hash="a"), key) for _ in range(10)))
    assert len({receipt.comparison_id for receipt in receipts}) == 1
    with pytest.raises(KeyReused):
        await store.compare(a_comparison(text_hash="b"), Idempotency("key", "other"))
    assert rows(store_url, "SELECT count(*) FROM comparisons") == [(1,)]


async def test_pages_hold_every_comparison_once_in_order_even_of_one_moment(store: Store) -> None:
    made = [a_comparison(number // 4, text_hash="a") for number in range(22)]
    for comparison in made:
        await store.compare(comparison)
    in_order = sorted(made, key=lambda one: (one.created_at, one.comparison_id))
    assert await everything(store, page=3) == in_order
    assert await everything(store, after=1001.0, before=1003.0, page=5) == in_order[4:12]
