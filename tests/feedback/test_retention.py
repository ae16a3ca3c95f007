"""What is old goes, page by page, and nothing else does; others write meanwhile."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback import forgetting, retention
from feedback.records import Comparison, Judgement, Outcome, Rating
from feedback.removal import Found
from feedback.retention import JOB, Cuts, Terms
from feedback.runs import Lost
from feedback.schedule import parse
from feedback.store import Store
from scorer import artifacts
from scorer.shelf import Shelf
from tests.feedback.examples import a_decision, execute, id_aged, rows

DAY = 24 * 3600.0
TABLES = ("decisions", "outcomes", "ratings", "comparisons", "judgements")


async def requested(store: Store, days: float, **changes: Any) -> str:
    """A request of that many days ago, served, rated twice by one person, compared and judged."""
    made = time.time() - days * DAY
    decision = a_decision(decision_id=id_aged(days * DAY), created_at=made, **changes)
    await store.add_decisions([decision])
    await said_about(store, decision.decision_id, made)
    return decision.decision_id


async def said_about(store: Store, decision_id: str, made: float) -> None:
    await store.record_outcomes([Outcome(decision_id=decision_id, status="success", served="cheap", cost=0.5)])
    for value in (0.0, 1.0):
        await store.rate(Rating(decision_id=decision_id, value=value, user="bob", created_at=made + 1))
    await store.compare(
        Comparison(model_a="strong", model_b="cheap", winner="tie", decision_id=decision_id, created_at=made + 2)
    )
    judged = Judgement(
        decision_id=decision_id, model_a="cheap", model_b="strong", messages=[{"role": "user", "content": "a secret"}],
        answer_a="an answer",
    )  # fmt: skip
    await store.queue_judgements([judged])
    await store.reserve_call(decision_id, decision_id, "judge", 0.25, 100.0)


def counts(url: str) -> dict[str, int]:
    return {table: rows(url, f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}


def cuts(days: float, prompt_days: float | None = None) -> Cuts:
    return Terms(days, prompt_days).cuts(time.time())


async def test_old_requests_go_with_all_that_hangs_on_them(store: Store, store_url: str) -> None:
    for days in (100, 91, 89, 0.5):
        await requested(store, days)
    removed = await retention.purge(store, cuts(90))
    assert removed == {"decisions": 2, "outcomes": 2, "ratings": 4, "comparisons": 2, "judgements": 2}
    assert counts(store_url) == {"decisions": 2, "outcomes": 2, "ratings": 4, "comparisons": 2, "judgements": 2}
    kept = rows(store_url, "SELECT min(created_at) FROM decisions")[0][0]
    assert kept > time.time() - 90 * DAY


async def test_what_has_no_decision_goes_by_the_age_of_its_id(store: Store, store_url: str) -> None:
    """Fallbacks have an outcome alone, lost decisions ratings too, and comparisons may have a prompt of their own."""
    for days in (100, 10):
        unheard = id_aged(days * DAY)
        await store.record_outcomes([Outcome(decision_id=unheard, status="fallback")])
        await store.rate(Rating(decision_id=unheard, value=1.0))
        await store.take([], [Comparison(model_a="a", model_b="b", winner="tie", created_at=time.time() - days * DAY)])
    execute(store_url, "DELETE FROM outcomes")  # so that ratings have neither
    assert await retention.purge(store, cuts(90)) == {"ratings": 1, "comparisons": 1}
    assert counts(store_url) == {"decisions": 0, "outcomes": 0, "ratings": 1, "comparisons": 1, "judgements": 0}


async def test_what_was_spent_and_who_served_survives(store: Store, store_url: str) -> None:
    now = time.time()
    await requested(store, 6.5, model="strong", expected_cost=2.0)
    await requested(store, 100, model="strong", expected_cost=2.0)
    await store.activate("mf", "v1", "/artifacts/v1", [], "test")
    await store.claim_run("retrain", 1.0, "test", 600)
    before = await store.spend("strong", now)
    assert [(slot.calls, slot.strong, slot.dollars) for slot in before] == [(1, 1, 0.5)]
    await retention.purge(store, cuts(7))
    assert await store.spend("strong", now) == before
    assert rows(store_url, "SELECT count(*), sum(estimate) FROM judge_calls") == [(2, 0.5)]
    assert rows(store_url, "SELECT count(*) FROM judge_calls WHERE decision_id = ''") == [(1,)]
    assert [one.version for one in await store.activations("mf")] == ["v1"]
    assert len(await store.runs("retrain")) == 1


async def test_prompts_go_before_their_requests_and_leave_what_keep_hash_would(store: Store, store_url: str) -> None:
    for days in (40, 10):
        await requested(store, days)
        made = time.time() - days * DAY
        own = Comparison(
            model_a="a", model_b="b", winner="tie", text="own", text_hash="1" * 64, encoder_id="e", embedding=b"1",
            features=b"2", created_at=made,
        )  # fmt: skip
        await store.take([], [own])
    removed = await retention.purge(store, cuts(90, 30))
    assert removed == {"prompts": 2}
    assert counts(store_url)["ratings"] == 4
    for table, kept in (("decisions", 1), ("comparisons", 1)):
        found = rows(
            store_url, f"SELECT count(text), count(embedding), count(features), count(encoder_id) FROM {table}"
        )
        assert found == [(kept, kept, kept, kept)]
    assert rows(store_url, "SELECT count(*) FROM decisions WHERE text_hash <> ''") == [(2,)]
    assert await retention.purge(store, cuts(90, 30)) == {}


async def test_a_dry_run_counts_what_a_purge_deletes_and_deletes_nothing(
    store: Store, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "PAGE", 2)
    for days in (100, 99, 98, 97, 40, 10):
        await requested(store, days)
    await store.record_outcomes([Outcome(decision_id=id_aged(95 * DAY), status="fallback")])
    before = counts(store_url)
    told = await retention.purge(store, cuts(90, 30), dry_run=True)
    assert counts(store_url) == before
    assert told == {"decisions": 4, "outcomes": 5, "ratings": 8, "comparisons": 4, "judgements": 4, "prompts": 1}
    assert await retention.purge(store, cuts(90, 30)) == told


@given(st.lists(st.floats(0, 200), max_size=5), st.one_of(st.none(), st.floats(7, 150)), st.floats(1, 150))
def test_cuts_never_spare_what_is_older_than_allowed(ages: list[float], days: float | None, prompts: float) -> None:
    now = 1e9
    cut = Terms(days, prompts).cuts(now)
    for age in ages:
        made = now - age * DAY
        assert (made < cut.before) == (days is not None and age > days)
        assert (made < cut.prompts_before) == (age > prompts or (days is not None and age > days))


async def test_ratings_are_acknowledged_while_a_purge_runs(store: Store, store_url: str) -> None:
    """Another process's, which on SQLite waits for a lock for 0.1 seconds at most."""
    vector = bytes(1536)
    made = time.time() - 100 * DAY
    old = [a_decision(decision_id=id_aged(100 * DAY), created_at=made + i, embedding=vector) for i in range(4000)]
    for start in range(0, len(old), 1000):
        await store.add_decisions(old[start : start + 1000])
    other, recent = Store(store_url), a_decision()
    await store.add_decisions([recent])
    purging = asyncio.create_task(retention.purge(store, cuts(90)))
    acknowledged: list[str] = []
    longest = 0.0
    while not purging.done():
        began = time.monotonic()
        rating = Rating(decision_id=recent.decision_id, value=1.0, user=f"user {len(acknowledged)}")
        acknowledged.append((await other.rate(rating)).feedback_id)
        longest = max(longest, time.monotonic() - began)
        await asyncio.sleep(0.01)
    assert (await purging)["decisions"] == 4000
    assert len(acknowledged) >= 8
    assert longest < 1.0
    assert sorted(acknowledged) == sorted(one for (one,) in rows(store_url, "SELECT feedback_id FROM ratings"))
    await other.close()


