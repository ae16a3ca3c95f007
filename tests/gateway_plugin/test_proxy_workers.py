"""A proxy of two processes, without fallbacks of its own, with cooldowns, and with LiteLLM's complexity router."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.gateway_plugin import daemon as behaviours
from tests.gateway_plugin.processes import ROOT
from tests.gateway_plugin.stack import Stack, launched, status


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    classifier = yaml.safe_load((ROOT / "docs" / "litellm-classifier.yaml").read_text())
    smart = [group for group in classifier["model_list"] if group["model_name"] == "smart"]
    smart[0]["litellm_params"]["complexity_router_config"]["tiers"] = {
        "SIMPLE": "gpt-4o-mini",
        "MEDIUM": "medium",
        "COMPLEX": "gpt-4o",
    }
    settings = {"model_list": smart, "router_settings": {"num_retries": 0, "allowed_fails": 0, "cooldown_time": 60}}
    with launched(tmp_path_factory.mktemp("workers"), settings, workers=2) as stack:
        yield stack


@pytest.fixture
def stack(running: Stack) -> Iterator[Stack]:
    running.daemon.reset()
    for provider in (running.strong, running.weak):
        provider.behave()
        provider.calls.clear()
    yield running
    assert running.daemon.faults == []


def _afresh(stack: Stack, body: dict[str, Any]) -> httpx.Response:
    """On a connection of its own, so that either process may get it."""
    headers = {"Authorization": "Bearer sk-all"}
    return httpx.post(f"{stack.url}/v1/chat/completions", json=body, headers=headers, timeout=30)


def test_both_processes_route_and_report(stack: Stack) -> None:
    body = {"model": "router", "messages": [{"role": "user", "content": "hi"}]}
    decisions: list[str] = []
    deadline = time.monotonic() + 30
    while len({report.instance for report in stack.daemon.reports}) < 2:
        assert time.monotonic() < deadline
        answer = _afresh(stack, body)
        assert (answer.status_code, status(answer)) == (200, "routed")
        decisions.append(answer.headers["x-routerd-decision-id"])
        time.sleep(0.05)
    assert len(set(decisions)) == len(decisions)
    for decision_id in decisions:
        assert stack.daemon.outcome(decision_id).served == "gpt-4o-mini"
    processes = {int(report.instance.rpartition(":")[2]) for report in stack.daemon.reports}
    assert os.getpid() not in processes
    assert len({question.session_id for question in stack.daemon.questions}) == 1


@pytest.mark.parametrize(
    ("path", "prompt", "most"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}, "max_tokens"),
        ("/v1/messages", {"messages": [{"role": "user", "content": "hi"}]}, "max_tokens"),
        ("/v1/responses", {"input": "hi"}, "max_output_tokens"),
    ],
)
@pytest.mark.parametrize("choice", ["medium", "gpt-4o-mini"])
def test_litellms_complexity_router_asks_the_daemon(
    stack: Stack, path: str, prompt: dict[str, object], most: str, choice: str
) -> None:
    stack.daemon.choice = choice
    answer = stack.post(path, {"model": "smart", most: 30} | prompt)
    assert (answer.status_code, status(answer)) == (200, "routed"), answer.text
    (call,) = stack.weak.calls
    assert call["model"] == {"medium": "unmapped-model"}.get(choice, choice)
    assert 30 in (call.get("max_tokens"), call.get("max_completion_tokens"), call.get("max_output_tokens"))
    (question,) = stack.daemon.questions
    assert (question.model, question.prompt) == ("router", "hi")
    assert question.candidates == ["gpt-4o", "medium", "gpt-4o-mini"]
    outcome = stack.daemon.outcome(answer.headers["x-routerd-decision-id"])
    assert (outcome.decision_id, outcome.chosen, outcome.served) == (question.decision_id, choice, choice)


def test_through_the_complexity_router_a_key_gets_only_models_it_may_use(stack: Stack) -> None:
    answer = stack.chat("smart", key="sk-smart")
    assert (answer.status_code, status(answer)) == (200, "routed")
    assert stack.daemon.questions[0].candidates == ["medium", "gpt-4o-mini"]


def test_while_the_daemon_is_away_the_complexity_router_has_its_own_fallback(stack: Stack) -> None:
    stack.daemon.behaviour = behaviours.busy
    answer = stack.chat("smart")
    assert (answer.status_code, status(answer)) == (200, "fallback")
    assert stack.upstream() == ["gpt-4o"]
    stack.daemon.behaviour = behaviours.normal
    outcome = stack.daemon.outcome(answer.headers["x-routerd-decision-id"])
    assert (outcome.status, outcome.requested, outcome.served) == ("fallback", "smart", "gpt-4o")


def test_an_observing_daemon_leaves_the_complexity_router_alone(stack: Stack) -> None:
    stack.daemon.mode = "observe"
    answer = stack.chat("smart")
    assert (answer.status_code, status(answer)) == (200, "observe")
    assert stack.upstream() == ["gpt-4o"]
    outcome = stack.daemon.outcome(answer.headers["x-routerd-decision-id"])
    assert (outcome.chosen, outcome.served) == ("gpt-4o-mini", "gpt-4o")


def test_a_model_in_cooldown_is_passed_over_and_where_nobody_is_above_the_next_below_serves(stack: Stack) -> None:
    stack.daemon.choice = "gpt-4o"
    stack.strong.behave(status=429)
    for _ in range(12):
        answer = stack.chat()
        assert (answer.status_code, answer.headers["x-routerd-model"]) == (200, "gpt-4o")
        assert stack.daemon.outcome(answer.headers["x-routerd-decision-id"]).served == "medium"
    assert len(stack.weak.calls) == 12
    assert 1 <= len(stack.strong.calls) <= 2  # each process finds out for itself, and tells the daemon then
    told = [question.cooldown for question in stack.daemon.questions]
    assert sorted(told) == [[]] * len(stack.strong.calls) + [["gpt-4o"]] * (12 - len(stack.strong.calls))
