"""Evidence of a decision: from its record and the version that made it, and why there is none where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from feedback.explaining import Evidence, Explainer
from feedback.store import Store
from scorer.artifacts import ArtifactError
from scorer.decisions import Decision
from scorer.features import NAMES
from scorer.routers.base import Prompts, Router, Scores
from scorer.routers.grounds import Grounds, Neighbour, Part
from scorer.routers.random import Random
from tests.feedback.examples import a_decision

ENCODER = "e" * 64
LIKE = {"strong": "known", "cheap": "other"}


class Plain:
    """Says of each model how long its name is, and what it was given."""

    name, version = "mf", "2026-01-01"

    def __init__(self, *hashes: str) -> None:
        self.hashes = hashes
        self.asked: list[Prompts] = []

    def knows(self, model: str) -> bool:
        return model in LIKE.values()

    def score(self, prompts: Prompts, ladder: Sequence[str]) -> Scores:
        raise AssertionError("an explanation needs no scores")

    def explain(self, prompt: Prompts, ladder: Sequence[str]) -> list[Grounds]:
        self.asked.append(prompt)
        near = tuple(Neighbour(0.5, 0.5, 0.25, dict.fromkeys(ladder, 1.0), "exam", one) for one in self.hashes)
        parts = tuple(Part(f"part {number}", float(number)) for number in range(10))
        total = 45.0 + 0.25 * len(near)
        return [Grounds(model, "quality", total, parts, near) for model in ladder if self.knows(model)]


def decided(**changes: object) -> Decision:
    vectors = {"embedding": np.ones(3, "<f4").tobytes(), "features": np.arange(len(NAMES), dtype="<f4").tobytes()}
    return a_decision(**{"encoder_id": ENCODER, **vectors, **changes})


async def evidence(store: Store, decision: Decision, router: Router | None = None) -> Evidence:
    def find(name: str, version: str) -> Router:
        if router is None:
            raise ArtifactError(f"{name} {version} is gone")
        return router

    found: Evidence = (await Explainer(store, ENCODER, LIKE, find).explain(decision))["evidence"]
    return found


async def test_scores_are_of_the_ladders_names_and_sum_up(store: Store) -> None:
    router = Plain()
    found = await evidence(store, decided(), router)
    assert [score.model for score in found.scores] == ["strong", "cheap"]  # medium is nobody's name
    assert found.why_none is None
    for score in found.scores:
        assert len(score.parts) == 8
        assert sum(score.parts.values()) == score.total == 45.0
        assert score.score == 1 / (1 + math.exp(-45.0))
    np.testing.assert_array_equal(router.asked[0].embeddings, np.ones((1, 3)))
    np.testing.assert_array_equal(router.asked[0].features[0], np.arange(len(NAMES)))


async def test_neighbours_prompts_are_told_only_where_they_were_kept(store: Store) -> None:
    kept, not_kept = decided(text_hash="a" * 64, text="kept"), decided(text_hash="b" * 64, text=None)
    await store.add_decisions([kept, not_kept])
    found = await evidence(store, decided(), Plain("a" * 64, "b" * 64, "c" * 64, ""))
    near = found.scores[0].neighbours
    assert [one.text for one in near] == ["kept", None, None, None]
    assert [one.decision_id for one in near] == [kept.decision_id, not_kept.decision_id, None, None]
    told = ["kept", f"decision {not_kept.decision_id}", "a logged battle from exam", "a pretrained battle from exam"]
    assert [one.told for one in near] == told


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"embedding": None, "features": None, "encoder_id": None}, "nothing is kept of the prompt but its hash"),
        ({"encoder_id": "f" * 64}, "encoded by another encoder"),
        ({"features": b"1234"}, "measured by other features"),
        ({}, "mf 2026-01-01 is gone"),
    ],
)
async def test_where_there_are_no_grounds_it_says_why(store: Store, changes: dict[str, object], why: str) -> None:
    found = await evidence(store, decided(**changes))
    assert found.scores == []
    assert why in (found.why_none or "")


async def test_router_that_explains_nothing_says_so(store: Store) -> None:
    found = await evidence(store, decided(router="random"), Random())
    assert found.why_none == "random cannot say what its scores rest on"


async def test_it_is_plain_json(store: Store) -> None:
    found = msgspec.to_builtins(await evidence(store, decided(), Plain("")))
    assert found["scores"][0]["neighbours"][0] == {
        "similarity": 0.5,
        "share": 0.5,
        "value": 0.25,
        "won": {"known": 1.0, "medium": 1.0, "other": 1.0},
        "source": "exam",
        "text_hash": "",
        "decision_id": None,
        "text": None,
    }
