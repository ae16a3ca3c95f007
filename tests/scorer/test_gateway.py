"""The daemon's own gateway over a real socket: OpenAI's client before it, stand-in providers behind it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import openai
import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from scorer import daemon
from scorer.config import Config
from scorer.sections import EncoderConfig, GatewayConfig, Rung
from scorer.sections import Provider as Configured
from tests.conftest import served
from tests.demo.provider import Provider

TOKEN = "correct-horse"
LIKE = {"large": "gpt-4-1106-preview", "medium": "llama-3-70b-instruct", "small": "mixtral-8x7b-instruct-v0.1"}
LADDER = tuple(
    Rung(model, like=like, price=(1.0, 2.0), cached_price=0.5, tags={"region": "us" if model == "large" else "eu"})
    for model, like in LIKE.items()
)
QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


class Stack(NamedTuple):
    """A running daemon, its providers by model, and a client with its token."""

    url: str
    providers: dict[str, Provider]
    http: httpx.Client

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=TOKEN, max_retries=0)

    def chat(self, model: str, **more: Any) -> httpx.Response:
        body = {"model": model, "messages": QUESTION} | more
        return self.http.post("/v1/chat/completions", json=body)

    def asked(self) -> list[str]:
        """The models whose providers were asked, each by the name it was asked by."""
        return [str(call["model"]) for provider in self.providers.values() for call in provider.calls]

    def record(self, decision_id: str) -> dict[str, Any]:
        """The decision once its outcome is in."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            answer = self.http.get(f"/v1/decisions/{decision_id}")
            if answer.status_code == 200 and answer.json()["outcome"]:
                found: dict[str, Any] = answer.json()
                return found
            time.sleep(0.02)
        raise AssertionError(f"no outcome for {decision_id}")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    providers = {model: Provider() for model in LIKE}
    with ExitStack() as up:
        called = {
            model: Configured(f"openai/{model}-1", f"{up.enter_context(served(provider))}/v1", f"sk-{model}")
            for model, provider in providers.items()
        }
        config = Config(
            ladder=LADDER,
            data_dir=tmp_path_factory.mktemp("gateway"),
            token=TOKEN,
            exploration=0.0,
            encoder=EncoderConfig("static"),
            gateway=GatewayConfig(called, decide_ms=10_000),
        )
        url = up.enter_context(served(daemon.build(config)))
        headers = {"authorization": f"Bearer {TOKEN}"}
        http = up.enter_context(httpx.Client(base_url=url, headers=headers, timeout=30))
        yield Stack(url, providers, http)


@pytest.fixture
def stack(running: Stack) -> Stack:
    for provider in running.providers.values():
        provider.behave()
        provider.calls.clear()
    return running


@pytest.mark.parametrize(("name", "model"), [("router-mf-p0", "small"), ("router-mf-p100", "large")])
def test_openais_client_is_answered_by_the_model_that_is_chosen(stack: Stack, name: str, model: str) -> None:
    raw = stack.client.chat.completions.with_raw_response.create(model=name, messages=QUESTION)
    answer = raw.parse()
    assert (answer.object, answer.model) == ("chat.completion", model)
    assert answer.choices[0].message.content == f"{model}-1 heard: What is the capital of France? "
    assert answer.choices[0].finish_reason == "stop"
    assert {kind: raw.headers[f"x-routerd-{kind}"] for kind in ("model", "status", "router")} == {
        "model": model,
        "status": "routed",
        "router": "mf",
    }
    assert stack.asked() == [f"{model}-1"]
    whole = stack.record(raw.headers["x-routerd-decision-id"])
    assert (whole["requested"], whole["model"], whole["status"]) == (name, model, "routed")
    outcome = whole["outcome"]
    assert (outcome["status"], outcome["served"], outcome["stream"]) == ("success", model, False)
    assert answer.usage is not None
    assert (outcome["tokens_in"], outcome["tokens_out"]) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert outcome["cost"] == pytest.approx(outcome["tokens_in"] * 1e-6 + outcome["tokens_out"] * 2e-6)
    assert outcome["latency_ms"] > 0
    assert outcome["finish_reason"] == "stop"


