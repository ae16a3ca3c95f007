"""The judge's queue: drawn by the decision, bounded, claimed once, given up in the end."""

import asyncio
import contextlib
import threading
import time
from typing import Any

import msgspec
import pytest

from feedback import judgements
from feedback.database import Unavailable
from feedback.judge import Judge, opponent
from feedback.records import Message, Sample
from feedback.store import Store
from gateway_plugin import ids
from scorer import sampler
from tests.conftest import Serve
from tests.feedback.examples import a_decision, execute, rows
from tests.feedback.judging import (
    CHEAP,
    JUDGE,
    STRONG,
    Endpoint,
    a_judge,
    comparisons,
    make_due,
    outcomes,
    settings,
    take,
)


async def test_two_workers_on_one_database_judge_each_answer_once(
    store: Store, store_url: str, endpoint: Endpoint, serve: Serve
) -> None:
    url, count, together = serve(endpoint.app), 25, threading.Barrier(2)
    first = a_judge(store, url)
    await take(first, store, outcomes(endpoint, count))
    await first.close()

    def work() -> None:
        async def run() -> None:
            own = Store(store_url)
            judge = a_judge(own, url)
            await own.ping()
            together.wait(timeout=30)
            deadline = time.monotonic() + 60
            while (await own.judging()).judged < count and time.monotonic() < deadline:
                with contextlib.suppress(Unavailable):  # the test's SQLite has little patience with locks
                    await judge.work()
            await judge.close()
            await own.close()

        asyncio.run(run())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert endpoint.asked == {STRONG: count, JUDGE: 2 * count}
    assert rows(store_url, "SELECT count(*), count(DISTINCT decision_id) FROM comparisons") == [(count, count)]
    assert rows(store_url, "SELECT count(*) FROM judgements WHERE attempts <> 1") == [(0,)]


async def test_a_claim_expires_and_its_late_holder_changes_nothing(
    store: Store, store_url: str, judge: Judge, endpoint: Endpoint
) -> None:
    await take(judge, store, outcomes(endpoint, 1))
    dead = await store.claim_judgement(60)
    assert dead is not None
    assert await store.claim_judgement(60) is None
    half = msgspec.structs.replace(dead, answer_b="0.9 says strong")
    assert await store.keep_judgement(half, 60)
    make_due(store_url)
    heir = await store.claim_judgement(60)
    assert heir is not None
    assert not await store.keep_judgement(half, 60)
    assert not await store.retry_judgement(half, 0)
    assert await store.retry_judgement(heir, 0)
    await judge.work()
    assert endpoint.asked == {JUDGE: 2}, "the answer that the dead one paid for is used"
    ended = msgspec.structs.replace(half, forward="model_a", backward="model_a")
    assert not await store.keep_judgement(half, 60)
    assert not await store.finish_judgement(ended)
    assert not await store.give_up_judgement(ended, "late")
    assert len(await comparisons(store)) == 1


async def test_what_crashes_its_judge_each_time_is_given_up(store: Store, store_url: str, judge: Judge) -> None:
    await take(judge, store, outcomes(Endpoint(), 1))
    for _ in range(judgements.ATTEMPTS):
        assert await store.claim_judgement(60)
        make_due(store_url)
    assert await store.claim_judgement(60) is None
    assert await store.tidy_judgements() == 1
    assert rows(store_url, "SELECT status, answer_a FROM judgements") == [("tried too long", None)]


async def test_texts_wait_three_days_at_most(store: Store, store_url: str, judge: Judge) -> None:
    await take(judge, store, outcomes(Endpoint(), 2))
    execute(store_url, "UPDATE judgements SET created_at = created_at - 3 * 86400 - 1, due_at = due_at + 1e6")
    await take(judge, store, outcomes(Endpoint(), 1))
    assert await store.tidy_judgements() == 2
    assert rows(store_url, "SELECT count(messages) FROM judgements") == [(1,)]


async def test_the_queue_is_bounded_and_an_outcome_reported_twice_is_queued_once(
    store: Store, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judgements, "MOST_WAITING", 5)
    sampled = outcomes(Endpoint(), 8)
    await take(judge, store, sampled[:3])
    await take(judge, store, sampled[:3])
    assert (await store.judging()).waiting == 3
    await take(judge, store, sampled)
    assert (await store.judging()).waiting <= 5


