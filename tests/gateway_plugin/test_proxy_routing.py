"""Which model a request goes to, through a real proxy: choice, names, keys, observing."""

from __future__ import annotations

import asyncio
import time

import pytest

from feedback.chat import MARK, Chat, ChatError, Reply
from gateway_plugin import ids
from tests.gateway_plugin import daemon as behaviours
from tests.gateway_plugin.stack import Stack, status


def test_a_chat_goes_to_the_model_the_daemon_chose(stack: Stack) -> None:
    stack.daemon.choice = "medium"
    answer = stack.chat("router-mf-0.116", "why is the sky blue?")
    assert answer.status_code == 200
    assert stack.upstream() == ["unmapped-model"]
    question = stack.daemon.questions[0]
    assert question.model == "router-mf-0.116"
    assert question.prompt == "why is the sky blue?"
    assert question.candidates == ["gpt-4o", "medium", "gpt-4o-mini"]
    assert question.needs == {"images": False, "audio": False, "tools": False, "json": False, "chars": 20, "tokens": 11}
    assert question.call_id == answer.headers["x-litellm-call-id"]


def test_headers_carry_the_evidence(stack: Stack) -> None:
    headers = stack.chat("router").headers
    assert ids.minted_at(headers["x-routerd-decision-id"]) == pytest.approx(time.time(), abs=5)
    found = {name: headers[f"x-routerd-{name}"] for name in ("router", "version", "model", "status", "reason")}
    assert found == {
        "router": "mf",
        "version": "v7",
        "model": "gpt-4o-mini",
        "status": "routed",
        "reason": "below the threshold ? cheap",  # an arrow is not Latin-1
    }
    assert (headers["x-routerd-win-rate"], headers["x-routerd-threshold"]) == ("0.7000", "0.7500")


def test_the_daemon_hears_which_trace_a_request_belongs_to(stack: Stack) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    body = {"model": "router", "messages": [{"role": "user", "content": "hello"}]}
    stack.post("/v1/chat/completions", body, traceparent=parent)
    stack.chat("router")
    assert stack.daemon.parents == [parent, None]


def test_the_daemon_gets_its_token(stack: Stack) -> None:
    stack.chat()
    assert stack.daemon.tokens == {"Bearer s3cret"}


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("model", ["router-mf-2", "router-nonsense", "router-mf-p101", "router-"])
def test_a_bad_name_is_refused_with_what_is_accepted(stack: Stack, model: str, up: bool) -> None:
    if not up:
        stack.server.stop()
    try:
        answer = stack.chat(model)
    finally:
        if not up:
            stack.server.start()
    assert answer.status_code == 400
    assert "accepted: router, router-<router>" in answer.json()["error"]["message"]
    assert stack.upstream() == []


def test_an_unknown_router_is_the_clients_error(stack: Stack) -> None:
    stack.daemon.behaviour = behaviours.unknown_router
    answer = stack.chat("router-sw")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "model 'router-sw': this daemon hosts mf"
    assert stack.upstream() == []


def test_what_the_daemons_guards_forbid_is_refused(stack: Stack) -> None:
    stack.daemon.behaviour = behaviours.not_allowed
    answer = stack.chat()
    assert answer.status_code == 403
    assert answer.json()["error"]["message"].endswith("with region: eu")
    assert stack.upstream() == []


def test_observing_changes_nothing_and_tells_what_it_would_have_done(stack: Stack) -> None:
    stack.daemon.mode = "observe"
    answer = stack.chat("router-mf")
    assert (answer.status_code, status(answer)) == (200, "observe")
    assert answer.headers["x-routerd-model"] == "gpt-4o-mini"
    assert answer.headers["x-litellm-model-group"] == "router-mf"
    assert stack.upstream() == ["gpt-4o"]
    outcome = stack.daemon.outcome(answer.headers["x-routerd-decision-id"])
    assert (outcome.status, outcome.chosen, outcome.served) == ("success", "gpt-4o-mini", "gpt-4o")


def test_an_observing_daemon_that_fails_changes_nothing_either(stack: Stack) -> None:
    stack.daemon.mode = "observe"
    stack.relearn()
    stack.weak.calls.clear()
    stack.strong.calls.clear()
    for behaviour in (behaviours.failing, behaviours.unknown_router):
        stack.daemon.behaviour = behaviour
        answer = stack.chat("router-mf", key="sk-all")
        assert (answer.status_code, status(answer)) == (200, "fallback")
        assert answer.headers["x-litellm-model-group"] == "router-mf"
    assert stack.chat("router-mf", key="sk-virtual").status_code == 200
    assert stack.upstream() == ["gpt-4o"] * 3


