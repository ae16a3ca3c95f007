"""A provider fails, or the proxy turns the chosen model away, through a real proxy: who serves then."""

from __future__ import annotations

import pytest

from tests.gateway_plugin import daemon as behaviours
from tests.gateway_plugin.stack import Stack, status

ENDPOINTS = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
    ("/v1/completions", {"prompt": "hi"}),
    ("/v1/messages", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}),
    ("/v1/responses", {"input": "hi"}),
]
UNHELPED = ("/v1/completions", True)  # LiteLLM opens most of these streams after all retries and fallbacks


@pytest.mark.parametrize(
    ("path", "prompt", "stream"),
    [(*endpoint, stream) for endpoint in ENDPOINTS for stream in (False, True) if (endpoint[0], stream) != UNHELPED],
)
def test_a_failing_provider_is_climbed_past_and_the_outcome_names_who_served(
    stack: Stack, path: str, prompt: dict[str, object], stream: bool
) -> None:
    stack.weak.behave(status=500)
    answer = stack.post(path, {"model": "router", "stream": stream} | prompt)
    assert (answer.status_code, status(answer)) == (200, "routed")
    assert [call["model"] for call in stack.weak.calls] == ["gpt-4o-mini", "unmapped-model"]
    assert [call["model"] for call in stack.strong.calls] == ["gpt-4o"]
    assert not any("fallbacks" in call for call in (*stack.weak.calls, *stack.strong.calls))
    assert "gpt-4o" in answer.text
    assert answer.headers["x-routerd-model"] == "gpt-4o-mini"
    outcome = stack.daemon.outcome(answer.headers["x-routerd-decision-id"])
    assert (outcome.status, outcome.chosen, outcome.served) == ("success", "gpt-4o-mini", "gpt-4o")
    assert outcome.error == "InternalServerError 500"


def test_a_streamed_completion_climbs_only_where_litellm_makes_it_a_chat(stack: Stack) -> None:
    body = {"model": "router", "stream": True, "prompt": "hi"}
    stack.weak.behave(status=500)
    stack.daemon.left_out = ("medium",)
    as_chat = stack.post("/v1/completions", body)
    assert (as_chat.status_code, stack.upstream()) == (200, ["gpt-4o", "gpt-4o-mini"])
    assert stack.daemon.outcome(as_chat.headers["x-routerd-decision-id"]).served == "gpt-4o"
    stack.daemon.left_out, stack.daemon.choice = (), "medium"  # of a model unknown to LiteLLM
    answer = stack.post("/v1/completions", body)
    assert (answer.status_code, stack.upstream()[2:]) == (500, ["unmapped-model"])
    outcome = stack.daemon.outcome(answer.headers["x-routerd-decision-id"])
    assert (outcome.status, outcome.served) == ("failure", None)


@pytest.mark.parametrize("code", [400, 401, 404, 429, 503])
def test_any_error_of_a_provider_is_climbed_past(stack: Stack, code: int) -> None:
    stack.weak.behave(status=code)
    answer = stack.chat()
    assert answer.status_code == 200
    assert stack.daemon.outcome(answer.headers["x-routerd-decision-id"]).served == "gpt-4o"


def test_nobody_climbs_to_a_model_the_key_may_not_use(stack: Stack) -> None:
    stack.weak.behave(status=500)
    answer = stack.chat(key="sk-two")
    assert answer.status_code == 500
    assert stack.upstream() == ["gpt-4o-mini", "unmapped-model"]
    assert stack.daemon.outcome(answer.headers["x-routerd-decision-id"]).status == "failure"


def test_nobody_climbs_to_a_model_that_a_guard_has_left_out(stack: Stack) -> None:
    stack.daemon.left_out = ("medium",)
    stack.weak.behave(status=500)
    assert stack.chat().status_code == 200
    assert stack.upstream() == ["gpt-4o", "gpt-4o-mini"]


def test_a_clients_own_fallbacks_are_kept(stack: Stack) -> None:
    stack.weak.behave(status=500)
    assert stack.chat(fallbacks=["gpt-4o"]).status_code == 200
    assert stack.upstream() == ["gpt-4o", "gpt-4o-mini"]
    assert stack.chat(disable_fallbacks=True).status_code == 500


def test_a_keys_own_fallbacks_are_kept(stack: Stack) -> None:
    stack.weak.behave(status=500)
    assert stack.chat(key="sk-settled").status_code == 500
    assert stack.upstream() == ["gpt-4o-mini", "unmapped-model"]


def test_the_fallback_model_is_climbed_past_too(stack: Stack) -> None:
    stack.daemon.behaviour = behaviours.failing
    stack.weak.behave(status=500)
    answer = stack.chat(key="sk-two")
    assert (answer.status_code, status(answer)) == (500, "fallback")
    assert stack.upstream() == ["unmapped-model", "gpt-4o-mini"]


def test_a_stream_that_breaks_off_is_a_failure(stack: Stack) -> None:
    stack.weak.behave(cut=True)
    answer = stack.chat(stream=True)
    outcome = stack.daemon.outcome(answer.headers["x-routerd-decision-id"])
    assert (outcome.status, outcome.error) == ("failure", "APIConnectionError 500")


def test_litellms_own_fallback_shows_in_the_outcome(stack: Stack) -> None:
    stack.daemon.choice = "gpt-4o"
    stack.strong.behave(status=500)
    answer = stack.chat()
    assert (answer.status_code, answer.headers["x-routerd-model"]) == (200, "gpt-4o")
    assert stack.upstream() == ["gpt-4o", "gpt-4o-mini"]
    outcome = stack.daemon.outcome(answer.headers["x-routerd-decision-id"])
    assert (outcome.status, outcome.chosen, outcome.served) == ("success", "gpt-4o", "gpt-4o-mini")
    assert outcome.error == "InternalServerError 500"


def test_the_rate_limiters_fallback_keeps_the_decision(stack: Stack) -> None:
    stack.daemon.choice = "gpt-4o"
    first, second = stack.chat(key="sk-limited"), stack.chat(key="sk-limited")
    assert (first.status_code, second.status_code) == (200, 200)
    assert [call["model"] for call in stack.weak.calls] == ["gpt-4o-mini"]
    assert second.headers["x-routerd-model"] == "gpt-4o"
    assert len(stack.daemon.questions) == 2
    outcome = stack.daemon.outcome(second.headers["x-routerd-decision-id"])
    assert outcome.decision_id == stack.daemon.questions[1].decision_id
    assert (outcome.status, outcome.chosen, outcome.served) == ("success", "gpt-4o", "gpt-4o-mini")
    assert outcome.call_id == second.headers["x-litellm-call-id"]


def test_a_rate_limited_request_without_a_fallback_is_rejected(stack: Stack) -> None:
    stack.daemon.choice = "gpt-4o"
    answers = [stack.chat(key="sk-limited", disable_fallbacks=True) for _ in range(2)]
    assert answers[-1].status_code == 429
    outcome = stack.daemon.outcome(answers[-1].headers["x-routerd-decision-id"])
    assert (outcome.status, outcome.chosen, outcome.served) == ("rejected", "gpt-4o", None)
