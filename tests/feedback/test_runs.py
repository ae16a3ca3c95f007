from __future__ import annotations

import asyncio
import threading

import pytest

from feedback.runs import Lost
from feedback.store import Store
from tests.feedback.examples import a_decision, execute, rows

NIGHT = 1_700_000_000.0


async def test_a_run_has_one_holder_and_then_a_record(store: Store) -> None:
    run = await store.claim_run("retrain", NIGHT, "replica 1", 60)
    assert run is not None
    assert (run.job, run.scheduled_for, run.holder, run.attempt) == ("retrain", NIGHT, "replica 1", 1)
    assert (run.status, run.finished_at, run.record) == ("running", None, None)
    assert await store.claim_run("retrain", NIGHT, "replica 2", 60) is None
    assert await store.beat(run.run_id)
    record = {"rows": 3, "apgr": {"champion": 0.5, "challenger": None}, "why": ["a", "b"]}
    assert await store.finish_run(run.run_id, "published", "better by 0.02", record)
    assert await store.claim_run("retrain", NIGHT, "replica 2", 0) is None
    assert not await store.beat(run.run_id)
    assert not await store.finish_run(run.run_id, "failed", "again", None)
    (finished,) = await store.runs("retrain")
    assert (finished.run_id, finished.status, finished.verdict) == (run.run_id, "published", "better by 0.02")
    assert finished.record == record
    assert finished.finished_at is not None
    assert finished.started_at <= finished.heartbeat_at <= finished.finished_at


async def test_a_run_whose_holder_fell_silent_is_taken_over(store: Store, store_url: str) -> None:
    silent = await store.claim_run("retrain", NIGHT, "replica 1", 60)
    assert silent is not None
    execute(store_url, "UPDATE runs SET heartbeat_at = heartbeat_at - 61")
    taken = await store.claim_run("retrain", NIGHT, "replica 2", 60)
    assert taken is not None
    assert (taken.holder, taken.attempt, taken.status, taken.finished_at) == ("replica 2", 2, "running", None)
    assert taken.run_id != silent.run_id
    assert not await store.beat(silent.run_id)
    assert not await store.finish_run(silent.run_id, "published", "too late", None)
    assert await store.beat(taken.run_id)
    assert [run.run_id for run in await store.runs("retrain")] == [taken.run_id]


async def test_a_beat_keeps_a_run(store: Store, store_url: str) -> None:
    run = await store.claim_run("retrain", NIGHT, "replica 1", 60)
    assert run is not None
    execute(store_url, "UPDATE runs SET heartbeat_at = heartbeat_at - 61")
    assert await store.beat(run.run_id)
    assert await store.claim_run("retrain", NIGHT, "replica 2", 60) is None


async def test_a_job_never_runs_beside_itself_and_other_jobs_do(store: Store, store_url: str) -> None:
    first = await store.claim_run("retrain", NIGHT, "replica 1", 60)
    assert first is not None
    assert await store.claim_run("retrain", NIGHT + 86400, "replica 2", 60) is None
    assert await store.claim_run("judge", NIGHT, "replica 2", 60) is not None
    execute(store_url, "UPDATE runs SET heartbeat_at = heartbeat_at - 61 WHERE job = 'retrain'")
    second = await store.claim_run("retrain", NIGHT + 86400, "replica 2", 60)
    assert second is not None
    assert second.attempt == 1
    history = [(run.scheduled_for - NIGHT, run.status) for run in await store.runs("retrain")]
    assert history == [(86400, "running"), (0, "abandoned")]
    assert [run.scheduled_for for run in await store.runs("retrain", limit=1)] == [NIGHT + 86400]


async def test_a_run_whose_holder_died_before_the_clock_was_put_back_is_taken_over(
    store: Store, store_url: str
) -> None:
    assert await store.claim_run("retrain", NIGHT, "replica 1", 60)
    execute(store_url, "UPDATE runs SET heartbeat_at = heartbeat_at + 50")
    assert await store.claim_run("retrain", NIGHT, "replica 2", 60) is None
    execute(store_url, "UPDATE runs SET heartbeat_at = heartbeat_at + 50")
    assert await store.claim_run("retrain", NIGHT, "replica 2", 60) is not None