@pytest.mark.parametrize("usage", [False, True])
def test_openais_client_gets_a_stream(stack: Stack, usage: bool) -> None:
    more: dict[str, Any] = {"stream_options": {"include_usage": True}} if usage else {}
    raw = stack.client.chat.completions.with_raw_response.create(
        model="router-mf-p0", messages=QUESTION, stream=True, **more
    )
    chunks = list(raw.parse())
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == "small-1 heard: What is the capital of France? "
    assert {chunk.model for chunk in chunks} == {"small"}
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert [bool(chunk.usage) for chunk in chunks] == [False] * (len(chunks) - 1) + [usage]
    outcome = stack.record(raw.headers["x-routerd-decision-id"])["outcome"]
    assert (outcome["status"], outcome["served"], outcome["stream"]) == ("success", "small", True)
    assert (outcome["tokens_out"], outcome["disconnected"], outcome["finish_reason"]) == (8, False, "stop")
    assert outcome["cost"] == pytest.approx(outcome["tokens_in"] * 1e-6 + 8 * 2e-6)
    assert 0 < outcome["ttft_ms"] <= outcome["latency_ms"]


@pytest.mark.parametrize("stream", [False, True])
def test_several_choices_are_one_decision(stack: Stack, stream: bool) -> None:
    raw = stack.client.chat.completions.with_raw_response.create(
        model="router-mf-p0", messages=QUESTION, n=2, stream=stream
    )
    parts: list[Any] = list(raw.parse()) if stream else [raw.parse()]
    assert {choice.index for part in parts for choice in part.choices} == {0, 1}
    assert stack.record(raw.headers["x-routerd-decision-id"])["outcome"]["status"] == "success"
    assert len(stack.asked()) == 1


def test_tools_and_a_tool_loop_reach_the_provider(stack: Stack) -> None:
    tool = {"type": "function", "function": {"name": "ls", "parameters": {"type": "object", "properties": {}}}}
    call = {"id": "c1", "type": "function", "function": {"name": "ls", "arguments": "{}"}}
    turns = [
        *QUESTION,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "a.py"},
    ]
    answer = stack.chat("router-mf-p0", messages=turns, tools=[tool], tool_choice="auto", temperature=0.5)
    assert answer.status_code == 200, answer.text
    (asked,) = stack.providers["small"].calls
    assert asked["tools"] == [tool]
    assert (asked["tool_choice"], asked["temperature"]) == ("auto", 0.5)
    assert [message["role"] for message in asked["messages"]] == ["user", "assistant", "tool"]  # type: ignore[attr-defined]
    assert stack.record(answer.headers["x-routerd-decision-id"])["needs"]["tools"] is True


@pytest.mark.parametrize("stream", [False, True])
def test_a_failing_provider_is_climbed_past_and_the_outcome_names_who_served(stack: Stack, stream: bool) -> None:
    for status in (400, 401, 429, 500):
        stack.providers["small"].behave(status=status)
        answer = stack.chat("router-mf-p0", stream=stream)
        assert answer.status_code == 200, answer.text
        assert '"model":"medium"' in answer.text
        assert answer.headers["x-routerd-model"] == "small"
        outcome = stack.record(answer.headers["x-routerd-decision-id"])["outcome"]
        assert (outcome["status"], outcome["chosen"], outcome["served"]) == ("success", "small", "medium")
        assert outcome["error"].endswith(str(status))
    assert stack.asked() == ["medium-1"] * 4 + ["small-1"] * 4


@pytest.mark.parametrize("stream", [False, True])
def test_where_all_fail_the_client_gets_openais_error_of_the_chosen_one(stack: Stack, stream: bool) -> None:
    for model, status in (("small", 429), ("medium", 500), ("large", 500)):
        stack.providers[model].behave(status=status)
    with pytest.raises(openai.RateLimitError) as caught:
        stack.client.chat.completions.create(model="router-mf-p0", messages=QUESTION, stream=stream)
    assert "told to answer 429" in caught.value.message
    assert (caught.value.type, caught.value.code) == ("rate_limit_error", "provider_failed")
    outcome = stack.record(caught.value.response.headers["x-routerd-decision-id"])["outcome"]
    assert (outcome["status"], outcome["served"]) == ("failure", None)


