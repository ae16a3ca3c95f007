"""Rated prompts alike are found by cosine among those that count, and prompts by their hash."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from feedback.alike import Logged
from feedback.records import Outcome, Rating
from feedback.store import Store
from scorer.decisions import Decision
from tests.feedback.examples import a_decision, id_aged

ENCODER = "e" * 64


def at(degrees: float) -> NDArray[np.float32]:
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], "<f4")


def decided(degrees: float, age: float = 60.0, **changes: object) -> Decision:
    return a_decision(
        **{"decision_id": id_aged(age), "encoder_id": ENCODER, "embedding": at(degrees).tobytes(), **changes}
    )


async def rate(store: Store, decision: Decision, *values: float | None, source: str = "human") -> None:
    for person, value in enumerate(values):
        rated = Rating(decision_id=decision.decision_id, value=value, user=f"user {person}", source=source)
        await store.rate(rated)


async def test_nearest_come_first_with_cosine_rating_and_who_served(store: Store) -> None:
    far, near, kept_none = decided(60), decided(10, model="cheap"), decided(30, text=None)
    await store.add_decisions([far, near, kept_none])
    await store.record_outcomes([Outcome(decision_id=near.decision_id, status="success", served="strong")])
    await rate(store, far, 1.0)
    await rate(store, near, 1.0, 0.0)
    await rate(store, kept_none, 0.0)
    found = await store.rated_alike(ENCODER, at(0), "", 5)
    assert [one.decision_id for one in found] == [one.decision_id for one in (near, kept_none, far)]
    assert [one.similarity for one in found] == pytest.approx([np.cos(np.radians(a)) for a in (10, 30, 60)], abs=1e-6)
    assert [one.rating for one in found] == [0.5, 0.0, 1.0]
    assert [one.model for one in found] == ["strong", "cheap", "cheap"]
    assert [one.text for one in found] == ["what is 1 + 1?", None, "what is 1 + 1?"]
    assert await store.rated_alike(ENCODER, at(0), "", 1) == found[:1]
    assert await store.rated_alike(ENCODER, at(0), near.decision_id, 5) == found[1:]


async def test_what_people_did_not_rate_or_another_encoder_encoded_is_left_out(store: Store) -> None:
    silent, judged, retracted = (decided(degrees) for degrees in range(3))
    others = [
        decided(6, encoder_id="f" * 64),
        decided(7, embedding=at(7).tobytes() * 2),
        decided(8, encoder_id=None, embedding=None, features=None),
    ]
    await store.add_decisions([silent, judged, retracted, *others])
    await rate(store, judged, 1.0, source="judge")
    await rate(store, retracted, 1.0)
    await rate(store, retracted, None)
    for one in others:
        await rate(store, one, 1.0)
    assert await store.rated_alike(ENCODER, at(0), "", 5) == []


async def test_prompts_are_known_by_their_hash_from_the_newest_decision(store: Store) -> None:
    first, last = decided(0, 90, text_hash="a" * 64), decided(0, 30, text_hash="a" * 64, text=None)
    await store.add_decisions([first, last, decided(0, text_hash="b" * 64)])
    assert await store.known_prompts(["a" * 64, "c" * 64]) == {"a" * 64: Logged(last.decision_id, None)}
    assert await store.known_prompts([]) == {}
