"""The judge against closed forms: consistency, cost, and what becomes of failures."""

import time
from typing import Any

import msgspec
import pytest

from feedback import judgements
from feedback.battles import Gathering, Weights
from feedback.chat import MARK
from feedback.judge import Judge
from feedback.migrations import migrate
from feedback.records import Message, Sample, SampledOutcome
from feedback.store import Store
from feedback.verdicts import share
from gateway_plugin import ids
from scorer.features import NAMES
from tests.conftest import Serve
from tests.feedback.examples import a_decision, execute, rows
from tests.feedback.judging import (
    CHEAP,
    JUDGE,
    PRICES,
    STRONG,
    Endpoint,
    a_judge,
    comparisons,
    make_due,
    outcomes,
    settings,
    take,
)


@pytest.mark.parametrize(("bias", "tied", "count"), [(0.0, 0.0, 20), (0.3, 0.0, 60), (0.25, 0.4, 60)])
async def test_self_consistency_and_ties_match_a_known_position_bias(
    tmp_path: Any, serve: Serve, bias: float, tied: float, count: int
) -> None:
    """Closed form: with a true winner only the order with the loser in front can go wrong, so both agree with
    probability 1 - p; with a true tie both must be unbiased, (1 - p)^2. Every disagreement is a tie."""
    url, endpoint = f"sqlite:///{tmp_path}/one.sqlite", Endpoint(bias, tied)
    migrate(url)
    store = Store(url)
    judge = a_judge(store, serve(endpoint.app))
    await take(judge, store, outcomes(endpoint, count))
    await judge.work()
    found = await store.judging()
    assert (found.judged, found.waiting) == (count, 0)
    consistent = (1 - tied) * (1 - bias) + tied * (1 - bias) ** 2
    ties = tied + (1 - tied) * bias
    agreeing, as_ties = share(found.agreeing, count), share(found.ties, count)
    assert agreeing.low <= consistent <= agreeing.high
    assert as_ties.low <= ties <= as_ties.high
    if not bias:
        assert agreeing.value == 1
    winners = [one.winner for one in await comparisons(store)]
    assert winners.count("tie") == found.ties
    for model, calls in ((STRONG, count), (JUDGE, 2 * count), (CHEAP, 0)):
        assert endpoint.asked[model] == calls
    assert endpoint.users == {MARK}
    await judge.close()
    await store.close()


async def test_a_verdict_becomes_a_comparison_that_is_learned_from(
    store: Store, store_url: str, judge: Judge, endpoint: Endpoint
) -> None:
    sampled = outcomes(endpoint, 12)
    vectors = {"embedding": b"\0" * 16, "features": b"\0" * 4 * len(NAMES), "encoder_id": "e"}
    made = [a_decision(decision_id=one.decision_id, text_hash=f"{n}", **vectors) for n, one in enumerate(sampled)]
    await store.add_decisions(made)
    await take(judge, store, sampled)
    await judge.work()
    compared = await comparisons(store)
    truth = {}
    for one in sampled:
        assert one.sample is not None
        question = [{"role": "user", "content": one.sample.messages[0].content}]
        better = endpoint.answer(CHEAP, question) > endpoint.answer(STRONG, question)
        truth[one.decision_id] = "model_a" if better else "model_b"
    assert {one.decision_id: one.winner for one in compared} == truth
    assert {(one.model_a, one.model_b, one.source, one.user) for one in compared} == {(CHEAP, STRONG, "judge", "")}
    gathering = Gathering("e", Weights(sources={"judge": 0.25}), time.time())
    gathering.add_comparisons(compared)
    battles = gathering.evidence.battles
    assert len(battles) == 12
    assert battles.weight.tolist() == pytest.approx([0.25] * 12)
    assert battles.outcome.sum() == list(truth.values()).count("model_a")


