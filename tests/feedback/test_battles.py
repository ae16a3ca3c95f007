"""Ratings and comparisons become battles of whom they are about, with the weights they should have."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback import battles
from feedback.battles import Evidence, Gathering, Weights
from feedback.records import Comparison, Rating, Record, ReportedOutcome
from scorer.battles import BAR
from scorer.features import NAMES
from tests.feedback.examples import a_decision

ENCODER = "f" * 64
NOW = 1_000_000_000.0
DAY = 86_400.0


def vector(seed: int, size: int) -> bytes:
    return np.random.default_rng(seed).normal(size=size).astype("<f4").tobytes()


def kept(prompt: int, **changes: Any) -> dict[str, Any]:
    """What is kept of a prompt by its number."""
    vectors = {"embedding": vector(prompt, 4), "features": vector(prompt, len(NAMES))}
    return {"text_hash": f"{prompt:064}", "encoder_id": ENCODER, **vectors, **changes}


def a_record(prompt: int = 0, value: float | None = 1.0, served: str | None = "cheap", **changes: Any) -> Record:
    """A rated decision for `cheap` at propensity 0.95, made just now."""
    rating = {"source": "human", "user": "", "created_at": NOW, **changes.pop("rating", {})}
    decision = a_decision(created_at=NOW, **kept(prompt, **changes.pop("kept", {})), **changes.pop("decision", {}))
    outcome = ReportedOutcome(
        decision_id=decision.decision_id, status="success", served=served, reported_at=NOW, **changes.pop("outcome", {})
    )
    ratings = [Rating(decision_id=decision.decision_id, value=value, **rating)]
    return Record(
        decision_id=decision.decision_id, decision=decision, expired=False, outcome=outcome, ratings=ratings, **changes
    )


def gathered(*records: Record, comparisons: tuple[Comparison, ...] = (), weights: Weights | None = None) -> Evidence:
    gathering = Gathering(ENCODER, weights or Weights(), NOW)
    gathering.add_ratings(records)
    gathering.add_comparisons(comparisons)
    return gathering.evidence


def test_a_thumb_is_a_battle_of_the_served_model_against_the_bar() -> None:
    evidence = gathered(a_record(0, 1.0), a_record(1, 0.25, served="medium"))
    battles = evidence.battles
    assert battles.model_a.tolist() == ["cheap", "medium"]
    assert battles.model_b.tolist() == [BAR, BAR]
    assert battles.outcome.tolist() == [1.0, 0.25]
    assert evidence.propensity.tolist() == [0.95, 1.0]  # medium answered as a fallback: nobody drew it


def test_a_comparison_is_a_battle_of_its_models() -> None:
    comparisons = tuple(
        Comparison(model_a="strong", model_b="cheap", created_at=NOW, **kept(i, winner=winner))
        for i, winner in enumerate(("model_a", "model_b", "tie"))
    )
    battles = gathered(comparisons=comparisons).battles
    assert battles.model_a.tolist() == ["strong"] * 3
    assert battles.model_b.tolist() == ["cheap"] * 3
    assert battles.outcome.tolist() == [1.0, 0.0, 0.5]


def test_vectors_come_from_the_log_and_a_repeated_prompt_has_one_row() -> None:
    evidence = gathered(a_record(3), a_record(5), a_record(3, 0.0))
    assert evidence.battles.prompt.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(evidence.prompts.embeddings[1], np.frombuffer(vector(5, 4), "<f4"))
    np.testing.assert_array_equal(evidence.prompts.features[0], np.frombuffer(vector(3, len(NAMES)), "<f4"))


def test_recency_weights_by_hand() -> None:
    """Half after 30 days, a quarter after 60, 2^(-1/3) after 10."""
    records = [a_record(i, rating={"created_at": NOW - age * DAY}) for i, age in enumerate((0, 10, 30, 60))]
    weights = gathered(*records, weights=Weights(half_life_days=30)).battles.weight
    np.testing.assert_allclose(weights, [1, 0.7937005259841, 0.5, 0.25], rtol=1e-12)
    assert gathered(*records).battles.weight.tolist() == [1, 1, 1, 1]


def test_sources_weigh_what_they_are_given() -> None:
    records = [a_record(0), a_record(1, rating={"source": "judge"}), a_record(2, rating={"source": "nobody"})]
    evidence = gathered(*records, weights=Weights(sources={"judge": 0.3, "nobody": 0.0}))
    assert evidence.battles.weight.tolist() == [1.0, 0.3]
    assert evidence.battles.source.tolist() == ["human", "judge"]
    assert evidence.dropped == {"counts nothing": 1}


def test_signals_are_weaker_losses_of_the_model_that_served() -> None:
    record = a_record(value=None, regenerated=True)
    evidence = gathered(record, weights=Weights(signals={"regenerated": 0.2}))
    battles = evidence.battles
    assert (battles.model_a.tolist(), battles.outcome.tolist(), battles.weight.tolist()) == (["cheap"], [0.0], [0.2])
    assert evidence.dropped == {"retracted": 1}
    assert len(gathered(record)) == 0


def test_nobody_outvotes_the_rest_but_the_anonymous_are_many() -> None:
    """Five people, ann with ten ratings, the others one in a session each: c = 2 (4 + c) / 5, so c = 8 / 3."""
    loud = [a_record(i, rating={"user": "ann"}) for i in range(10)]
    named = [a_record(20, rating={"user": "bob"})]
    anonymous = [a_record(21 + i, decision={"unit": f"session-{i}"}) for i in range(3)]
    weights = gathered(*loud, *named, *anonymous, weights=Weights(most_per_user=2)).battles.weight
    np.testing.assert_allclose(weights, [8 / 30] * 10 + [1] * 4)


def test_one_percent_of_the_users_with_half_of_the_ratings_hold_five_percent() -> None:
    """Ten of a thousand users, each with 99 ratings where the others have one."""
    users = np.array([f"loud {i}" for i in range(10)] * 99 + [f"user {i}" for i in range(990)])
    weights = battles.capped(np.ones(len(users)), users, most=5)
    assert weights[:990].sum() / weights.sum() == pytest.approx(0.05)
    np.testing.assert_allclose(weights[990:], 1)


@given(st.lists(st.floats(0.01, 1000), min_size=1, max_size=40), st.floats(1, 20))
def test_a_cap_holds_and_binds_on_nobody_below_it(totals: list[float], most: float) -> None:
    people, before = np.array([f"{i}" for i in range(len(totals))]), np.array(totals)
    after = battles.capped(before, people, most)
    limit = most * after.sum() / len(people)
    assert (after <= limit * (1 + 1e-9)).all()
    np.testing.assert_allclose(after, np.minimum(before, max(limit, after.max())))


def test_raters_are_counted_by_what_they_hold_and_judges_are_none() -> None:
    """Weights 4, 1, 1: 36 / 18 = 2 people."""
    said = [a_record(i, rating={"user": user}) for i, user in enumerate(["ann"] * 4 + ["bob", "eve"])]
    gathering = Gathering(ENCODER, Weights(), NOW)
    gathering.add_ratings(said)
    assert gathering.raters == pytest.approx(2)
    gathering.add_ratings([a_record(10 + i, rating={"source": "judge"}) for i in range(50)])
    assert gathering.raters == pytest.approx(2)
    assert Gathering(ENCODER, Weights(), NOW).raters == math.inf


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kept": {"encoder_id": "e" * 64}}, "encoded by another encoder"),
        ({"kept": {"embedding": None}}, "no vectors kept of the prompt"),
        ({"kept": {"features": b"1234"}}, "measured by other features"),
        ({"served": None}, "nobody is known to have served it"),
        ({"value": None}, "retracted"),
    ],
)
def test_what_cannot_be_learned_from_is_dropped_and_counted(changes: dict[str, Any], reason: str) -> None:
    evidence = gathered(a_record(1), a_record(2, **changes))
    assert len(evidence) == 1
    assert evidence.dropped == {reason: 1}


def test_no_feedback_is_empty_evidence() -> None:
    evidence = gathered()
    assert (len(evidence), len(evidence.prompts)) == (0, 0)
