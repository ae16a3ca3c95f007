"""The store: decisions, outcomes and calibrations come back as they went in, and what is away is said."""

import asyncio
import itertools
import time
from typing import Any

import msgspec
import pytest

from feedback.database import Unavailable
from feedback.records import Outcome, Rating, StoredCalibration
from feedback.store import Store
from gateway_plugin import ids
from tests.feedback.conftest import Away
from tests.feedback.examples import a_decision, rows, whole


async def test_a_decision_comes_back_as_it_went_in(store: Store) -> None:
    full = a_decision()
    bare = a_decision(
        quality=None,
        session_id=None,
        user=None,
        call_id=None,
        text=None,
        encoder_id=None,
        embedding=None,
        features=None,
    )
    await store.add_decisions([full, bare])
    assert await store.find_decision(full.decision_id) == full
    assert await store.find_decision(bare.decision_id) == bare
    assert await store.find_decision(ids.mint()) is None


async def test_maps_keep_the_order_of_the_ladder(store: Store) -> None:
    decision = a_decision(win_rates={"z": 0.5, "a": 0.25, "m": 0.125})
    await store.add_decisions([decision])
    found = await store.find_decision(decision.decision_id)
    assert found is not None
    assert list(found.win_rates) == ["z", "a", "m"]


async def test_the_first_decision_of_an_id_stays(store: Store) -> None:
    first = a_decision(model="cheap")
    await store.add_decisions([first])
    await store.add_decisions([a_decision(decision_id=first.decision_id, model="strong"), a_decision()])
    assert await store.find_decision(first.decision_id) == first


async def test_text_that_a_database_refuses_is_made_storable(store: Store) -> None:
    decision = a_decision(session_id="a\0b", text="half of an emoji: \ud83d")
    await store.add_decisions([decision])
    found = await store.find_decision(decision.decision_id)
    assert found is not None
    assert (found.session_id, found.text) == ("a\ufffdb", "half of an emoji: \ufffd")


async def test_the_whole_decision_has_its_outcome_and_current_ratings(store: Store) -> None:
    decision = a_decision()
    await store.add_decisions([decision])
    await store.record_outcomes([Outcome(decision_id=decision.decision_id, status="success", served="cheap")])
    await store.rate(Rating(decision_id=decision.decision_id, value=1.0, user="ann"))
    await store.rate(Rating(decision_id=decision.decision_id, value=0.0, user="bob", comment="wrong"))
    record = await whole(store, decision.decision_id)
    assert (record.status, record.decision) == ("routed", decision)
    assert record.outcome is not None
    assert record.outcome.served == "cheap"
    assert abs(record.outcome.reported_at - time.time()) < 10
    assert [(rating.user, rating.value, rating.comment) for rating in record.ratings] == [
        ("ann", 1.0, None),
        ("bob", 0.0, "wrong"),
    ]


async def test_status_says_what_became_of_a_decision(store: Store) -> None:
    routed, observed, late = a_decision(), a_decision(mode="observe"), a_decision()
    await store.add_decisions([routed, observed, late])
    only_fallback, lost = ids.mint(), ids.mint()
    await store.record_outcomes(
        [
            Outcome(decision_id=late.decision_id, status="fallback"),
            Outcome(decision_id=only_fallback, status="fallback"),
            Outcome(decision_id=lost, status="success"),
        ]
    )
    decision_ids = [routed.decision_id, observed.decision_id, late.decision_id, only_fallback, lost]
    statuses = [(await whole(store, decision_id)).status for decision_id in decision_ids]
    assert statuses == ["routed", "observe", "fallback", "fallback", "lost"]


FAILURE = {"status": "failure", "served": "boom", "error": "upstream 500", "latency_ms": 5.0, "call_id": "c"}
SUCCESS = {"status": "success", "served": "strong", "tokens_in": 7, "tokens_out": 9, "cost": 0.25}
MERGED = {
    "status": "success",
    "served": "strong",
    "tokens_in": 7,
    "tokens_out": 9,
    "cost": 0.25,
    "latency_ms": 5.0,
    "error": "upstream 500",
    "call_id": "c",
}


@pytest.mark.parametrize("together", [True, False])
async def test_a_failure_and_a_success_end_as_success_in_any_order_and_number(store: Store, together: bool) -> None:
    for order in itertools.permutations([FAILURE, SUCCESS, FAILURE, SUCCESS]):
        decision_id = ids.mint()
        reports = [msgspec.convert({"decision_id": decision_id, **report}, Outcome) for report in order]
        for batch in [reports] if together else [[report] for report in reports]:
            await store.record_outcomes(batch)
        outcome = (await whole(store, decision_id)).outcome
        assert outcome is not None
        known = {name: value for name, value in msgspec.structs.asdict(outcome).items() if value is not None}
        assert known.pop("reported_at") > 0
        assert known == {"decision_id": decision_id, **MERGED}


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("one", "other", "merged"),
    [
        ("rejected", "failure", "failure"),
        ("rejected", "success", "success"),
        ("success", "fallback", "fallback"),
        ("failure", "fallback", "fallback"),
    ],
)
async def test_the_weightier_status_stays(store: Store, one: str, other: str, merged: str, backwards: bool) -> None:
    decision_id = ids.mint()
    for status in (other, one) if backwards else (one, other):
        await store.record_outcomes([msgspec.convert({"decision_id": decision_id, "status": status}, Outcome)])
    outcome = (await whole(store, decision_id)).outcome
    assert outcome is not None
    assert outcome.status == merged


