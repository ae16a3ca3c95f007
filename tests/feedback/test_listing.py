"""Lists of decisions: complete, in order, and filtered as one would filter the records themselves."""

from __future__ import annotations

import time

import pytest

from feedback.listing import Line, Wanted
from feedback.records import Outcome, Rating, Record
from feedback.store import Store
from gateway_plugin import ids
from tests.feedback.examples import a_decision, id_aged

EVERYTHING = Wanted()


async def fill(store: Store) -> None:
    """One of each status, and of each rating."""
    made: list[dict[str, object]] = [
        {},
        {"model": "strong", "router": "sw", "user": "bob"},
        {"mode": "observe", "model": "strong"},
        {"model": "medium"},
        {},
    ]
    said: list[list[float | None]] = [[1.0], [0.0], [], [1.0, 0.0, 0.5], [None]]
    for ago, changes in enumerate(made):
        decision = a_decision(**{"decision_id": id_aged(ago + 10), **changes})
        await store.add_decisions([decision])
        served = "strong" if ago == 4 else decision.model
        await store.record_outcomes([seen(decision.decision_id, served=served, cost=0.001 * ago)])
        for user, value in enumerate(said[ago]):
            await store.rate(Rating(decision_id=decision.decision_id, value=value, user=str(user)))
    old = a_decision(decision_id=id_aged(9000), created_at=time.time() - 9000)
    late = a_decision(decision_id=id_aged(8000), created_at=time.time() - 8000)  # the gateway had fallen back by then
    await store.add_decisions([old, late])
    await store.record_outcomes([seen(late.decision_id, status="fallback", served="strong")])
    await store.expire(7000)
    fallback, lost = id_aged(40), id_aged(50)
    await store.record_outcomes([seen(fallback, status="fallback", served="strong", user="eve"), seen(lost)])
    await store.rate(Rating(decision_id=fallback, value=0.0))
    await store.rate(Rating(decision_id=fallback, value=1.0, source="judge"))


def seen(decision_id: str, **said: object) -> Outcome:
    return Outcome(**{"decision_id": decision_id, "status": "success", "served": "cheap", **said})  # type: ignore[arg-type]


async def records(store: Store) -> dict[str, Record]:
    """All of them, read another way."""
    return {record.decision_id: record async for page in store.logged() for record in page}


async def test_every_decision_is_listed_newest_first_as_its_record_has_it(store: Store) -> None:
    await fill(store)
    lines, known = await store.listing(EVERYTHING, 100), await records(store)
    assert [line.decision_id for line in lines] == sorted(known, reverse=True)
    assert {line.status for line in lines} == {"routed", "observe", "fallback", "expired", "lost"}
    for line in lines:
        record = known[line.decision_id]
        decision, outcome = record.decision, record.outcome
        assert line.status == record.status
        assert line.model == (decision.model if decision else outcome and outcome.chosen)
        assert line.served == (outcome and outcome.served)
        assert line.cost == (outcome and outcome.cost)
        assert line.win_rates == (decision and decision.win_rates)
        assert line.rating == opinion(record)
        assert line.made_at == ids.minted_at(line.decision_id)


def opinion(record: Record) -> float | None:
    said = [one.value for one in record.ratings if one.source == "human" and one.value is not None]
    return sum(said) / len(said) if said else None


def of_model(line: Line, model: str) -> bool:
    return model in (line.model, line.served)


@pytest.mark.parametrize("status", ["routed", "observe", "fallback", "expired", "lost"])
async def test_filter_by_status(store: Store, status: str) -> None:
    await fill(store)
    everything = await store.listing(EVERYTHING, 100)
    found = await store.listing(Wanted(status=status), 100)  # type: ignore[arg-type]
    assert found == [line for line in everything if line.status == status]
    assert found


@pytest.mark.parametrize("rated", ["up", "down", "rated", "unrated"])
async def test_filter_by_rating_asks_whether_anyone_said_so(store: Store, rated: str) -> None:
    await fill(store)
    known = await records(store)
    said = {one: [r.value for r in known[one].ratings if r.source == "human" and r.value is not None] for one in known}
    wanted = {
        "up": [one for one in known if any(value > 0.5 for value in said[one])],
        "down": [one for one in known if any(value < 0.5 for value in said[one])],
        "rated": [one for one in known if said[one]],
        "unrated": [one for one in known if not said[one]],
    }[rated]
    found = await store.listing(Wanted(rated=rated), 100)  # type: ignore[arg-type]
    assert [line.decision_id for line in found] == sorted(wanted, reverse=True)
    assert found


async def test_filters_by_model_router_user_and_time_hold_together(store: Store) -> None:
    await fill(store)
    everything = await store.listing(EVERYTHING, 100)
    strong = await store.listing(Wanted(model="strong"), 100)
    assert strong == [line for line in everything if of_model(line, "strong")]
    assert len(strong) == 5
    assert [line.router for line in await store.listing(Wanted(router="sw"), 100)] == ["sw"]
    assert [line.user for line in await store.listing(Wanted(user="eve"), 100)] == ["eve"]
    recent = await store.listing(Wanted(after=time.time() - 3600), 100)
    assert recent == [line for line in everything if line.made_at >= time.time() - 3600]
    assert await store.listing(Wanted(model="strong", router="sw", user="bob", rated="down"), 100) == [everything[1]]
    assert await store.listing(Wanted(model="strong", router="sw", user="ann"), 100) == []


async def test_pages_have_everything_once(store: Store) -> None:
    await fill(store)
    everything = await store.listing(EVERYTHING, 100)
    paged: list[Line] = []
    while page := await store.listing(Wanted(before=paged[-1].decision_id) if paged else EVERYTHING, 2):
        assert len(page) <= 2
        paged += page
    assert paged == everything


async def test_part_of_the_log_is_random_and_always_the_same(store: Store) -> None:
    made = [a_decision() for _ in range(400)]
    await store.add_decisions(made)
    first = [one.decision_id async for page in store.logged(part=0.25) for one in page]
    again = [one.decision_id async for page in store.logged(part=0.25, page=7) for one in page]
    assert first == again
    assert abs(len(first) - 100) < 4 * (400 * 0.25 * 0.75) ** 0.5
    assert set(first) <= {one.decision_id for one in made}


async def test_anything_notices_a_fallback(store: Store) -> None:
    assert not await store.anything()
    await store.record_outcomes([seen(ids.mint(), status="fallback")])
    assert await store.anything()
