"""What is one user's is found and deleted, and nobody else's; what has to survive it does."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from starlette.applications import Starlette

from feedback import erasing, erasure, erasures, retention, rollback, versions
from feedback.erasure import Learning, Terms
from feedback.records import Comparison, Erasure, Holdback, Judgement, Outcome, Rating
from feedback.store import Store
from feedback.versions import Version
from feedback.writer import DecisionWriter
from gateway_plugin import ids
from scorer import artifacts
from scorer.sessions import Pin
from scorer.shelf import Shelf
from scorer.web import Problem, answer_problem
from tests.feedback.examples import a_decision, execute, id_aged, rows
from tests.feedback.test_retention import counts, requested


async def asked(store: Store, user: str | None, **changes: Any) -> str:
    """A request of the user's, served; its id."""
    decision = a_decision(**{"decision_id": ids.mint(), "user": user, "unit": f"{user}'s", **changes})
    await store.add_decisions([decision])
    await store.record_outcomes([Outcome(decision_id=decision.decision_id, status="success", served="cheap")])
    return decision.decision_id


async def rate(store: Store, decision_id: str, user: str) -> None:
    await store.rate(Rating(decision_id=decision_id, value=1.0, user=user, comment=f"{user} says so"))


async def lived(store: Store) -> tuple[str, str]:
    """Ann's request and Bob's; each rated and compared both, and each was judged and has a pin."""
    hers, his = await asked(store, "ann"), await asked(store, "bob")
    for of in (hers, his):
        for user in ("ann", "bob"):
            await rate(store, of, user)
            await store.compare(Comparison(model_a="a", model_b="b", winner="tie", decision_id=of, user=user))
        question = [{"role": "user", "content": "x"}]
        waits = Judgement(decision_id=of, model_a="cheap", model_b="strong", messages=question, answer_a="y")
        await store.queue_judgements([waits])
        await store.reserve_call(of, of, "judge", 0.25, 100.0)
    for session in ("ann's", "bob's", "auto:1 ann", "auto:1 bob", "auto:1 joann"):
        pin = Pin(
            session=session, requested="router", model="cheap", version="v", pinned_at=1.0, seen_at=1.0, tokens=1.0
        )
        await store.write_pin(pin, None)
    await store.compare(Comparison(model_a="a", model_b="b", winner="tie", user="ann", text="own", text_hash="1" * 64))
    return hers, his


async def erase_rows(store: Store, user: str) -> Counter[str]:
    found = await store.of_user(user, time.time())
    pins = await store.remove_pins(user, found)
    await store.spend("strong", time.time())
    removed = await store.remove(found, "strong")
    return removed + Counter(pins=pins)


async def test_all_that_is_a_users_goes_and_nothing_else(store: Store, store_url: str) -> None:
    """Hers: her request whoever rated it, and what she said of his."""
    _, his = await lived(store)
    removed = await erase_rows(store, "ann")
    assert removed == {"decisions": 1, "outcomes": 1, "ratings": 3, "comparisons": 4, "judgements": 1, "pins": 2}
    assert counts(store_url) == {"decisions": 1, "outcomes": 1, "ratings": 1, "comparisons": 1, "judgements": 1}
    assert rows(store_url, "SELECT decision_id, comment FROM ratings") == [(his, "bob says so")]
    sessions = [one for (one,) in rows(store_url, "SELECT session FROM pins")]
    assert sorted(sessions) == ["auto:1 bob", "auto:1 joann", "bob's"]
    ledger = rows(store_url, "SELECT decision_id, estimate FROM judge_calls")
    assert sorted(ledger) == [("", 0.25), (his, 0.25)]


async def test_a_fallback_is_a_users_by_its_outcome(store: Store, store_url: str) -> None:
    unheard = ids.mint()
    await store.record_outcomes([Outcome(decision_id=unheard, status="fallback", user="ann")])
    await rate(store, unheard, "bob")
    assert await erase_rows(store, "ann") == {"outcomes": 1, "ratings": 1}


async def test_what_was_made_after_it_was_asked_for_stays(store: Store, store_url: str) -> None:
    await lived(store)
    until = time.time()
    later = await asked(store, "ann", decision_id=id_aged(-1.0), created_at=until + 1)
    await store.rate(Rating(decision_id=later, value=1.0, user="ann", created_at=until + 1))
    assert later not in (await store.of_user("ann", until)).decision_ids
    await store.remove(await store.of_user("ann", until))
    assert rows(store_url, "SELECT decision_id FROM ratings WHERE value = 1 AND \"user\" = 'ann'") == [(later,)]


