"""Every endpoint through a real proxy, streaming and not, also with the real clients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from anthropic import Anthropic
from openai import BadRequestError, OpenAI, Stream
from openai.types.chat import ChatCompletionUserMessageParam

from tests.gateway_plugin.stack import Stack, status

HI: ChatCompletionUserMessageParam = {"role": "user", "content": "hi"}


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
def test_every_text_endpoint_is_routed_and_reported(
    stack: Stack, path: str, prompt: dict[str, object], stream: bool
) -> None:
    answer = stack.post(path, {"model": "router", "stream": stream} | prompt)
    assert (answer.status_code, status(answer)) == (200, "routed")
    assert stack.upstream() == ["gpt-4o-mini"]
    assert "gpt-4o-mini" in answer.text or "mini" in answer.text
    outcome = stack.daemon.outcome(answer.headers["x-routerd-decision-id"])
    assert (outcome.status, outcome.chosen, outcome.served) == ("success", "gpt-4o-mini", "gpt-4o-mini")
    assert (outcome.stream, outcome.disconnected, outcome.cache_hit) == (stream, False, False)
    assert outcome.call_id == answer.headers["x-litellm-call-id"]
    assert outcome.latency_ms is not None
    assert 0 < outcome.latency_ms < 10_000
    assert (outcome.ttft_ms is not None) is stream
    if outcome.ttft_ms is not None:
        assert 0 < outcome.ttft_ms <= outcome.latency_ms


def test_virtual_names_are_listed(stack: Stack) -> None:
    headers = {"Authorization": "Bearer sk-all"}
    answer = stack.http.get("/v1/models?return_wildcard_routes=true", headers=headers).json()
    assert {"router", "router-*", "gpt-4o", "gpt-4o-mini"} <= {model["id"] for model in answer["data"]}


def test_embeddings_and_real_models_are_left_alone(stack: Stack) -> None:
    embedded = stack.post("/v1/embeddings", {"model": "router-mf", "input": "hi"})
    asked = stack.chat("gpt-4o-mini")
    for answer in (embedded, asked):
        assert answer.status_code == 200
        assert status(answer) is None
    assert stack.daemon.questions == []
    assert stack.upstream() == ["gpt-4o", "gpt-4o-mini"]


@pytest.fixture
def openai(stack: Stack) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{stack.url}/v1", api_key="sk-all", max_retries=0) as client:
        yield client


def _served(stack: Stack, headers: Any) -> str | None:
    assert headers["x-routerd-status"] == "routed"
    return stack.daemon.outcome(headers["x-routerd-decision-id"]).served


def test_openais_client_chats(stack: Stack, openai: OpenAI) -> None:
    raw = openai.chat.completions.with_raw_response.create(model="router-mf-0.116", messages=[HI])
    assert raw.parse().choices[0].message.content == "gpt-4o-mini heard: hi "
    assert raw.parse().model == "router-mf-0.116"
    assert _served(stack, raw.headers) == "gpt-4o-mini"


def test_openais_client_streams_a_chat(stack: Stack, openai: OpenAI) -> None:
    raw = openai.chat.completions.with_raw_response.create(model="router", messages=[HI], stream=True)
    words = [chunk.choices[0].delta.content for chunk in raw.parse() if chunk.choices]
    assert "".join(filter(None, words)) == "gpt-4o-mini heard: hi "
    assert _served(stack, raw.headers) == "gpt-4o-mini"


@pytest.mark.parametrize("stream", [False, True])
def test_openais_client_gets_several_choices(stack: Stack, openai: OpenAI, stream: bool) -> None:
    raw = openai.chat.completions.with_raw_response.create(model="router", messages=[HI], n=2, stream=stream)
    answer = raw.parse()
    said = [""] * 2
    for each in answer if isinstance(answer, Stream) else ():
        for part in each.choices:
            said[part.index] += part.delta.content or ""
    if not isinstance(answer, Stream):
        said = [choice.message.content or "" for choice in answer.choices]
    assert said == ["gpt-4o-mini heard: hi "] * 2
    assert stack.weak.calls[0]["n"] == 2
    assert _served(stack, raw.headers) == "gpt-4o-mini"


@pytest.mark.parametrize("stream", [False, True])
def test_openais_client_completes(stack: Stack, openai: OpenAI, stream: bool) -> None:
    raw = openai.completions.with_raw_response.create(model="router", prompt="hi", stream=stream)
    answer = raw.parse()
    chunks = answer if isinstance(answer, Stream) else [answer]
    assert "".join(choice.text or "" for chunk in chunks for choice in chunk.choices) == "gpt-4o-mini heard: hi "
    assert _served(stack, raw.headers) == "gpt-4o-mini"


def test_openais_client_gets_a_response(stack: Stack, openai: OpenAI) -> None:
    raw = openai.responses.with_raw_response.create(model="router", input="hi")
    assert raw.parse().output_text == "gpt-4o-mini heard: hi "
    assert _served(stack, raw.headers) == "gpt-4o-mini"


def test_openais_client_streams_a_response(stack: Stack, openai: OpenAI) -> None:
    raw = openai.responses.with_raw_response.create(model="router", input="hi", stream=True)
    words = [event.delta for event in raw.parse() if event.type == "response.output_text.delta"]
    assert "".join(words) == "gpt-4o-mini heard: hi "
    assert _served(stack, raw.headers) == "gpt-4o-mini"


def test_openais_client_reads_what_is_wrong_with_a_name(openai: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="accepted: router, router-<router>"):
        openai.chat.completions.create(model="router-mf-2", messages=[HI])


def test_openais_client_lists_the_virtual_names(openai: OpenAI) -> None:
    listed = {model.id for model in openai.models.list()}
    assert {"router", "gpt-4o", "medium", "gpt-4o-mini"} <= listed


def test_openais_client_embeds_without_routing(stack: Stack, openai: OpenAI) -> None:
    raw = openai.embeddings.with_raw_response.create(model="router-mf", input=["hi", "ho"], encoding_format="float")
    assert len(raw.parse().data) == 2
    assert "x-routerd-decision-id" not in raw.headers
    assert stack.daemon.questions == []


def test_anthropics_client_gets_a_message(stack: Stack) -> None:
    with Anthropic(base_url=stack.url, api_key="sk-all", max_retries=0) as client:
        raw = client.messages.with_raw_response.create(
            model="router", max_tokens=50, system="Be brief.", messages=[{"role": "user", "content": "hi"}]
        )
    (part,) = raw.parse().content
    assert part.type == "text"
    assert part.text == "gpt-4o-mini heard: hi "
    assert _served(stack, raw.headers) == "gpt-4o-mini"
    assert stack.daemon.questions[0].needs["max_tokens"] == 50


def test_anthropics_client_streams_a_message(stack: Stack) -> None:
    with (
        Anthropic(base_url=stack.url, api_key="sk-all", max_retries=0) as client,
        client.messages.stream(model="router", max_tokens=50, messages=[{"role": "user", "content": "hi"}]) as events,
    ):
        assert "".join(events.text_stream) == "gpt-4o-mini heard: hi "
        assert _served(stack, events.response.headers) == "gpt-4o-mini"