@pytest.mark.parametrize(
    "changes",
    [
        {"sample": None},
        {"status": "failure"},
        {"status": "fallback"},
        {"served": "elsewhere"},
        {"served": None},
        {"disconnected": True},
        {"finish_reason": "length"},
        {"sample": Sample([Message("user", "x" * 60_001)], "two")},
        {"sample": Sample([Message("user", "x")], "y" * 60_001)},
    ],
)
async def test_what_cannot_be_judged_fairly_is_not_queued(store: Store, judge: Judge, changes: dict[str, Any]) -> None:
    (outcome,) = outcomes(Endpoint(), 1)
    await take(judge, store, [msgspec.structs.replace(outcome, **changes)])
    assert (await store.judging()).waiting == 0


async def test_texts_of_a_decision_that_is_gone_are_sent_to_nobody(store: Store, store_url: str) -> None:
    endpoint = Endpoint()
    await a_judge(store, "http://127.0.0.1:9").take(outcomes(endpoint, 1))
    assert await store.claim_judgement(60) is None
    assert await store.tidy_judgements() == 0
    execute(store_url, "UPDATE judgements SET created_at = created_at - 601")
    assert await store.tidy_judgements() == 1
    assert rows(store_url, "SELECT messages, answer_a FROM judgements") == [(None, None)]


async def test_an_answer_that_was_not_drawn_is_not_queued(store: Store) -> None:
    judge = Judge(store, settings("http://127.0.0.1:9", share=0.3), (STRONG, CHEAP), "embedding")
    sampled = outcomes(Endpoint(), 200)
    await take(judge, store, sampled)
    drawn = sum(judge.wants(a_decision(decision_id=one.decision_id, needs={})) for one in sampled)
    assert (await store.judging()).waiting == drawn
    assert 35 <= drawn <= 88  # 60, with five standard deviations


def test_the_draw_is_by_the_decision_alone_and_apart_from_routing() -> None:
    unused: Any = None
    judge = Judge(unused, settings("http://x", share=0.2), (STRONG, CHEAP), "text")
    decided = [a_decision(decision_id=ids.mint(), needs={"chars": 10}) for _ in range(4000)]
    wanted = [judge.wants(one) for one in decided]
    assert wanted == [judge.wants(one) for one in decided]
    assert sum(wanted) / 4000 == pytest.approx(0.2, abs=0.03)
    low = [sampler.uniform(one.decision_id) < 0.5 for one in decided]
    among = sum(w for w, routed in zip(wanted, low, strict=True) if routed) / sum(low)
    assert among == pytest.approx(0.2, abs=0.045)


@pytest.mark.parametrize(
    ("keep", "needs", "wanted"),
    [
        ("text", {"chars": 5}, True),
        ("embedding", {}, True),
        ("hash", {}, False),
        ("text", {"images": True}, False),
        ("text", {"tools": True}, False),
        ("text", {"json": True}, False),
        ("text", {"chars": 60_001}, False),
    ],
)
def test_only_plain_text_is_drawn_and_nothing_where_hashes_are_kept(
    keep: str, needs: dict[str, bool | int], wanted: bool
) -> None:
    unused: Any = None
    judge = Judge(unused, settings("http://x"), (STRONG, CHEAP), keep)
    assert judge.wants(a_decision(needs=needs)) is wanted


def test_whoever_served_is_compared_with_the_strongest_and_the_strongest_with_any_other() -> None:
    ladder = ("a", "b", "c")
    assert {opponent(ladder, served, ids.mint()) for served in "bc"} == {"a"}
    others = [opponent(ladder, "a", ids.mint()) for _ in range(400)]
    assert others.count("b") == pytest.approx(200, abs=60)
    assert set(others) == {"b", "c"}


async def test_a_database_that_is_away_is_said_so_and_nothing_hangs(
    store: Store, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object) -> None:
        raise Unavailable("gone")

    monkeypatch.setattr(store, "claim_judgement", gone)
    with pytest.raises(Unavailable):
        await judge.work()