def test_a_provider_that_refuses_our_key_is_no_fault_of_the_clients(stack: Stack) -> None:
    stack.providers["large"].behave(status=401)
    answer = stack.chat("large")
    assert (answer.status_code, answer.json()["error"]["type"]) == (502, "server_error")


def test_a_stream_that_breaks_off_is_an_error_and_a_failure(stack: Stack) -> None:
    stack.providers["small"].behave(cut=True)
    raw = stack.client.chat.completions.with_raw_response.create(model="router-mf-p0", messages=QUESTION, stream=True)
    with pytest.raises(openai.APIError):
        list(raw.parse())
    outcome = stack.record(raw.headers["x-routerd-decision-id"])["outcome"]
    assert (outcome["status"], outcome["served"]) == ("failure", None)


def test_a_client_that_leaves_a_stream_is_marked(stack: Stack) -> None:
    stack.providers["small"].behave(gap=0.2)
    body = {"model": "router-mf-p0", "stream": True, "messages": QUESTION}
    with stack.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        decision_id = answer.headers["x-routerd-decision-id"]
        next(answer.iter_lines())
    outcome = stack.record(decision_id)["outcome"]
    assert (outcome["status"], outcome["disconnected"], outcome["served"]) == ("success", True, "small")
    assert outcome["tokens_in"] > 0


def test_a_client_that_does_not_wait_is_marked(stack: Stack) -> None:
    stack.providers["small"].behave(latency=3)
    body = {"model": "router-mf-p0", "messages": QUESTION, "metadata": {"session_id": "hasty"}}
    with pytest.raises(httpx.ReadTimeout):
        stack.http.post("/v1/chat/completions", json=body, timeout=0.5)
    deadline = time.monotonic() + 10
    while (text := stack.http.get("/metrics").text) and 'routerd_outcomes_total{status="failure"}' not in text:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert stack.asked() == ["small-1"]


def test_the_decision_of_an_answer_can_be_rated(stack: Stack) -> None:
    raw = stack.client.chat.completions.with_raw_response.create(model="router-mf-p0", messages=QUESTION)
    decision_id = raw.headers["x-routerd-decision-id"]
    rated = stack.http.post("/v1/feedback", json={"decision_id": decision_id, "rating": "up"})
    assert rated.status_code in (201, 202)
    assert [rating["value"] for rating in stack.record(decision_id)["ratings"]] == [1.0]


@pytest.mark.parametrize("key", ["wrong-horse", ""])
def test_the_daemons_token_is_the_api_key(stack: Stack, key: str) -> None:
    client = openai.OpenAI(base_url=f"{stack.url}/v1", api_key=key or "x", max_retries=0)
    headers = {} if key else {"authorization": ""}
    with pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model="router", messages=QUESTION, extra_headers=headers)
    with pytest.raises(openai.AuthenticationError):
        client.models.list(extra_headers=headers)
    assert stack.asked() == []