async def test_texts_go_once_they_are_judged(store_url: str, store: Store, judge: Judge, endpoint: Endpoint) -> None:
    await take(judge, store, outcomes(endpoint, 2))
    texts = "SELECT count(messages), count(answer_a), count(answer_b) FROM judgements"
    assert rows(store_url, texts) == [(2, 2, 0)]
    await judge.work()
    assert rows(store_url, texts) == [(0, 0, 0)]
    assert rows(store_url, "SELECT DISTINCT status, claim FROM judgements") == [("judged", None)]
    assert rows(store_url, "SELECT count(text) FROM comparisons") == [(0,)]


async def test_the_second_model_sees_the_conversation_and_the_judge_both_answers(
    store: Store, judge: Judge, endpoint: Endpoint
) -> None:
    messages = [
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Yes?"),
        Message("user", "1+1"),
    ]
    sample = Sample(messages, "0.5 two")
    await take(judge, store, [SampledOutcome(decision_id=ids.mint(), status="success", served=CHEAP, sample=sample)])
    await judge.work()
    answered, *judged = endpoint.bodies
    assert answered["messages"] == [msgspec.to_builtins(message) for message in messages]
    assert (answered["model"], answered["max_tokens"]) == (STRONG, 2048)
    forward, backward = (body["messages"][-1]["content"] for body in judged)
    assert forward.index("0.5 two") < forward.index("says strong")
    assert backward.index("0.5 two") > backward.index("says strong")
    assert "system: Be brief." in forward


async def test_the_daily_cap_holds_and_the_rest_waits_for_midnight(
    store: Store, store_url: str, endpoint: Endpoint, serve: Serve
) -> None:
    cap = 0.06
    judge = a_judge(store, serve(endpoint.app), daily_dollars=cap)
    await take(judge, store, outcomes(endpoint, 30))
    await judge.work()
    first = await store.judging()
    assert 0 < first.judged < 30
    assert cap / 2 < first.spent <= cap
    due = rows(store_url, "SELECT due_at, attempts, claim FROM judgements WHERE finished_at IS NULL")
    assert {(float(at) % 86_400, attempts, claim) for at, attempts, claim in due} == {(0.0, 0, None)}
    assert all(0 < float(at) - time.time() <= 86_400 for at, *_ in due)
    make_due(store_url)
    await judge.work()
    paid = sum(calls * (100 * PRICES[m][0] + 50 * PRICES[m][1]) / 1e6 for m, calls in endpoint.asked.items())
    assert (await store.judging()).spent == pytest.approx(paid), "as the endpoint counts"
    assert paid <= cap
    execute(store_url, "UPDATE judge_calls SET started_at = started_at - 86400")  # a day later
    make_due(store_url)
    await judge.work()
    second = await store.judging()
    assert second.judged > first.judged
    assert second.spent <= cap
    await judge.close()


async def test_a_call_is_booked_at_its_most_and_then_at_its_usage(
    store_url: str, store: Store, judge: Judge, endpoint: Endpoint
) -> None:
    await take(judge, store, outcomes(endpoint, 1))
    await judge.work()
    paid = dict(rows(store_url, "SELECT DISTINCT model, cost FROM judge_calls"))
    expected = {model: (100 * PRICES[model][0] + 50 * PRICES[model][1]) / 1e6 for model in (STRONG, JUDGE)}
    assert paid == pytest.approx(expected)
    assert (await judge._store.judging()).spent == pytest.approx(expected[STRONG] + 2 * expected[JUDGE])
    most = rows(store_url, f"SELECT estimate FROM judge_calls WHERE model = '{STRONG}'")[0][0]
    assert most == pytest.approx(((len("question 0") + 16) * PRICES[STRONG][0] + 2048 * PRICES[STRONG][1]) / 1e6)