async def test_what_erased_requests_cost_counts_still(store: Store) -> None:
    """Of a slot that is summed up again, of one that is settled, and of one that has nothing else."""
    now = time.time()
    for user, hours, dollars in (
        ("ann", 0, 1.0),
        ("bob", 0, 2.0),
        ("ann", 30, 4.0),
        ("bob", 30, 8.0),
        ("ann", 50, 16.0),
    ):
        made = now - hours * 3600
        decision_id = await asked(store, user, created_at=made, model="strong", expected_cost=0.5)
        await store.record_outcomes([Outcome(decision_id=decision_id, status="success", cost=dollars)])
    before = await store.spend("strong", now)
    assert sum(slot.dollars for slot in before) == 31.0
    assert sum(slot.strong for slot in before) == 5
    await erase_rows(store, "ann")
    assert await store.spend("strong", now) == before
    assert await store.spend("strong", now + 60) == before


async def test_spend_that_was_never_summed_up_survives_as_well(store: Store) -> None:
    now = time.time()
    for user in ("ann", "bob"):
        await asked(store, user, created_at=now - 3 * 24 * 3600, expected_cost=0.5)
    await erase_rows(store, "ann")
    assert [(slot.calls, slot.expected) for slot in await store.spend("strong", now)] == [(2, 1.0)]


async def test_since_when_routers_may_have_learned_of_a_user(store: Store) -> None:
    quiet = await asked(store, "ann")
    found = await store.of_user("ann", time.time())
    assert await store.said_since(found) is None
    rated = await asked(store, "ann")
    await rate(store, rated, "bob")
    assert await store.said_since(await store.of_user("ann", time.time())) == ids.minted_at(rated)
    await store.record_outcomes([Outcome(decision_id=quiet, status="success", served="cheap", finish_reason="length")])
    assert await store.said_since(await store.of_user("ann", time.time())) == ids.minted_at(quiet)
    his = await asked(store, "bob")
    await rate(store, his, "cyd")
    assert await store.said_since(await store.of_user("cyd", time.time())) == ids.minted_at(his)


async def test_an_erasure_is_followed_step_by_step_and_then_nameless(store: Store, store_url: str) -> None:
    one = await store.ask_erasure("ann")
    assert (await store.ask_erasure("ann")).erasure_id == one.erasure_id
    assert one.status == "asked"
    await store.note_erasure(one.erasure_id, {"mf": {"v2", "v1"}})
    await store.erasure_removed(one.erasure_id, Counter(ratings=2))
    await store.erasure_removed(one.erasure_id, Counter(ratings=1), last=True)
    removed = await store.erasure(one.erasure_id)
    assert removed is not None
    assert (removed.status, removed.versions, removed.removed) == ("removed", {"mf": ["v1", "v2"]}, {"ratings": 3})
    await store.erasures_rebuilt([one.erasure_id])
    rebuilt = await store.erasure(one.erasure_id)
    assert rebuilt is not None
    assert (rebuilt.status, rebuilt.user) == ("rebuilt", "ann")
    assert await store.due_erasures() == []
    execute(store_url, f"UPDATE erasures SET asked_at = asked_at - {erasures.LATE_SECONDS + 1}")
    assert [late.erasure_id for late in await store.due_erasures()] == [one.erasure_id]
    await store.erasures_rebuilt([one.erasure_id])
    finished = await store.erasure(one.erasure_id)
    assert finished is not None
    assert (finished.status, finished.user) == ("finished", None)
    assert await store.due_erasures() == []


async def test_who_asks_again_while_it_waits_has_all_erased_that_was_made_since(store: Store, store_url: str) -> None:
    one = await store.ask_erasure("ann")
    execute(store_url, "UPDATE erasures SET asked_at = asked_at - 600")
    since = await asked(store, "ann")
    again = await store.ask_erasure("ann")
    assert (again.erasure_id, again.asked_at >= one.asked_at) == (one.erasure_id, True)
    (due,) = await store.due_erasures()
    assert (await store.of_user("ann", due.asked_at)).decision_ids == [since]


async def test_who_asks_again_afterwards_is_given_a_new_one(store: Store) -> None:
    one = await store.ask_erasure("ann")
    await store.erasure_removed(one.erasure_id, Counter(), last=True)
    assert (await store.ask_erasure("ann")).erasure_id != one.erasure_id