def test_a_key_gets_only_models_it_may_use(stack: Stack) -> None:
    answer = stack.chat(key="sk-cheap")
    assert status(answer) == "routed"
    assert stack.daemon.questions[0].candidates == ["gpt-4o-mini"]
    assert stack.upstream() == ["gpt-4o-mini"]


def test_a_key_that_may_use_no_model_of_the_ladder_is_refused(stack: Stack) -> None:
    answer = stack.chat("router-mf", key="sk-virtual")
    assert answer.status_code == 403
    message = answer.json()["error"]["message"]
    assert message == "this key may use router-mf, but no model behind it: gpt-4o, medium, gpt-4o-mini"
    assert stack.upstream() == []


def test_a_routing_cannot_be_forged(stack: Stack) -> None:
    forged = {"decision_id": ids.mint(), "requested": "router", "status": "routed"}
    answer = stack.chat("gpt-4o", metadata={"routerd": forged})
    assert (answer.status_code, status(answer)) == (200, None)
    genuine = stack.chat("router", metadata={"routerd": forged})
    assert genuine.headers["x-routerd-decision-id"] != forged["decision_id"]
    stack.daemon.outcome(genuine.headers["x-routerd-decision-id"])
    assert forged["decision_id"] not in [outcome.decision_id for outcome in stack.daemon.outcomes]


def test_a_shape_the_plugin_does_not_know_is_left_to_the_provider(stack: Stack) -> None:
    answer = stack.chat(messages=[{"role": "user", "content": [{"type": "text", "text": 5}]}])
    assert answer.status_code == 200
    assert status(answer) == "fallback"
    assert answer.headers["x-routerd-reason"] == "bad prompt: messages[0].content[0].text: must be a string"


def test_the_judges_calls_are_let_pass_and_its_mark_is_no_way_round_routing(stack: Stack) -> None:
    stack.daemon.sampling = True

    async def ask() -> Reply:
        chat = Chat(f"{stack.url}/v1", "sk-all", 30.0)
        try:
            return await chat.ask("gpt-4o", [{"role": "user", "content": "hi"}], 50)
        finally:
            await chat.close()

    judged = asyncio.run(ask())
    assert "gpt-4o heard" in judged.text
    assert judged.whole
    assert min(judged.tokens_in, judged.tokens_out) > 0
    assert "x-routerd-decision-id" not in stack.chat("gpt-4o", user=MARK).headers
    assert stack.daemon.questions == []
    routed = stack.chat("router", user=MARK)
    assert status(routed) == "routed"
    ids_reported = {outcome.decision_id for outcome in stack.daemon.outcomes}
    outcome = stack.daemon.outcome(routed.headers["x-routerd-decision-id"])
    assert ids_reported <= {outcome.decision_id}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_what_routerd_calls_itself_is_never_routed_again(stack: Stack, path: str) -> None:
    said = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}
    body = {"input": "hi"} if path == "/v1/responses" else said
    refused = stack.post(path, {"model": "router"} | body, x_routerd_call="judge")
    assert refused.status_code == 508
    assert "a call of routerd's own asks for router, which would be routed again" in refused.text
    assert stack.post(path, {"model": "gpt-4o"} | body, x_routerd_call="judge").status_code == 200
    assert stack.daemon.questions == []
    assert stack.upstream() == ["gpt-4o"]


def test_a_judge_that_asks_for_a_virtual_name_is_refused(stack: Stack) -> None:
    async def ask() -> None:
        chat = Chat(f"{stack.url}/v1", "sk-all", 30.0)
        try:
            await chat.ask("router", [{"role": "user", "content": "hi"}], 50)
        finally:
            await chat.close()

    with pytest.raises(ChatError, match="http 508"):
        asyncio.run(ask())
    assert stack.upstream() == []


def test_a_teams_models_are_all_that_its_keys_get(stack: Stack) -> None:
    assert status(stack.chat(key="sk-team")) == "routed"
    assert stack.daemon.questions[0].candidates == ["gpt-4o-mini"]


def test_a_bad_setting_is_one_line_in_the_log(stack: Stack) -> None:
    lines = [line for line in stack.log.read_text().splitlines() if "ROUTERD_QUEUE" in line]
    assert len(lines) == 1
    assert "ROUTERD_QUEUE: 'not a number' is not a whole number from 1 to 1000000; 10000 is used" in lines[0]


def test_a_skew_of_protocols_is_logged_once_and_not_fatal(stack: Stack) -> None:
    stack.daemon.protocol = 2
    for _ in range(2):
        stack.relearn()
        time.sleep(0.1)
        assert status(stack.chat()) == "routed"
    lines = [line for line in stack.log.read_text().splitlines() if "speaks protocol 2" in line]
    assert len(lines) == 1