async def test_one_replica_purges_once_a_day_and_says_what_it_did(store: Store, store_url: str, tmp_path: Path) -> None:
    await requested(store, 100)
    await requested(store, 10)
    other = Store(store_url.replace("timeout=0.1", "timeout=10"))
    cron, terms, shelf = parse("30 4 * * *"), Terms(90, None), Shelf(tmp_path)
    await asyncio.gather(*(retention.keep(one, cron, terms, shelf) for one in (store, other)))
    await retention.keep(store, cron, terms, shelf)
    (run,) = await store.runs(JOB)
    assert run.status == "purged"
    assert run.record is not None
    assert run.record["removed"] == {"decisions": 1, "outcomes": 1, "ratings": 2, "comparisons": 1, "judgements": 1}
    assert run.verdict is not None
    assert run.verdict.startswith("1 outcomes, 2 ratings, 1 comparisons, 1 judgements, 1 decisions; requests and their")
    await other.close()


async def test_a_purge_that_was_taken_over_stops(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    await requested(store, 100)
    monkeypatch.setattr(retention, "_BEAT_SECONDS", -1.0)

    async def lost(run_id: str) -> bool:
        return False

    monkeypatch.setattr(store, "beat", lost)
    with pytest.raises(Lost):
        await retention.run(store, cuts(90), Shelf(tmp_path), 1.0)


async def test_versions_that_hold_old_prompts_are_handed_to_erasure(store: Store, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "artifacts")
    for router in ("sw", "mf"):
        place = shelf.place(router, "old")
        artifacts.write(place, {"x": np.ones(1)}, router=router, version="old", encoder_id="e")
    await requested(store, 100)
    later = Cuts(0.0, time.time() + 10)
    await retention.run(store, later, shelf, 1.0)
    (asked,) = await store.due_erasures()
    assert (asked.user, asked.versions) == (None, {"sw": ["old"]})
    await retention.run(store, Cuts(0.0, time.time() - DAY), shelf, 2.0)
    assert len(await store.due_erasures()) == 1


async def test_space_is_given_back(store: Store, store_url: str, dialect: str, tmp_path: Path) -> None:
    made = time.time() - 100 * DAY
    old = [a_decision(decision_id=id_aged(100 * DAY), created_at=made, embedding=bytes(4000)) for _ in range(500)]
    await store.add_decisions(old)
    await retention.purge(store, cuts(90))
    before = (tmp_path / "feedback.sqlite").stat().st_size if dialect == "sqlite" else 0
    await store.vacuum()
    await store.truncate_log()
    if dialect == "sqlite":
        assert before > 2_000_000
        assert (tmp_path / "feedback.sqlite").stat().st_size < before / 5
    assert counts(store_url)["decisions"] == 0


def test_a_page_is_cut_into_chunks_that_lose_nothing() -> None:
    found = Found(["a", "b", "c"], ["d"], [])
    chunks = list(found.chunks(2))
    assert [len(chunk.decision_ids) for chunk in chunks] == [2, 1]
    assert [one for chunk in chunks for one in (*chunk.decision_ids, *chunk.feedback_ids)] == ["a", "b", "d", "c"]
    assert list(Found().chunks(2)) == []
    assert msgspec.json.encode(found)