async def test_an_erasure_waits_for_a_run_that_has_its_lock(store: Store) -> None:
    assert not await store.wants_erasure("retrain", 600)
    await store.ask_erasure("ann")
    assert await store.wants_erasure("retrain", 600)
    run = await store.claim_run("retrain", 1.0, "test", 600)
    assert run is not None
    assert not await store.wants_erasure("retrain", 600)
    await store.finish_run(run.run_id, "refused", "")
    assert await store.wants_erasure("retrain", 600)


async def test_no_rollback_goes_to_an_erased_version(store: Store) -> None:
    for version in ("v1", "v2", "v3"):
        await store.activate("mf", version, f"/artifacts/{version}", [], "test", holdback=Holdback(0.5, 14))
    assert versions.before(await store.activations("mf")) == "v2"
    await store.erase_versions("mf", ["v2"])
    assert versions.before(await store.activations("mf")) == "v1"
    await store.erase_versions("mf", ["v1"])
    assert versions.before(await store.activations("mf")) is None


def test_versions_that_cannot_be_read_lie_there_too(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for name in ("v1", "v2"):
        artifacts.write(shelf.place("sw", name), {"x": np.ones(1)}, router="sw", version=name, encoder_id="e")
    (shelf.place("sw", "v2") / artifacts.MANIFEST).write_text("{")
    found = versions.lying(shelf, "sw")
    assert sorted(found) == ["v1", "v2"]
    assert all(abs(made - time.time()) < 60 for made in found.values())
    assert versions.lying(shelf, "mf") == {}


def terms(tmp_path: Path, named: tuple[Path, ...] = ()) -> Terms:
    """Of versions v1 and v2 that are no real ones, and a configured v0: nothing can be fitted."""
    for name in ("v1", "v2"):
        where = tmp_path / "artifacts" / "mf" / name
        artifacts.write(where, {"x": np.ones(1)}, router="mf", version=name, encoder_id="e")
    where = artifacts.write(tmp_path / "v0", {"x": np.ones(1)}, router="mf", version="v0", encoder_id="e")

    async def learning() -> Learning:
        raise AssertionError("nothing is to be fitted")

    begin = {"mf": Version(where, artifacts.read_manifest(where))}
    return Terms("strong", Shelf(tmp_path / "artifacts"), begin, named, learning)


async def test_a_holdback_of_an_erased_version_ends(store: Store, tmp_path: Path) -> None:
    begun = terms(tmp_path)
    await store.activate("mf", "v2", "/artifacts/v2", [], "test")
    await store.activate("mf", "v1", "/artifacts/v1", [], "test", holdback=Holdback(0.5, 14))
    await store.ask_erasure(None, {"mf": ["v2"]})
    night = await erasure.run(store, begun, "test")
    assert night is not None
    assert night.record["replaced"] == {"mf": "mf v1 serves on, and nothing is held back"}
    active = await store.active("mf")
    assert active is not None
    assert (active.version, active.holdback_until, active.changed_by) == ("v1", None, "erase")
    assert sorted(versions.lying(begun.shelf, "mf")) == ["v1"]
    assert await rollback.watch(store, begun.configured, 0.05) == {}
    assert versions.before(await store.activations("mf")) is None
    assert await store.due_erasures() == []


async def test_what_retention_deleted_may_have_been_the_users(store: Store, tmp_path: Path) -> None:
    """So versions from before the last purge go; none is replaced, since none of them serves."""
    begun = terms(tmp_path)
    await requested(store, 100)
    assert await erasure.preview(store, begun, "nobody") == ({}, {})
    await retention.run(store, retention.Terms(90, None).cuts(time.time()), begun.shelf, 1.0)
    assert await erasure.preview(store, begun, "nobody") == ({}, {"mf": {"v1", "v2"}})
    await store.ask_erasure("nobody")
    await erasure.run(store, begun, "test")
    assert versions.lying(begun.shelf, "mf") == {}


async def test_a_version_that_the_configuration_names_is_not_pulled_away(store: Store, tmp_path: Path) -> None:
    begun = terms(tmp_path, (tmp_path / "artifacts" / "mf" / "v1",))
    hers, _ = await lived(store)
    await store.ask_erasure("ann")
    with pytest.raises(erasure.Configured, match=r"mf/v1: may have learned from .*, and the configuration names it"):
        await erasure.run(store, begun, "test")
    assert await store.find_decision(hers) is not None
    (run,) = await store.runs("retrain")
    assert run.status == "failed"


async def test_one_that_cannot_be_carried_out_holds_up_no_other(store: Store, tmp_path: Path) -> None:
    begun = terms(tmp_path, (tmp_path / "artifacts" / "mf" / "v1",))
    hers, _ = await lived(store)
    quiet = await asked(store, "cyd")
    await store.ask_erasure("ann")
    await store.ask_erasure("cyd")
    night = await erasure.run(store, begun, "test")
    assert night is not None
    assert "mf/v1: may have learned from what is to be erased" in night.verdict
    assert await store.find_decision(hers) is not None
    assert await store.find_decision(quiet) is None
    assert [one.user for one in await store.due_erasures()] == ["ann"]


async def test_versions_from_before_the_user_said_anything_stay(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "_SLACK_SECONDS", -2.0)  # manifests have whole seconds
    begun = terms(tmp_path)
    await lived(store)
    await store.ask_erasure("ann")
    night = await erasure.run(store, begun, "test")
    assert night is not None
    assert night.record["versions"] == {}
    assert sorted(versions.lying(begun.shelf, "mf")) == ["v1", "v2"]


async def test_an_erasure_waits_for_the_nightly_run(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "_WAIT_SECONDS", 0.05)
    begun = terms(tmp_path)
    run = await store.claim_run("retrain", 1.0, "test", 600)
    assert run is not None
    await store.ask_erasure(None, {"mf": ["v2"]})
    said: list[str] = []
    task = asyncio.create_task(erasure.run(store, begun, "test", said.append))
    await asyncio.sleep(0.3)
    assert set(said) == {"a retraining run is at work; waiting for its end"}
    assert sorted(versions.lying(begun.shelf, "mf")) == ["v1", "v2"]
    await store.finish_run(run.run_id, "refused", "")
    await task
    assert sorted(versions.lying(begun.shelf, "mf")) == ["v1"]


async def test_ratings_that_arrive_meanwhile_are_not_lost(store: Store, store_url: str, tmp_path: Path) -> None:
    """Bob's on his own request, while two thousand of Ann's go."""
    begun = terms(tmp_path)
    await store.add_decisions([a_decision(decision_id=ids.mint(), user="ann", unit=str(i)) for i in range(2000)])
    his = await asked(store, "bob")
    other = Store(store_url.replace("timeout=0.1", "timeout=5"))
    await store.ask_erasure("ann")
    task = asyncio.create_task(erasure.run(store, begun, "test"))
    acknowledged: list[str] = []
    while not task.done():
        receipt = await other.rate(Rating(decision_id=his, value=1.0, user=f"bob {len(acknowledged)}"))
        acknowledged.append(receipt.feedback_id)
        await asyncio.sleep(0.005)
    night = await task
    assert night is not None
    assert night.record["removed"] == {"decisions": 2000}
    assert len(acknowledged) >= 4
    assert sorted(acknowledged) == sorted(one for (one,) in rows(store_url, "SELECT feedback_id FROM ratings"))
    await other.close()


@pytest.fixture
def app(store: Store) -> Starlette:
    found = erasing.endpoints(store, DecisionWriter(store))
    return Starlette(routes=[one.route for one in found], exception_handlers={Problem: answer_problem})


async def test_an_erasure_is_asked_for_and_followed_by_its_id_alone(app: Starlette, store: Store) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://routerd") as client:
        answer = await client.post("/v1/erasures", json={"user": "ann"})
        assert answer.status_code == 202
        asked_for = answer.json()
        assert asked_for["status"] == "asked"
        assert "ann" not in answer.text
        again = await client.get(f"/v1/erasures/{asked_for['erasure_id']}")
        assert again.json() == asked_for
        assert (await client.get("/v1/erasures/nothing")).status_code == 404
        assert (await client.post("/v1/erasures", json={"user": ""})).status_code == 400
    (due,) = await store.due_erasures()
    assert (due.user, due.erasure_id) == ("ann", asked_for["erasure_id"])
    assert all("admin" in one.scopes for one in erasing.endpoints(store, DecisionWriter(store)))


def test_statuses_come_in_order() -> None:
    one = Erasure(erasure_id="1", user="ann", asked_at=1.0)
    steps = [one]
    for field in ("removed_at", "rebuilt_at", "finished_at"):
        steps.append(msgspec.structs.replace(steps[-1], **{field: 2.0}))
    assert [step.status for step in steps] == ["asked", "removed", "rebuilt", "finished"]
