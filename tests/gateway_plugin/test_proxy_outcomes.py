"""What the daemon is told of an answer, through a real proxy."""

from __future__ import annotations

import httpx
import pytest

from tests.gateway_plugin.stack import Stack, status


@pytest.mark.parametrize(
    ("path", "prompt"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
        ("/v1/completions", {"prompt": "hi"}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}),
        ("/v1/responses", {"input": "hi"}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_reported_when_the_daemon_asks_for_it(
    stack: Stack, path: str, prompt: dict[str, object], stream: bool
) -> None:
    body = {"model": "router", "stream": stream} | prompt
    asked_not = stack.post(path, body)
    assert stack.daemon.outcome(asked_not.headers["x-routerd-decision-id"]).sample is None
    stack.daemon.sampling = True
    answer = stack.post(path, body)
    sample = stack.daemon.outcome(answer.headers["x-routerd-decision-id"]).sample
    assert sample is not None
    assert sample.messages == [{"role": "user", "content": "hi"}]
    assert "gpt-4o-mini heard" in sample.answer


LONG = "to be " * 12  # the stand-in repeats it


@pytest.mark.parametrize(
    ("path", "prompt", "limit"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": LONG}]}, "max_tokens"),
        ("/v1/completions", {"prompt": LONG}, "max_tokens"),
        ("/v1/messages", {"messages": [{"role": "user", "content": LONG}]}, "max_tokens"),
        ("/v1/responses", {"input": LONG}, "max_output_tokens"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_was_cut_at_its_limit_is_reported_so(
    stack: Stack, path: str, prompt: dict[str, object], limit: str, stream: bool
) -> None:
    for most, reasons in ((16, ["length"]), (100, ["stop", None])):  # LiteLLM raises limits below 16 on some paths
        answer = stack.post(path, {"model": "router", "stream": stream, limit: most} | prompt)
        assert answer.status_code == 200
        assert stack.daemon.outcome(answer.headers["x-routerd-decision-id"]).finish_reason in reasons


def test_an_outcome_costs_tokens_times_price(stack: Stack) -> None:
    answer = stack.chat()
    outcome = stack.daemon.outcome(answer.headers["x-routerd-decision-id"])
    usage = answer.json()["usage"]
    assert (outcome.tokens_in, outcome.tokens_out) == (usage["prompt_tokens"], usage["completion_tokens"])
    expected = usage["prompt_tokens"] * 0.15e-6 + usage["completion_tokens"] * 0.6e-6
    assert outcome.cost == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("path", "prompt"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}),
        ("/v1/responses", {"input": "hi"}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_provider_had_in_its_cache_is_reported(
    stack: Stack, path: str, prompt: dict[str, object], stream: bool
) -> None:
    stack.weak.behave(cached=3)
    answer = stack.post(path, {"model": "router", "stream": stream} | prompt)
    assert stack.daemon.outcome(answer.headers["x-routerd-decision-id"]).cached_tokens == 3


def test_a_model_litellm_has_no_price_for_costs_its_configured_price(stack: Stack) -> None:
    stack.daemon.choice = "medium"
    answer = stack.post("/v1/responses", {"model": "router", "input": "hello there"})
    outcome = stack.daemon.outcome(answer.headers["x-routerd-decision-id"])
    assert outcome.tokens_in is not None
    assert outcome.tokens_out is not None
    assert outcome.cost == pytest.approx(outcome.tokens_in * 0.15e-6 + outcome.tokens_out * 0.6e-6, rel=1e-9)


def test_a_failed_request_has_headers_and_one_outcome(stack: Stack) -> None:
    stack.strong.behave(status=500)
    stack.weak.behave(status=500)
    for stream in (False, True):
        stack.daemon.choice = "gpt-4o"
        answer = stack.chat(stream=stream)
        assert (answer.status_code, status(answer)) == (500, "routed")
        outcome = stack.daemon.outcome(answer.headers["x-routerd-decision-id"])
        assert (outcome.status, outcome.chosen, outcome.served) == ("failure", "gpt-4o", None)
        assert outcome.error == "InternalServerError 500"


def test_a_client_that_leaves_is_marked(stack: Stack) -> None:
    stack.weak.behave(gap=0.2)
    body = {"model": "router", "stream": True, "messages": [{"role": "user", "content": "a b c d e f g h i j"}]}
    headers = {"Authorization": "Bearer sk-all"}
    with stack.http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        decision_id = answer.headers["x-routerd-decision-id"]
        next(answer.iter_lines())
    outcome = stack.daemon.outcome(decision_id, within=20)
    assert (outcome.status, outcome.disconnected) == ("success", True)


def test_a_client_that_does_not_wait_for_the_answer_is_marked(stack: Stack) -> None:
    stack.weak.behave(latency=5)
    body = {"model": "router", "messages": [{"role": "user", "content": "hi"}]}
    headers = {"Authorization": "Bearer sk-all"}
    with pytest.raises(httpx.ReadTimeout):
        stack.http.post("/v1/chat/completions", json=body, headers=headers, timeout=0.5)
    outcome = stack.daemon.outcome(stack.daemon.questions[0].decision_id, within=20)
    assert (outcome.status, outcome.disconnected, outcome.served) == ("failure", True, None)
