"""Three parts of what was said: nobody is in two, and the golden one stays what it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from feedback import golden
from feedback.battles import Evidence, Weights
from feedback.golden import Material, Parts
from feedback.records import Comparison, Outcome, Rating
from feedback.store import Store
from scorer.features import NAMES
from tests.feedback.examples import a_decision, id_aged

ENCODER = "f" * 64
WEIGHTS = Weights(signals={"length": 0.1}, half_life_days=0.01)
START = 50_000.0  # seconds ago


def vectors(number: int) -> dict[str, Any]:
    generator = np.random.default_rng(number)
    embedding, features = (generator.normal(size=size).astype("<f4").tobytes() for size in (4, len(NAMES)))
    return {"text_hash": f"{number:064}", "embedding": embedding, "features": features}


async def said(store: Store, numbers: Sequence[int], *, judged: bool = False, per_session: int = 1) -> None:
    """Ratings of decisions, one a second, every one of which may be judged as well."""
    made = [
        a_decision(
            decision_id=id_aged(START - number),
            created_at=time.time() - START + number,
            unit=f"unit {number // per_session}",
            **vectors(number),
        )
        for number in numbers
    ]
    await store.add_decisions(made)
    await store.record_outcomes(
        [Outcome(decision_id=one.decision_id, status="success", served="cheap", finish_reason="length") for one in made]
    )
    ratings = [Rating(decision_id=one.decision_id, value=float(i % 2)) for i, one in enumerate(made)]
    compared = [
        Comparison(
            model_a="strong",
            model_b="cheap",
            winner="model_a",
            decision_id=one.decision_id,
            source="judge",
            created_at=one.created_at,
        )
        for one in made
        if judged
    ]
    await store.take(ratings, compared)


async def parted(store: Store, parts: Parts) -> Material:
    return await golden.gather(store, ENCODER, WEIGHTS, parts, time.time())


def units(evidence: Evidence) -> set[str]:
    return set(evidence.session.tolist())


async def test_the_parts_are_apart_and_each_is_as_large_as_it_should_be(store: Store) -> None:
    await said(store, range(400))
    parts = Parts(golden=0.25, most=1000, newest=0.2)
    found = await parted(store, parts)
    assert len(found.newest) == 80
    assert units(found.newest) == {f"unit {number}" for number in range(320, 400)}
    drawn = {f"unit {number}" for number in range(320) if parts.draws(f"unit {number}")}
    assert 50 < len(drawn) < 110  # a quarter of 320
    assert units(found.golden) == drawn & {f"unit {number}" for number in range(200)}  # of the older half
    assert units(found.training) == {f"unit {number}" for number in range(320)} - drawn


async def test_what_people_said_is_golden_at_any_age_and_signals_are_not(store: Store) -> None:
    await said(store, range(100))
    found = await parted(store, Parts(golden=0.5))
    assert set(found.training.battles.source.tolist()) == {"human", "length"}
    assert found.training.battles.weight.max() < 1
    assert set(found.golden.battles.source.tolist()) == {"human"}
    np.testing.assert_array_equal(found.golden.battles.weight, 1)


async def test_a_golden_set_grows_until_it_is_full_and_then_stays(store: Store) -> None:
    parts = Parts(golden=0.8, most=60, newest=0.1)
    await said(store, range(100))
    first = await parted(store, parts)
    await said(store, range(100, 200))
    full = await parted(store, parts)
    await said(store, range(200, 300))
    later = await parted(store, parts)
    assert len(first.golden) < 60
    assert units(first.golden) < units(full.golden)
    assert len(full.golden) == len(later.golden) == 60
    assert units(later.golden) == units(full.golden)
    np.testing.assert_array_equal(later.golden.battles.outcome, full.golden.battles.outcome)
    assert not units(full.training) & units(full.golden)
    assert not units(later.training) & units(later.golden)
    without_room = {f"unit {number}" for number in range(270) if parts.draws(f"unit {number}")} - units(later.golden)
    assert without_room < units(later.training)  # they are learned from like others


async def test_a_verdict_on_what_was_learned_from_is_not_golden(store: Store) -> None:
    """There is room for comparisons when there is none for ratings."""
    await said(store, range(200), judged=True, per_session=7)
    found = await parted(store, Parts(golden=0.8, most=30, newest=0.1))
    assert (found.golden.battles.source == "human").sum() == 30
    assert (found.golden.battles.source == "judge").sum() == 30
    assert not units(found.training) & units(found.golden)


async def test_verdicts_go_with_the_sessions_of_their_decisions(store: Store) -> None:
    await said(store, range(100), judged=True, per_session=4)
    parts = Parts(golden=0.3, newest=0.2)
    found = await parted(store, parts)
    judged = found.golden.battles.source == "judge"
    assert 0 < judged.sum() < len(judged)
    for evidence, golden_one in ((found.golden, True), (found.training, False)):
        assert {parts.draws(unit) for unit in units(evidence)} == {golden_one}
        assert {"human", "judge"} <= set(evidence.battles.source.tolist())
    assert not units(found.golden) & units(found.training)


async def test_a_session_that_was_learned_from_has_no_veto(store: Store) -> None:
    await said(store, range(100), per_session=8)  # decision 80 begins the newest slice in a session of its own
    found = await parted(store, Parts(golden=0.3, newest=0.22))  # from 78 on: session 9 began at 72
    assert "unit 9" not in units(found.newest) or "unit 9" not in units(found.training)
    assert units(found.newest) & units(found.training) == set()


async def test_comparisons_alone_are_parted_by_their_prompts(store: Store) -> None:
    now = time.time()
    compared = [
        Comparison(
            model_a="strong",
            model_b="cheap",
            winner="tie",
            encoder_id=ENCODER,
            created_at=now - 1000 + number,
            **vectors(number // 2),
        )
        for number in range(200)
    ]
    await store.take([], compared)
    parts = Parts(golden=0.3, newest=0.2)
    found = await parted(store, parts)
    drawn = sum(parts.draws(f"{number // 2:064}") for number in range(160))
    assert len(found.training) == 160 - drawn
    assert 0 < len(found.golden) < drawn
    assert len(found.newest) == 40
    assert {parts.draws(unit) for unit in units(found.golden)} == {True}
    assert found.said.comparisons == 200


async def test_nothing_said_is_three_empty_parts(store: Store) -> None:
    found = await parted(store, Parts())
    assert [len(part) for part in (found.training, found.golden, found.newest)] == [0, 0, 0]
    assert found.said == golden.Said(0, 0, 0.0, 0.0)


async def test_what_was_said_tells_what_is_new(store: Store) -> None:
    await said(store, range(20), judged=True)
    first = (await parted(store, Parts())).said
    assert (first.ratings, first.comparisons) == (20, 20)
    assert first == (await parted(store, Parts())).said
    assert 0 < first.judged < first.newest
    await store.rate(Rating(decision_id=id_aged(START), value=None), known=True)
    assert (await parted(store, Parts())).said.newest > first.newest