@pytest.mark.parametrize(("usage", "status", "counted"), [(None, 200, "estimate"), ((9, 9), 503, "nothing")])
async def test_what_a_call_without_usage_counts(
    store: Store, store_url: str, judge: Judge, endpoint: Endpoint, usage: Any, status: int, counted: str
) -> None:
    endpoint.usage, endpoint.failures = usage, 1 if status != 200 else 0
    await take(judge, store, outcomes(endpoint, 1))
    await judge.work()
    estimates = rows(store_url, "SELECT sum(estimate) FROM judge_calls")[0][0]
    assert (await store.judging()).spent == (pytest.approx(estimates) if counted == "estimate" else 0)


async def test_failures_are_retried_later_and_what_was_paid_for_is_kept(
    store: Store, store_url: str, judge: Judge, endpoint: Endpoint
) -> None:
    await take(judge, store, outcomes(endpoint, 1))
    endpoint.verdict = "no idea"
    await judge.work()
    assert endpoint.asked == {STRONG: 1, JUDGE: 1}
    ((due, attempts),) = rows(store_url, "SELECT due_at, attempts FROM judgements")
    assert due - time.time() == pytest.approx(60, abs=5)
    await judge.work()
    assert sum(endpoint.asked.values()) == 2, "it is not due yet"
    endpoint.verdict, endpoint.failures = None, 1
    make_due(store_url)
    await judge.work()
    ((due, attempts),) = rows(store_url, "SELECT due_at, attempts FROM judgements")
    assert (attempts, due - time.time()) == (2, pytest.approx(240, abs=5))
    make_due(store_url)
    await judge.work()
    assert endpoint.asked == {STRONG: 1, JUDGE: 4}
    assert (await store.judging()).judged == 1


@pytest.mark.parametrize(("status", "tries"), [(500, judgements.ATTEMPTS), (429, judgements.ATTEMPTS), (400, 1)])
async def test_attempts_are_bounded_and_what_is_refused_for_good_is_not_tried_again(
    store: Store, store_url: str, judge: Judge, endpoint: Endpoint, status: int, tries: int
) -> None:
    endpoint.failures, endpoint.status = 10**6, status
    await take(judge, store, outcomes(endpoint, 1))
    for _ in range(judgements.ATTEMPTS + 2):
        await judge.work()
        make_due(store_url)
    assert sum(endpoint.asked.values()) == tries
    assert rows(store_url, "SELECT status, messages, answer_a FROM judgements") == [("failed", None, None)]
    found = await store.judging()
    assert (found.given_up, found.waiting, found.judged) == (1, 0, 0)


async def test_an_endpoint_that_is_away_or_too_slow_costs_no_more_than_its_timeout(
    store: Store, store_url: str, endpoint: Endpoint, serve: Serve
) -> None:
    endpoint.seconds = 1
    slow = a_judge(store, serve(endpoint.app), timeout_seconds=0.2)
    away = Judge(store, settings("http://127.0.0.1:9", timeout_seconds=1.0), (STRONG, CHEAP), "embedding")
    for judge in (slow, away):
        await take(judge, store, outcomes(endpoint, 1))
        began = time.monotonic()
        await judge.work()
        assert time.monotonic() - began < 3
        await judge.close()
    booked = rows(store_url, "SELECT cost FROM judge_calls ORDER BY started_at")
    assert booked == [(None,), (0.0,)], "a timeout may have been paid for, a refused connection was not"


async def test_an_answer_of_another_model_than_asked_is_no_answer(
    store_url: str, store: Store, judge: Judge, endpoint: Endpoint
) -> None:
    endpoint.headers = {"x-litellm-attempted-fallbacks": "1"}
    await take(judge, store, outcomes(endpoint, 1))
    await judge.work()
    assert rows(store_url, "SELECT status, answer_b, attempts FROM judgements") == [("waiting", None, 1)]


async def test_a_second_answer_that_is_cut_short_is_not_judged(
    store_url: str, store: Store, judge: Judge, endpoint: Endpoint
) -> None:
    endpoint.end = "length"
    await take(judge, store, outcomes(endpoint, 1))
    await judge.work()
    assert rows(store_url, "SELECT status FROM judgements") == [("the second answer was cut short",)]
    assert endpoint.asked[JUDGE] == 0