def test_openais_client_lists_virtual_names_and_the_ladder(stack: Stack) -> None:
    listed = [model.id for model in stack.client.models.list()]
    assert listed == ["router", "router-mf-p40", "router-mf", "router-random", "large", "medium", "small"]
    for name in listed:
        assert stack.chat(name).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_of_the_ladder_is_passed_on_as_it_is(stack: Stack, stream: bool) -> None:
    before = stack.http.get("/metrics").text.count("routerd_decisions_total{")
    stack.providers["medium"].behave(status=500)
    answer = stack.chat("large", stream=stream)
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("x-routerd")]
    assert stack.chat("medium").status_code == 500
    assert stack.asked() == ["large-1", "medium-1"]
    assert stack.http.get("/metrics").text.count("routerd_decisions_total{") == before


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"model": "gpt-4"}, 404, "model_not_found", "model"),
        ({"model": "router-mf-7"}, 400, "bad_name", "model"),
        ({"model": "router-bert-0.5"}, 400, "unknown_router", "model"),
        ({"model": 3}, 400, "bad_request", "model"),
        ({"model": "router", "messages": "hi"}, 400, "bad_request", "messages"),
        ({"model": "router", "messages": ["hi"]}, 400, "bad_request", "messages[0]"),
        ({"model": "router", "stream": "yes"}, 400, "bad_request", "stream"),
        ({"model": "large", "api_base": "http://elsewhere"}, 400, "unknown_parameter", "api_base"),
        ({"model": "large", "mock_response": "free"}, 400, "unknown_parameter", "mock_response"),
        ({"model": "router", "metadata": {"routerd_needs": "eu"}}, 400, "bad_request", "routerd_needs"),
        ({"model": "router", "metadata": {"routerd_needs": "region=mars"}}, 403, "not_allowed", "routerd_needs"),
    ],
)
def test_what_is_wrong_is_said_in_openais_words(
    stack: Stack, body: dict[str, Any], status: int, code: str, param: str
) -> None:
    answer = stack.http.post("/v1/chat/completions", json={"messages": QUESTION} | body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert error["message"]
    assert stack.asked() == []


def test_what_is_no_json_is_refused(stack: Stack) -> None:
    for content in (b"", b"[]", b'{"model": ', b"\xff"):
        answer = stack.http.post("/v1/chat/completions", content=content)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("where", ["header", "metadata"])
def test_tags_that_are_needed_narrow_the_choice_and_the_climb(stack: Stack, where: str) -> None:
    body: dict[str, Any] = {"model": "router-mf-p100", "messages": QUESTION}
    headers = {"x-routerd-needs": "region=eu"} if where == "header" else {}
    body |= {"metadata": {"routerd_needs": "region=eu"}} if where == "metadata" else {}
    stack.providers["medium"].behave(status=500)
    answer = stack.http.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert stack.asked() == ["medium-1", "small-1"]
    assert "large (not region: eu)" in answer.headers["x-routerd-reason"]
    assert "metadata" not in stack.providers["small"].calls[0]


def test_what_routerd_calls_itself_is_never_routed_again(stack: Stack) -> None:
    body = {"model": "router", "messages": QUESTION}
    answer = stack.http.post("/v1/chat/completions", json=body, headers={"x-routerd-call": "judge"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (508, "loop")


def test_a_conversation_stays_on_its_model(stack: Stack) -> None:
    first = stack.chat("router-mf-p100", metadata={"session_id": "c-1"})
    turns = [*QUESTION, {"role": "assistant", "content": "Paris."}, {"role": "user", "content": "And of Spain?"}]
    second = stack.chat("router-mf-p100", metadata={"session_id": "c-1"}, messages=turns)
    assert [answer.headers["x-routerd-model"] for answer in (first, second)] == ["large", "large"]
    record = stack.record(second.headers["x-routerd-decision-id"])
    assert (record["pinned"], record["session_id"]) == ("session", "c-1")


def test_cached_tokens_are_reported_and_priced(stack: Stack) -> None:
    stack.providers["small"].behave(cached=4)
    for stream in (False, True):
        answer = stack.chat("router-mf-p0", stream=stream)
        outcome = stack.record(answer.headers["x-routerd-decision-id"])["outcome"]
        assert outcome["cached_tokens"] == 4
        paid = (outcome["tokens_in"] - 4) * 1e-6 + 4 * 0.5e-6 + outcome["tokens_out"] * 2e-6
        assert outcome["cost"] == pytest.approx(paid)


def test_the_gateway_is_described_where_it_is_on(stack: Stack, tmp_path: Path) -> None:
    described = stack.http.get("/openapi.json").json()["paths"]
    assert {"/v1/chat/completions", "/v1/models"} <= described.keys()
    off = Config(ladder=LADDER, data_dir=tmp_path, encoder=EncoderConfig("static"))
    with served(daemon.build(off)) as url:
        assert httpx.post(f"{url}/v1/chat/completions", json={}).status_code == 404
        assert "/v1/models" not in httpx.get(f"{url}/openapi.json").json()["paths"]
