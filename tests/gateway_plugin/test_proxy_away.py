"""The daemon is away, slow or wrong, through a real proxy: requests are served by the fallback model."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gateway_plugin import ids
from tests.gateway_plugin import daemon as behaviours
from tests.gateway_plugin.stack import FAILURES, PAUSE_S, Stack, status


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (behaviours.slow, "timeout"),
        (behaviours.garbage, "bad answer"),
        (behaviours.failing, "http 500"),
        (behaviours.busy, "busy"),
    ],
)
def test_a_daemon_that_does_not_answer_leads_to_the_fallback(stack: Stack, behaviour: Any, reason: str) -> None:
    stack.daemon.behaviour = behaviour
    answer = stack.chat("router-mf-p30", user="bob")
    assert (answer.status_code, status(answer)) == (200, "fallback")
    assert answer.headers["x-routerd-reason"] == reason
    assert answer.headers["x-routerd-model"] == "gpt-4o"
    assert stack.upstream() == ["gpt-4o"]
    stack.daemon.behaviour = behaviours.normal
    outcome = stack.daemon.outcome(answer.headers["x-routerd-decision-id"])
    assert (outcome.status, outcome.chosen, outcome.served) == ("fallback", "gpt-4o", "gpt-4o")
    assert (outcome.requested, outcome.reason, outcome.user) == ("router-mf-p30", reason, "bob")
    assert outcome.created_at == pytest.approx(ids.minted_at(outcome.decision_id), abs=1)
    assert outcome.tokens_in is not None


def test_an_answer_that_is_no_candidate_leads_to_the_fallback_and_a_fresh_ladder(stack: Stack) -> None:
    stack.daemon.choice = "not-on-this-proxy"
    answer = stack.chat()
    assert (status(answer), answer.headers["x-routerd-reason"]) == ("fallback", "bad answer: not a candidate")
    stack.daemon.ladder = ["gpt-4o", "gpt-4o-mini"]
    stack.relearn()
    assert stack.daemon.ladders == 1
    time.sleep(0.1)
    assert status(stack.chat()) == "routed"
    assert stack.daemon.questions[-1].candidates == ["gpt-4o", "gpt-4o-mini"]


def test_outcomes_of_fallbacks_arrive_when_the_daemon_is_back(stack: Stack) -> None:
    stack.server.stop()
    try:
        answers = [stack.chat() for _ in range(FAILURES + 1)]
    finally:
        stack.server.start()
    assert [status(answer) for answer in answers] == ["fallback"] * (FAILURES + 1)
    reasons = [answer.headers["x-routerd-reason"] for answer in answers]
    assert reasons == ["unreachable"] * FAILURES + ["breaker open"]
    for answer in answers:
        assert stack.daemon.outcome(answer.headers["x-routerd-decision-id"]).status == "fallback"
    report = stack.daemon.reports[-1]
    assert report.breaker == "open"
    assert report.counters["opened"] >= 1
    assert report.counters["fallbacks"] >= FAILURES + 1
    assert report.counters["dropped"] == 0


def test_an_open_breaker_saves_the_waiting_and_closes_again(stack: Stack) -> None:
    stack.daemon.behaviour = behaviours.slow
    waits = []
    for _ in range(FAILURES + 1):
        started = time.monotonic()
        assert status(stack.chat()) == "fallback"
        waits.append(time.monotonic() - started)
    assert min(waits[:FAILURES]) > 0.9
    assert waits[-1] < 0.5
    stack.daemon.behaviour = behaviours.normal
    time.sleep(PAUSE_S)
    assert status(stack.chat()) == "routed"


def test_a_fallback_respects_the_key(stack: Stack) -> None:
    stack.daemon.behaviour = behaviours.failing
    answer = stack.chat(key="sk-cheap")
    assert (status(answer), answer.headers["x-routerd-model"]) == ("fallback", "gpt-4o-mini")
    assert stack.upstream() == ["gpt-4o-mini"]
