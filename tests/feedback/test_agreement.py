from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from feedback import agreement
from feedback.agreement import DEFAULT_WEIGHT, Agreement, kappa, measure, reliability, weighed
from feedback.battles import Weights
from feedback.records import Comparison, Outcome, Rating
from feedback.store import Store
from gateway_plugin import ids
from tests.feedback.examples import a_decision

FLEISS = np.array([[75, 1, 4], [5, 4, 1], [0, 0, 10]])  # Statistical Methods for Rates and Proportions, table 18.1
EMPTY = np.zeros((2, 2), np.int64)


def test_kappa_is_the_textbooks() -> None:
    found = kappa(FLEISS)
    assert found.value == pytest.approx(0.68, abs=0.005)
    assert (found.high - found.low) / 2 / 1.96 == pytest.approx(0.087, abs=0.001)
    assert kappa(np.array([[20, 5], [10, 15]])).value == pytest.approx(0.4)


@given(st.lists(st.integers(0, 40), min_size=9, max_size=9))
def test_kappa_is_sklearns(counts: list[int]) -> None:
    table = np.array(counts).reshape(3, 3)
    judge, people = (np.repeat(axis.reshape(-1), table.reshape(-1)) for axis in np.indices((3, 3)))
    found = kappa(table)
    if math.isnan(found.value):
        assert table.sum() == 0 or len({*judge.tolist(), *people.tolist()}) == 1
        return
    assert found.value == pytest.approx(cohen_kappa_score(judge, people))
    assert found.low <= found.value <= found.high
    assert 0 <= reliability(table) <= 1


def test_the_interval_is_the_bootstraps() -> None:
    rng = np.random.default_rng(0)
    p = FLEISS.reshape(-1) / FLEISS.sum()
    drawn = [kappa(rng.multinomial(300, p).reshape(3, 3)).value for _ in range(2000)]
    found = kappa(3 * FLEISS)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert [found.low, found.high] == pytest.approx([low, high], abs=0.015)


def test_raters_who_draw_the_line_elsewhere_are_reliable_and_those_who_guess_are_not() -> None:
    nested = np.array([[100, 60], [0, 40]])  # whatever wins is good, and much that is good does not win
    assert kappa(nested).value < 0.5
    assert reliability(nested) == pytest.approx(1)
    rng = np.random.default_rng(1)
    guessed = rng.multinomial(20_000, np.outer([0.3, 0.7], [0.6, 0.4]).reshape(-1)).reshape(2, 2)
    assert reliability(guessed) < 0.05
    assert reliability(np.array([[0, 50], [50, 0]])) == 0


def test_a_judge_that_is_right_at_the_rate_p_and_else_guesses_by_the_margins_weighs_p() -> None:
    margins, p = np.array([0.45, 0.2, 0.35]), 0.6
    table = p * np.diag(margins) + (1 - p) * np.outer(margins, margins)
    assert reliability(np.round(table * 1e6).astype(np.int64)) == pytest.approx(p, abs=1e-4)


def test_the_weight_is_by_pairs_then_by_answers_then_the_default() -> None:
    pairs, answers = FLEISS, np.array([[60, 0], [0, 60]])
    assert Agreement(pairs, answers).weight == reliability(pairs)
    assert Agreement(pairs // 2, answers).weight == 1
    assert Agreement(pairs // 2, answers // 2).weight == DEFAULT_WEIGHT
    assert Agreement(np.zeros((3, 3), np.int64), EMPTY).weight == DEFAULT_WEIGHT
    assert "kappa 0.68" in Agreement(pairs, answers).text


async def _decided(store: Store, prompt: str, model: str, thumb: float | None, kind: str = "thumb") -> str:
    decision_id = ids.mint()
    await store.add_decisions([a_decision(decision_id=decision_id, text_hash=prompt, model=model)])
    await store.record_outcomes([Outcome(decision_id=decision_id, status="success", served=model)])
    if thumb is not None:
        await store.rate(Rating(decision_id=decision_id, value=thumb, kind=kind))  # type: ignore[arg-type]
    return decision_id


async def _judged(store: Store, decision_id: str, winner: str, source: str = "judge") -> None:
    one = Comparison(model_a="cheap", model_b="strong", winner=winner, decision_id=decision_id, source=source)  # type: ignore[arg-type]
    await store.compare(one)


async def test_the_same_prompts_of_the_log_are_set_side_by_side(store: Store) -> None:
    both_up = await _decided(store, "p1", "cheap", 1.0)
    await _decided(store, "p1", "strong", 1.0)
    await _judged(store, both_up, "model_b")  # people: a tie
    strong_up = await _decided(store, "p2", "cheap", 0.0)
    await _decided(store, "p2", "strong", 1.0)
    await _judged(store, strong_up, "model_b")  # people: strong, too
    compared = await _decided(store, "p3", "cheap", None)
    other = Comparison(model_a="strong", model_b="cheap", winner="model_b", decision_id=compared)
    await store.compare(other)  # people: cheap
    await _judged(store, compared, "tie")
    alone = await _decided(store, "p4", "cheap", 1.0)
    await _judged(store, alone, "model_a")  # a thumb on one of the models only
    stars = await _decided(store, "p5", "cheap", 0.25, kind="stars")
    await _judged(store, stars, "model_a")  # stars are no thumbs
    found = await measure(store)
    assert found.pairs.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 1]]
    assert found.answers.tolist() == [[1, 1], [0, 1]]


async def test_a_retracted_or_superseded_thumb_does_not_count(store: Store) -> None:
    decision_id = await _decided(store, "p1", "cheap", 1.0)
    await store.rate(Rating(decision_id=decision_id, value=None))
    await _judged(store, decision_id, "model_a")
    assert (await measure(store)).answers.sum() == 0


async def test_a_configured_weight_is_kept_and_a_measured_one_fills_in(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "LEAST", 2)
    for prompt, thumb, winner in (("p1", 1.0, "model_a"), ("p2", 0.0, "model_b"), ("p3", 0.0, "model_b")):
        await _judged(store, await _decided(store, prompt, "cheap", thumb), winner)
    assert (await weighed(store, Weights(sources={"judge": 0.2}))).sources == {"judge": 0.2}
    weights = await weighed(store, Weights(sources={"human": 0.9}, half_life_days=7.0))
    assert weights.sources == {"human": 0.9, "judge": 1.0}
    assert weights.half_life_days == 7.0
