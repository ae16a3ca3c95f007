"""The watch on real databases: what counts for it, and what an alarm changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feedback import rollback, versions
from feedback.records import Activation, Holdback, Outcome, Rated, Rating
from feedback.store import Store
from feedback.versions import Version
from gateway_plugin import ids
from scorer import arms, artifacts
from tests.feedback.examples import a_decision, execute

HALF = Holdback(0.5, days=14)


@pytest.fixture
def configured(tmp_path: Path) -> Version:
    """The artifact that mf begins with, v0."""
    where = artifacts.write(tmp_path / "v0", {"x": np.ones(1)}, router="mf", version="v0", encoder_id="e")
    return Version(where, artifacts.read_manifest(where))


async def published(store: Store, holdback: Holdback | None = HALF) -> Activation:
    """v2, after v1."""
    await store.activate("mf", "v1", "/artifacts/v1", [], "retrain")
    return await store.activate("mf", "v2", "/artifacts/v2", [], "retrain", holdback=holdback)


def units(activation: Activation, held: bool, count: int, start: int = 0) -> list[str]:
    """Sessions of one arm."""
    names = (f"session-{number}" for number in range(start, 100_000))
    arm = (one for one in names if arms.held_back(one, "mf", activation.number, activation.holdback) == held)
    return [next(arm) for _ in range(count)]


async def said(store: Store, version: str, rated: Sequence[tuple[str, float | None]], **changes: Any) -> None:
    """One answer of this version for each unit, as routed and served unless changed, with its rating."""
    outcome = {key: changes.pop(key) for key in ("served", "chosen", "status") if key in changes}
    source = changes.pop("source", "human")
    for unit, value in rated:
        decision = a_decision(decision_id=ids.mint(), version=version, unit=unit, **changes)
        await store.add_decisions([decision])
        seen = {"status": "success", "chosen": "cheap", "served": "cheap", **outcome}
        await store.record_outcomes([Outcome(decision_id=decision.decision_id, **seen)])
        await store.rate(Rating(decision_id=decision.decision_id, value=value, user=unit, source=source))


async def bad_version(store: Store, active: Activation, count: int = 40) -> None:
    """v1 pleases everybody, v2 nobody; ratings come in turns."""
    for held, new in zip(units(active, True, count), units(active, False, count), strict=True):
        await said(store, "v1", [(held, 1.0)])
        await said(store, "v2", [(new, 0.0)])


async def test_an_activation_says_what_is_held_back_and_until_when(store: Store) -> None:
    active = await published(store, Holdback(0.05, days=2))
    assert active.holdback == 0.05
    assert active.holdback_until == active.changed_at + 2 * 24 * 3600
    assert active.holds_back(active.changed_at + 1)
    assert not active.holds_back(active.holdback_until)
    assert await store.active("mf") == active


async def test_a_version_is_not_held_back_beside_itself(store: Store) -> None:
    await store.activate("mf", "v1", "/artifacts/v1", [], "ann")
    again = await store.activate("mf", "v1", "/artifacts/v1", [], "ann", holdback=HALF)
    assert (again.holdback, again.holdback_until, again.holdback_since) == (0.0, None, None)


async def test_first_ratings_of_either_arm_come_in_order(store: Store) -> None:
    active = await published(store)
    (held,), new = units(active, True, 1), units(active, False, 2)
    await said(store, "v2", [(new[0], 0.0)])
    await said(store, "v1", [(held, 0.75)])
    await said(store, "v2", [(new[1], 1.0), (new[0], 1.0)])
    assert await store.rated_held_back(active, "v1", ["v2"]) == [
        Rated(0.0, False),
        Rated(0.75, True),
        Rated(1.0, False),
    ]


async def test_a_change_of_mind_changes_nothing_that_was_bet_on(store: Store) -> None:
    active = await published(store)
    (new,) = units(active, False, 1)
    decision = a_decision(version="v2", unit=new)
    await store.add_decisions([decision])
    await store.record_outcomes(
        [Outcome(decision_id=decision.decision_id, status="success", chosen="cheap", served="cheap")]
    )
    for value in (1.0, 0.0, None):
        await store.rate(Rating(decision_id=decision.decision_id, value=value))
    assert await store.rated_held_back(active, "v1", ["v2"]) == [Rated(1.0, False)]


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "v1"},
        {"version": "v9"},
        {"router": "sw"},
        {"mode": "observe"},
        {"served": "strong"},
        {"chosen": "strong"},
        {"status": "failure"},
        {"source": "judge"},
        {"created_at": time.time() - 3600},
        {"created_at": time.time() + 15 * 24 * 3600},
    ],
    ids=str,
)
async def test_what_is_not_that_versions_answer_as_routed_counts_for_neither(
    store: Store, changes: dict[str, Any]
) -> None:
    """The first is a unit of the new version's that a replica has served with the old one, before it followed."""
    active = await published(store)
    (new,) = units(active, False, 1)
    await said(store, **{"version": "v2", "rated": [(new, 0.0)], **changes})
    assert await store.rated_held_back(active, "v1", ["v2"]) == []


async def test_an_alarm_brings_the_version_before_back_and_says_why(store: Store, configured: Version) -> None:
    active = await published(store)
    await bad_version(store, active)
    findings = await rollback.watch(store, {"mf": configured, "sw": configured}, 0.05)
    assert list(findings) == ["mf"]
    assert findings["mf"].alarm
    back, judged, _ = await store.activations("mf")
    assert (back.version, back.directory, back.previous, back.undoes) == ("v1", "/artifacts/v1", "v2", judged.number)
    assert (back.holdback, back.holdback_until) == (0.0, None)
    assert back.changed_by.startswith(
        "rollback: rated 0.000 by 40 sessions, the version before 1.000 by 40: drop +1.000"
    )
    (run,) = await store.runs(rollback.JOB)
    assert run.status == "rolled back"
    assert run.verdict is not None
    assert run.verdict.startswith("mf v2 to v1: rated 0.000 by 40 sessions")
    assert run.record is not None
    assert [run.record[key] for key in ("from", "to", "held", "new", "held_mean")] == ["v2", "v1", 40, 40, 1.0]
    assert await rollback.watch(store, {"mf": configured}, 0.05) == {}  # it is over


