from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from feedback.activations import CONFIGURED, Overtaken
from feedback.records import StoredCalibration
from feedback.store import Store
from tests.feedback.examples import rows

LADDER = ("large", "small")


def a_calibration(version: str, **changes: Any) -> StoredCalibration:
    fields: dict[str, Any] = {"router": "mf", "version": version, "ladder": LADDER, "sample": "made up"}
    return StoredCalibration(**fields | {"lowest": b"\x00\x00\x80?"} | changes)


async def test_a_router_has_no_active_version_until_one_is_activated(store: Store) -> None:
    assert await store.active("mf") is None
    assert await store.activations("mf") == []


async def test_the_newest_activation_is_the_active_one_and_the_history_stays(store: Store) -> None:
    for version in ("v1", "v2", "v1"):
        await store.activate("mf", version, f"data/artifacts/mf/{version}", [], "ann")
    other = await store.activate("sw", "v9", "data/artifacts/sw/v9", [], "retrain")
    history = await store.activations("mf")
    assert [(one.number, one.version, one.previous) for one in history] == [
        (3, "v1", "v2"),
        (2, "v2", "v1"),
        (1, "v1", None),
    ]
    assert await store.active("mf") == history[0]
    assert (history[0].directory, history[0].changed_by) == ("data/artifacts/mf/v1", "ann")
    assert history[0].changed_at >= history[1].changed_at
    assert await store.active("sw") == other
    assert [one.number for one in await store.activations("mf", limit=2)] == [3, 2]


async def test_a_version_and_its_calibrations_change_together_or_not_at_all(store: Store, store_url: str) -> None:
    first = a_calibration("v1")
    await store.activate("mf", "v1", "v1", [first], "ann")
    assert await store.calibration("mf", "v1", LADDER) == first
    twice = a_calibration("v2", calibration_id=first.calibration_id)
    with pytest.raises(IntegrityError):
        await store.activate("mf", "v2", "v2", [a_calibration("v2"), twice], "retrain")
    active = await store.active("mf")
    assert active is not None
    assert active.version == "v1"
    assert rows(store_url, "SELECT version FROM calibrations") == [("v1",)]


async def test_a_challenger_replaces_only_what_it_was_compared_with(store: Store) -> None:
    await store.activate("mf", "v1", "v1", [], "retrain", over=CONFIGURED)
    await store.activate("mf", "v2", "v2", [], "ann", over=1)
    for stale in (CONFIGURED, 1):
        with pytest.raises(Overtaken):
            await store.activate("mf", "v3", "v3", [a_calibration("v3")], "retrain", over=stale)
    assert [one.version for one in await store.activations("mf")] == ["v2", "v1"]
    assert await store.calibration("mf", "v3", LADDER) is None


async def test_activations_at_once_take_turns(store_url: str) -> None:
    url = store_url.replace("timeout=0.1", "timeout=10")
    replicas = [Store(url) for _ in range(3)]
    await asyncio.gather(
        *(replica.activate("mf", f"v{turn}", "somewhere", [], "ann") for turn, replica in enumerate(replicas * 5))
    )
    history = await replicas[0].activations("mf")
    assert [one.number for one in history] == list(range(15, 0, -1))
    assert [one.previous for one in history] == [*(one.version for one in history[1:]), None]
    for replica in replicas:
        await replica.close()
