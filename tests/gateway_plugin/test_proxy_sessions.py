"""What the daemon is told of a request, through a real proxy: session, user, key, metadata, size, tool loops."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.gateway_plugin.stack import Stack, status


def test_session_and_user_reach_the_daemon(stack: Stack) -> None:
    chat = {"model": "router", "messages": [{"role": "user", "content": "hi"}]}
    stack.post("/v1/chat/completions", chat | {"user": "bob"}, x_litellm_session_id="session-1")
    stack.post("/v1/chat/completions", chat, x_routerd_session_id="session-2")
    stack.post("/v1/chat/completions", chat | {"metadata": {"session_id": "session-3"}})
    stack.post("/v1/responses", {"model": "router", "input": "hi", "metadata": {"session_id": "session-4"}})
    stack.post("/v1/chat/completions", chat)
    *named, derived = [question.session_id for question in stack.daemon.questions]
    assert named == ["session-1", "session-2", "session-3", "session-4"]
    assert derived is not None
    assert derived.startswith("auto:")
    users = [question.user for question in stack.daemon.questions]
    assert users[0] == "bob"
    assert users[1] is not None
    assert len(users[1]) == 64  # the key's hash
    assert len(set(users[1:])) == 1


def test_a_key_that_litellm_does_not_hash_is_hashed(stack: Stack) -> None:
    assert status(stack.chat(key="plain-key")) == "routed"
    user = stack.daemon.questions[0].user
    assert user is not None
    assert len(user) == 64


def test_an_agents_tool_loop_is_scored_by_the_humans_question(stack: Stack) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "ls", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "You are an agent."},
        {"role": "user", "content": "Fix the failing test."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "a.py"},
    ]
    assert status(stack.chat(messages=messages)) == "routed"
    assert stack.daemon.questions[0].prompt == "Fix the failing test."
    assert stack.daemon.questions[0].needs["tools"] is True


def test_every_turn_of_a_conversation_has_the_same_session_on_each_endpoint(stack: Stack) -> None:
    first = {"role": "user", "content": "Why is the sky blue?"}
    later = [first, {"role": "assistant", "content": "It scatters."}, {"role": "user", "content": "And red at dusk?"}]
    for turns in ([first], later):
        stack.chat(messages=[{"role": "system", "content": "Be brief."}, *turns])
        stack.post("/v1/messages", {"model": "router", "max_tokens": 20, "system": "Be brief.", "messages": turns})
        stack.post("/v1/responses", {"model": "router", "instructions": "Be brief.", "input": turns})
    stack.post("/v1/responses", {"model": "router", "instructions": "Be brief.", "input": first["content"]})
    sessions = [question.session_id for question in stack.daemon.questions]
    assert len(sessions) == 7
    digest = hashlib.sha256(b"Be brief.\0Why is the sky blue?").hexdigest()
    assert set(sessions) == {f"auto:{digest}"}
    stack.chat(messages=[{"role": "system", "content": "Be long."}, first])
    stack.post("/v1/completions", {"model": "router", "prompt": "Why is the sky blue?"})
    assert stack.daemon.questions[-2].session_id not in (None, sessions[0])
    assert stack.daemon.questions[-1].session_id is None


def test_key_team_and_metadata_reach_the_daemon(stack: Stack) -> None:
    chat = {"model": "router", "messages": [{"role": "user", "content": "hi"}]}
    sent = {"region": "eu", "beta": True, "tier": 3, "nested": {"a": 1}, "long": "x" * 600}
    for path, body in (
        ("/v1/chat/completions", chat),
        ("/v1/messages", chat | {"max_tokens": 20}),
        ("/v1/responses", {"model": "router", "input": "hi"}),
    ):
        answer = stack.post(path, body | {"metadata": sent}, key="sk-named")
        assert answer.status_code == 200, answer.text
    for question in stack.daemon.questions:
        assert question.metadata == {"region": "eu", "beta": "true", "tier": "3", "long": "x" * 512}
        assert (question.key, question.team) == ("billing", "finance")
    stack.chat()
    bare = stack.daemon.questions[-1]
    assert (bare.metadata, bare.team) == ({}, None)
    assert bare.key == bare.user


def test_tags_that_are_needed_come_from_the_request_or_its_key(stack: Stack) -> None:
    stack.daemon.tags = {"medium": {"region": "eu"}}
    stack.relearn()
    stack.daemon.questions.clear()
    body = {"model": "router", "messages": [{"role": "user", "content": "hi"}]}
    needing = {"metadata": {"routerd_needs": "region=eu"}}
    answers = [
        stack.post("/v1/chat/completions", body, x_routerd_needs="region=eu"),
        stack.post("/v1/chat/completions", body | needing),
        stack.post("/v1/messages", body | needing | {"max_tokens": 20}),
        stack.post("/v1/responses", {"model": "router", "input": "hi"} | needing),
        stack.post("/v1/chat/completions", body | {"metadata": {"routerd_needs": "region=us"}}, key="sk-eu"),
    ]
    assert [(answer.status_code, answer.headers["x-routerd-model"]) for answer in answers] == [(200, "medium")] * 5
    assert [question.needs["region"] for question in stack.daemon.questions] == ["eu"] * 5
    assert stack.post("/v1/chat/completions", body, x_routerd_needs="eu").status_code == 400
    assert stack.post("/v1/chat/completions", body, x_routerd_needs="region=mars").status_code == 403


@pytest.mark.parametrize(
    ("path", "body", "most"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 77}, 77),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 78}, 78),
        ("/v1/completions", {"prompt": "hi", "max_tokens": 79}, 79),
        ("/v1/messages", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 80}, 80),
        ("/v1/responses", {"input": "hi", "max_output_tokens": 81}, 81),
        ("/v1/responses", {"input": "hi"}, None),
    ],
)
def test_the_answers_limit_reaches_the_daemon(stack: Stack, path: str, body: dict[str, Any], most: int | None) -> None:
    assert stack.post(path, {"model": "router"} | body).status_code == 200
    assert stack.daemon.questions[0].needs.get("max_tokens") == most


def test_the_middle_of_a_tool_loop_is_marked_on_each_endpoint(stack: Stack) -> None:
    asked = {"role": "user", "content": "Fix it."}
    call = {"id": "c1", "type": "function", "function": {"name": "ls", "arguments": "{}"}}
    tool = {"type": "function", "name": "ls", "parameters": {"type": "object", "properties": {}}}
    openai = [asked, {"role": "assistant", "content": None, "tool_calls": [call]}]
    stack.chat(messages=[*openai, {"role": "tool", "tool_call_id": "c1", "content": "a.py"}])
    use = {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "ls", "input": {}}]}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "a.py"}]}
    anthropic_tool = {"name": "ls", "input_schema": {"type": "object", "properties": {}}}
    body = {"model": "router", "max_tokens": 20, "messages": [asked, use, result], "tools": [anthropic_tool]}
    assert stack.post("/v1/messages", body).status_code == 200
    items = [asked, {"type": "function_call", "call_id": "c1", "name": "ls", "arguments": "{}"}]
    output = {"type": "function_call_output", "call_id": "c1", "output": "a.py"}
    assert stack.post("/v1/responses", {"model": "router", "input": [*items, output], "tools": [tool]}).is_success
    assert [question.continuation for question in stack.daemon.questions] == [True, True, True]
    assert {question.prompt for question in stack.daemon.questions} == {"Fix it."}
    assert len({question.session_id for question in stack.daemon.questions}) == 1
    stack.chat(messages=[asked])
    assert stack.daemon.questions[-1].continuation is False


def test_a_response_kept_at_a_provider_goes_on_there(stack: Stack) -> None:
    stack.daemon.choice = "medium"
    first = stack.post("/v1/responses", {"model": "router", "input": "hi"}).json()
    stack.daemon.choice = None
    body = {"model": "router", "input": "and then?", "previous_response_id": first["id"]}
    answer = stack.post("/v1/responses", body)
    assert (answer.status_code, status(answer)) == (200, "routed")
    assert stack.daemon.questions[-1].candidates == ["medium"]
    assert stack.upstream() == ["unmapped-model"] * 2
