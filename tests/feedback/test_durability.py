"""What was acknowledged survives: kill -9 of the process, a crash of the server, processes that write at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier

import httpx

from feedback.keys import Idempotency, KeyReused
from feedback.records import Rating
from feedback.store import Store
from gateway_plugin import ids
from tests.conftest import free_port
from tests.feedback.examples import rows
from tests.postgres import Postgres

SERVER = """
import sys, uvicorn
from feedback.store import Store
from tests.feedback.examples import application
uvicorn.run(application(Store(sys.argv[1])), port=int(sys.argv[2]), log_level="error")
"""


def test_an_acknowledged_rating_survives_kill_9(store_url: str) -> None:
    port = free_port()
    with subprocess.Popen([sys.executable, "-c", SERVER, store_url, str(port)]) as process:
        try:
            _wait_for(port)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
                body = {"decision_id": ids.mint(), "rating": "up"}
                acknowledged = [client.post("/v1/feedback", json=body).json()["feedback_id"] for _ in range(5)]
        finally:
            process.kill()
    survived = [feedback_id for (feedback_id,) in rows(store_url, "SELECT feedback_id FROM ratings")]
    assert sorted(survived) == sorted(acknowledged)


async def test_an_acknowledged_rating_survives_a_crash_of_postgresql(postgres: Postgres) -> None:
    url = postgres.emptied()
    store = Store(url)
    receipt = await store.rate(Rating(decision_id=ids.mint(), value=1.0))
    postgres.crash()
    postgres.start()
    assert await store.rate(Rating(decision_id=ids.mint(), value=0.0))  # on connections that survived
    survived = rows(url, "SELECT feedback_id FROM ratings WHERE value = 1")
    assert survived == [(receipt.feedback_id,)]
    await store.close()


def test_processes_that_rate_at_once_leave_one_current_rating_and_one_answer_per_key(store_url: str) -> None:
    url = store_url.replace("timeout=0.1", "timeout=10")
    decision_id = ids.mint()
    spawn = get_context("spawn")
    with ProcessPoolExecutor(3, spawn, _wait_for_all, (spawn.Barrier(3),)) as pool:
        answers = [answer for one in pool.map(_rate_often, [url] * 3, [decision_id] * 3, range(3)) for answer in one]
    feedback_ids = {feedback_id for feedback_id in answers if feedback_id}
    assert len(feedback_ids) == 20  # one per key
    assert Counter(feedback_id for feedback_id in answers if feedback_id).most_common(1)[0][1] <= 2
    assert answers.count(None) >= 20
    stored = rows(url, "SELECT feedback_id, superseded_at IS NULL FROM ratings")
    assert {feedback_id for feedback_id, _ in stored} == feedback_ids
    assert [bool(current) for _, current in stored].count(True) == 1


def _wait_for_all(barrier: Barrier) -> None:
    barrier.wait(timeout=60)


def _rate_often(url: str, decision_id: str, process: int) -> list[str | None]:
    """The answers under twenty keys; the processes agree on the body, but for the last, which has one of its own."""

    async def rate() -> list[str | None]:
        store = Store(url)
        answers: list[str | None] = []
        for number in range(20):
            key = Idempotency(f"key {number}", "other" if process == 2 else "same")
            try:
                receipt = await store.rate(Rating(decision_id=decision_id, value=1.0), key)
                answers.append(receipt.feedback_id)
            except KeyReused:
                answers.append(None)
        await store.close()
        return answers

    return asyncio.run(rate())


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            httpx.get(f"http://127.0.0.1:{port}/")
            return
        except httpx.TransportError:
            time.sleep(0.05)
    raise TimeoutError("the server did not start")