async def test_a_fallback_takes_the_facts_of_the_success_that_follows(store: Store) -> None:
    decision_id = ids.mint()
    for report in (
        Outcome(decision_id=decision_id, status="fallback", reason="timeout", chosen="strong"),
        Outcome(decision_id=decision_id, status="failure", served="strong", error="upstream 500"),
        Outcome(decision_id=decision_id, status="success", served="medium", tokens_out=3),
    ):
        await store.record_outcomes([report])
    outcome = (await whole(store, decision_id)).outcome
    assert outcome is not None
    assert (outcome.status, outcome.reason, outcome.chosen) == ("fallback", "timeout", "strong")
    assert (outcome.served, outcome.tokens_out) == ("medium", 3)


async def test_long_texts_are_cut(store: Store) -> None:
    decision_id = ids.mint()
    await store.record_outcomes([Outcome(decision_id=decision_id, status="failure", error="e" * 5000)])
    outcome = (await whole(store, decision_id)).outcome
    assert outcome is not None
    assert outcome.error == "e" * 1000


async def test_replicas_that_report_the_same_outcomes_do_not_deadlock(store: Store, store_url: str) -> None:
    replica = Store(store_url.replace("timeout=0.1", "timeout=5"))
    outcomes = [Outcome(decision_id=ids.mint(), status="success", tokens_in=position) for position in range(200)]
    await asyncio.gather(
        *(replica.record_outcomes(outcomes) for _ in range(4)),
        *(replica.record_outcomes(outcomes[::-1]) for _ in range(4)),
    )
    assert rows(store_url, "SELECT count(*), sum(tokens_in) FROM outcomes") == [(200, 19900)]
    await replica.close()


async def test_decisions_without_an_outcome_expire_once(store: Store) -> None:
    old = [a_decision(created_at=time.time() - 7200) for _ in range(1100)]
    reported, young = a_decision(created_at=time.time() - 7200), a_decision()
    await store.add_decisions([*old, reported, young])
    await store.record_outcomes([Outcome(decision_id=reported.decision_id, status="success")])
    assert await store.expire(older_than=3600) == 1100
    assert await store.expire(older_than=3600) == 0
    statuses = [(await whole(store, one.decision_id)).status for one in (old[0], old[-1], reported, young)]
    assert statuses == ["expired", "expired", "routed", "routed"]


async def test_a_decision_that_was_written_late_expires_too(store: Store) -> None:
    await store.add_decisions([a_decision(created_at=time.time() - 4000)])
    assert await store.expire(older_than=3600) == 1
    late = a_decision(created_at=time.time() - 6000)
    await store.add_decisions([late])
    assert await store.expire(older_than=3600) == 1
    assert (await whole(store, late.decision_id)).status == "expired"


async def test_an_outcome_after_all_revives_an_expired_decision(store: Store) -> None:
    decision = a_decision(created_at=time.time() - 7200)
    await store.add_decisions([decision])
    await store.expire(older_than=3600)
    await store.record_outcomes([Outcome(decision_id=decision.decision_id, status="success")])
    assert (await whole(store, decision.decision_id)).status == "routed"


async def test_a_database_that_is_away_is_unavailable_and_comes_back(store: Store, away: Away) -> None:
    await store.ping()
    decision_id = ids.mint()
    with away(), pytest.raises(Unavailable) as failed:
        await store.rate(Rating(decision_id=decision_id, value=1.0))
    assert "\n" not in str(failed.value)
    assert (await store.rate(Rating(decision_id=decision_id, value=1.0))).status == "pending"
    await store.ping()


async def test_ping_misses_the_tables_of_an_empty_database(empty_url: str) -> None:
    store = Store(empty_url)
    with pytest.raises(Unavailable, match="decisions"):
        await store.ping()
    await store.close()


async def test_a_database_that_never_answers_is_unavailable_in_time(
    store: Store, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feedback.connected._DEADLINE_SECONDS", 0.2)
    started = time.monotonic()
    with pytest.raises(Unavailable, match=r"no answer within 0\.2 seconds"):
        await store._read(lambda _: time.sleep(0.5))
    assert time.monotonic() - started < 0.45


def a_calibration(**changes: Any) -> StoredCalibration:
    fields: dict[str, Any] = {
        "router": "mf",
        "version": "v1",
        "ladder": ("large", "small"),
        "sample": "made up",
        "lowest": b"\x00\x00\x80?",
    }
    return StoredCalibration(**fields | changes)


async def test_newest_calibration_of_a_version_and_ladder_counts(store: Store) -> None:
    assert await store.calibration("mf", "v1", ("large", "small")) is None
    older, newer = a_calibration(created_at=1.0), a_calibration(created_at=2.0, sample="traffic")
    others = [a_calibration(version="v2"), a_calibration(ladder=("small", "large")), a_calibration(router="sw")]
    for one in (newer, older, *others):
        await store.add_calibration(one)
    assert await store.calibration("mf", "v1", ("large", "small")) == newer
    assert await store.calibration("mf", "v2", ("large", "small")) == others[0]