async def test_without_an_alarm_nothing_changes(store: Store, configured: Version) -> None:
    active = await published(store)
    await bad_version(store, active, count=5)
    finding = (await rollback.watch(store, {"mf": configured}, 0.05))["mf"]
    assert (finding.alarm, finding.held, finding.new) == (False, 5, 5)
    assert await store.active("mf") == active
    assert await store.runs(rollback.JOB) == []


async def test_replicas_that_watch_together_roll_back_once(store: Store, store_url: str, configured: Version) -> None:
    await bad_version(store, await published(store))
    others = [Store(store_url) for _ in range(3)]
    await asyncio.gather(*(rollback.watch(one, {"mf": configured}, 0.05) for one in others))
    for one in others:
        await one.close()
    assert [one.version for one in await store.activations("mf")] == ["v1", "v2", "v1"]
    assert len(await store.runs(rollback.JOB)) == 1


async def test_a_version_published_meanwhile_joins_the_holdback_and_goes_with_it(
    store: Store, configured: Version
) -> None:
    """v2 and v3 are both rated badly beside v1: their ratings count together, and v1 comes back."""
    began = await published(store)
    await bad_version(store, began, count=20)
    active = await store.activate("mf", "v3", "/artifacts/v3", [], "retrain", holdback=Holdback(0.05, days=99))
    same = ("holdback", "holdback_until", "holdback_since")
    assert [getattr(active, name) for name in same] == [getattr(began, name) for name in same]
    for held, new in zip(units(began, True, 20, 5000), units(began, False, 20, 5000), strict=True):
        await said(store, "v1", [(held, 1.0)])
        await said(store, "v3", [(new, 0.0)])
    finding = (await rollback.watch(store, {"mf": configured}, 0.05))["mf"]
    assert (finding.held, finding.new, finding.alarm) == (40, 40, True)
    history = await store.activations("mf")
    assert (history[0].version, history[0].directory, history[0].undoes) == ("v1", "/artifacts/v1", active.number)
    assert versions.undone(history) == {"v2", "v3"}


async def test_by_hand_without_one_the_holdback_is_over(store: Store, configured: Version) -> None:
    await bad_version(store, await published(store))
    await store.activate("mf", "v3", "/artifacts/v3", [], "ann")
    assert await rollback.watch(store, {"mf": configured}, 0.05) == {}


async def test_what_serves_no_longer_is_not_undone(store: Store) -> None:
    active = await published(store)
    newer = await store.activate("mf", "v3", "/artifacts/v3", [], "ann")
    run = await store.claim_run("another job", 1.0, "test", 60)
    assert run is not None
    assert await store.undo(active, "v1", "/artifacts/v1", "rollback", run) is None
    assert await store.active("mf") == newer


async def test_before_the_first_version_is_the_configured_artifact(store: Store, configured: Version) -> None:
    active = await store.activate("mf", "v2", "/artifacts/v2", [], "retrain", holdback=HALF)
    for held, new in zip(units(active, True, 40), units(active, False, 40), strict=True):
        await said(store, "v0", [(held, 1.0)])
        await said(store, "v2", [(new, 0.0)])
    await rollback.watch(store, {"mf": configured}, 0.05)
    back = await store.active("mf")
    assert back is not None
    assert (back.version, back.directory) == ("v0", str(configured.directory.resolve()))


async def test_what_was_rolled_back_by_itself_is_not_gone_back_to(store: Store, configured: Version) -> None:
    """v2 was rolled back to v1; somebody lets it serve again; v3 after it is worse still: v1."""
    await bad_version(store, await published(store))
    await rollback.watch(store, {"mf": configured}, 0.05)
    await store.activate("mf", "v2", "/artifacts/v2", [], "ann")
    active = await store.activate("mf", "v3", "/artifacts/v3", [], "retrain", holdback=HALF)
    for held, new in zip(units(active, True, 40), units(active, False, 40), strict=True):
        await said(store, "v2", [(held, 1.0)])
        await said(store, "v3", [(new, 0.0)])
    await rollback.watch(store, {"mf": configured}, 0.05)
    back = await store.active("mf")
    assert back is not None
    assert (back.version, back.directory, back.undoes) == ("v1", "/artifacts/v1", active.number)


async def test_ratings_of_an_earlier_holdback_do_not_count_for_the_next(store: Store, configured: Version) -> None:
    await bad_version(store, await published(store))
    await store.activate("mf", "v1", "/artifacts/v1", [], "ann")
    again = await store.activate("mf", "v2", "/artifacts/v2", [], "retrain", holdback=HALF)
    assert await store.rated_held_back(again, "v1", ["v2"]) == []
    finding = (await rollback.watch(store, {"mf": configured}, 0.05))["mf"]
    assert (finding.held, finding.new, finding.alarm) == (0, 0, False)


async def test_a_holdback_that_is_over_is_watched_no_longer(store: Store, store_url: str, configured: Version) -> None:
    await bad_version(store, await published(store))
    execute(store_url, f"UPDATE activations SET holdback_until = {time.time() - 1} WHERE number = 2")
    assert await rollback.watch(store, {"mf": configured}, 0.05) == {}