async def test_a_run_is_wanted_until_it_ends(store: Store, store_url: str) -> None:
    assert not await store.wants_run("retrain", NIGHT, 60)  # nothing is logged yet
    await store.add_decisions([a_decision(created_at=NIGHT)])
    assert not await store.wants_run("retrain", NIGHT, 60)
    assert await store.wants_run("retrain", NIGHT + 1, 60)
    run = await store.claim_run("retrain", NIGHT + 1, "replica 1", 60)
    assert run is not None
    assert not await store.wants_run("retrain", NIGHT + 1, 60)
    assert not await store.wants_run("retrain", NIGHT + 2, 60)  # the job runs
    assert await store.wants_run("judge", NIGHT + 2, 60)
    assert await store.finish_run(run.run_id, "failed", "ValueError")
    assert not await store.wants_run("retrain", NIGHT + 1, 60)
    assert await store.wants_run("retrain", NIGHT + 2, 60)


async def test_a_run_that_its_holders_do_not_survive_is_wanted_three_times(store: Store, store_url: str) -> None:
    await store.add_decisions([a_decision(created_at=NIGHT - 1)])
    attempts = []
    while await store.wants_run("retrain", NIGHT, 60):
        run = await store.claim_run("retrain", NIGHT, "a replica", 60)
        assert run is not None
        attempts.append(run.attempt)
        execute(store_url, "UPDATE runs SET heartbeat_at = heartbeat_at - 61")
    assert attempts == [1, 2, 3]
    assert await store.wants_run("retrain", NIGHT + 86400, 60)


async def test_only_the_holder_of_a_run_publishes(store: Store, store_url: str) -> None:
    """A machine that slept in mid-run wakes up after another one has taken over."""
    asleep = await store.claim_run("retrain", NIGHT, "replica 1", 60)
    assert asleep is not None
    await store.activate("mf", "v1", "somewhere", [], "retrain", asleep.run_id)
    execute(store_url, "UPDATE runs SET heartbeat_at = heartbeat_at - 61")
    taken = await store.claim_run("retrain", NIGHT, "replica 2", 60)
    assert taken is not None
    with pytest.raises(Lost):
        await store.activate("mf", "v2", "somewhere", [], "retrain", asleep.run_id)
    await store.activate("mf", "v3", "somewhere", [], "retrain", taken.run_id)
    assert [one.version for one in await store.activations("mf")] == ["v3", "v1"]


def test_of_threads_that_claim_at_once_one_gets_the_run(store_url: str) -> None:
    url = store_url.replace("timeout=0.1", "timeout=10")
    together = threading.Barrier(8)
    claimed: list[str] = []

    def claim(number: int) -> None:
        async def work() -> None:
            store = Store(url)
            await store.ping()
            for night in range(5):
                together.wait(timeout=30)
                if run := await store.claim_run("retrain", NIGHT + night, f"replica {number}", 60):
                    claimed.append(run.run_id)
                    assert await store.finish_run(run.run_id, "refused", "no data", None)
            await store.close()

        asyncio.run(work())

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 5
    assert rows(store_url, "SELECT count(*), max(attempt), min(status) FROM runs") == [(5, 1, "refused")]


def test_of_threads_that_take_over_at_once_one_gets_the_run(store_url: str) -> None:
    url = store_url.replace("timeout=0.1", "timeout=10")
    together = threading.Barrier(8)
    taken: list[str] = []

    async def first() -> None:
        store = Store(url)
        assert await store.claim_run("retrain", NIGHT, "replica 0", 60)
        await store.close()

    def take_over(number: int) -> None:
        async def work() -> None:
            store = Store(url)
            await store.ping()
            together.wait(timeout=30)
            if run := await store.claim_run("retrain", NIGHT, f"replica {number}", 60):
                taken.append(run.run_id)
            await store.close()

        asyncio.run(work())

    asyncio.run(first())
    execute(store_url, "UPDATE runs SET heartbeat_at = heartbeat_at - 61")
    threads = [threading.Thread(target=take_over, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows(store_url, "SELECT run_id, attempt, status FROM runs") == [(taken[0], 2, "running")]
    assert len(taken) == 1
