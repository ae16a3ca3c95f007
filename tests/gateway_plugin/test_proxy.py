"""The hook inside a real LiteLLM proxy, on the example config of the documentation."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from feedback.chat import MARK, Chat, Reply
from gateway_plugin import ids
from tests.demo.provider import Provider
from tests.gateway_plugin import daemon as behaviours
from tests.gateway_plugin.daemon import Daemon
from tests.gateway_plugin.processes import ROOT, Server, proxy

LADDER = ["gpt-4o", "medium", "gpt-4o-mini", "not-on-this-proxy"]
PAUSE_S = 0.5  # the breaker's
FAILURES = 3  # that open it

_AUTH = """
from litellm.proxy._types import UserAPIKeyAuth

KEYS = {
    "sk-all": dict(models=[]),
    "sk-cheap": dict(models=["router", "router-*", "gpt-4o-mini"]),
    "sk-virtual": dict(models=["router-*"]),
    "sk-limited": dict(models=[], metadata={"model_rpm_limit": {"gpt-4o": 1}}),
    "plain-key": dict(models=[]),
}

async def check(request, api_key):
    return UserAPIKeyAuth(api_key=api_key, **KEYS[api_key])
"""


class Stack:
    """The proxy, the scripted daemon behind its hook, and its two providers."""

    def __init__(self, url: str, daemon: Daemon, server: Server, strong: Provider, weak: Provider, log: Path) -> None:
        self.url, self.daemon, self.server, self.strong, self.weak, self.log = url, daemon, server, strong, weak, log
        self.http = httpx.Client(base_url=url, timeout=30)

    def post(self, path: str, body: dict[str, Any], key: str = "sk-all", **headers: str) -> httpx.Response:
        sent = {"Authorization": f"Bearer {key}"} | {name.replace("_", "-"): v for name, v in headers.items()}
        return self.http.post(path, json=body, headers=sent)

    def chat(self, model: str = "router", text: str = "hello", key: str = "sk-all", **more: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": text}]} | more
        return self.post("/v1/chat/completions", body, key)

    def upstream(self) -> list[object]:
        """The models that the providers were asked for."""
        return [call["model"] for provider in (self.strong, self.weak) for call in provider.calls]

    def relearn(self) -> None:
        """Makes the plugin ask for the ladder again, as an answer that is no candidate does."""
        self.daemon.choice, self.daemon.ladders = "not-on-this-proxy", 0
        self.chat()
        self.daemon.choice = None
        deadline = time.monotonic() + 5
        while not self.daemon.ladders:
            assert time.monotonic() < deadline
            self.chat()
            time.sleep(0.02)

    def settle(self) -> None:
        """Back to normal, with a closed breaker, a fresh ladder and no outcomes on their way."""
        self.daemon.reset()
        for provider in (self.strong, self.weak):
            provider.behave()
        deadline = time.monotonic() + 20
        while _status(self.chat()) != "routed":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        self.relearn()
        self.daemon.outcome(self.chat().headers["x-routerd-decision-id"])
        self.daemon.reset()
        for provider in (self.strong, self.weak):
            provider.calls.clear()


def _status(response: httpx.Response) -> str | None:
    status: str | None = response.headers.get("x-routerd-status")
    return status


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("proxy")
    config = yaml.safe_load((ROOT / "docs" / "litellm.yaml").read_text())
    medium = json.loads(json.dumps(config["model_list"][1]))
    medium["model_name"], medium["litellm_params"]["model"] = "medium", "openai/unmapped-model"
    config["model_list"].append(medium)
    config["general_settings"] = {
        "master_key": "sk-master",
        "custom_auth": "auth.check",
        "cancel_on_disconnect": True,
    }
    config["router_settings"] = {
        "fallbacks": [{"gpt-4o": ["gpt-4o-mini"]}],
        "disable_cooldowns": True,
        "num_retries": 0,
    }
    (folder / "litellm.yaml").write_text(yaml.safe_dump(config))
    (folder / "auth.py").write_text(_AUTH)
    daemon, strong, weak = Daemon(LADDER), Provider(), Provider()
    with Server(daemon) as server, Server(strong) as strong_server, Server(weak) as weak_server:
        environment = {
            "PYTHONPATH": str(ROOT),
            "STRONG_API_BASE": f"{strong_server.url}/v1",
            "STRONG_API_KEY": "sk-strong",
            "WEAK_API_BASE": f"{weak_server.url}/v1",
            "WEAK_API_KEY": "sk-weak",
            "ROUTERD_URL": server.url,
            "ROUTERD_TOKEN": "s3cret",
            "ROUTERD_TIMEOUT_MS": "1000",
            "ROUTERD_BREAKER_FAILURES": str(FAILURES),
            "ROUTERD_BREAKER_PAUSE_S": str(PAUSE_S),
            "ROUTERD_QUEUE": "not a number",
        }
        with proxy(folder, environment) as url:
            yield Stack(url, daemon, server, strong, weak, folder / "proxy.log")


@pytest.fixture
def stack(running: Stack) -> Iterator[Stack]:
    running.settle()
    yield running
    assert running.daemon.faults == []


def test_a_chat_goes_to_the_model_the_daemon_chose(stack: Stack) -> None:
    stack.daemon.choice = "medium"
    answer = stack.chat("router-mf-0.116", "why is the sky blue?")
    assert answer.status_code == 200
    assert stack.upstream() == ["unmapped-model"]
    question = stack.daemon.questions[0]
    assert question.model == "router-mf-0.116"
    assert question.prompt == "why is the sky blue?"
    assert question.candidates == ["gpt-4o", "medium", "gpt-4o-mini"]
    assert question.needs == {"images": False, "audio": False, "tools": False, "json": False, "chars": 20}
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
    assert (answer.status_code, _status(answer)) == (200, "routed")
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
    assert _status(routed) == "routed"
    ids_reported = {outcome.decision_id for outcome in stack.daemon.outcomes}
    outcome = stack.daemon.outcome(routed.headers["x-routerd-decision-id"])
    assert ids_reported <= {outcome.decision_id}


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


def test_a_model_litellm_has_no_price_for_costs_its_configured_price(stack: Stack) -> None:
    stack.daemon.choice = "medium"
    answer = stack.post("/v1/responses", {"model": "router", "input": "hello there"})
    outcome = stack.daemon.outcome(answer.headers["x-routerd-decision-id"])
    assert outcome.tokens_in is not None
    assert outcome.tokens_out is not None
    assert outcome.cost == pytest.approx(outcome.tokens_in * 0.15e-6 + outcome.tokens_out * 0.6e-6, rel=1e-9)


def test_session_and_user_reach_the_daemon(stack: Stack) -> None:
    chat = {"model": "router", "messages": [{"role": "user", "content": "hi"}]}
    stack.post("/v1/chat/completions", chat | {"user": "bob"}, x_litellm_session_id="session-1")
    stack.post("/v1/chat/completions", chat, x_routerd_session_id="session-2")
    stack.post("/v1/chat/completions", chat | {"metadata": {"session_id": "session-3"}})
    stack.post("/v1/responses", {"model": "router", "input": "hi", "metadata": {"session_id": "session-4"}})
    stack.post("/v1/chat/completions", chat)
    sessions = [question.session_id for question in stack.daemon.questions]
    assert sessions == ["session-1", "session-2", "session-3", "session-4", None]
    users = [question.user for question in stack.daemon.questions]
    assert users[0] == "bob"
    assert users[1] is not None
    assert len(users[1]) == 64  # the key's hash
    assert len(set(users[1:])) == 1


def test_a_key_that_litellm_does_not_hash_is_hashed(stack: Stack) -> None:
    assert _status(stack.chat(key="plain-key")) == "routed"
    user = stack.daemon.questions[0].user
    assert user is not None
    assert len(user) == 64


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
    assert (answer.status_code, _status(answer)) == (200, "fallback")
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
    assert (_status(answer), answer.headers["x-routerd-reason"]) == ("fallback", "bad answer: not a candidate")
    stack.daemon.ladder = ["gpt-4o", "gpt-4o-mini"]
    stack.relearn()
    assert stack.daemon.ladders == 1
    time.sleep(0.1)
    assert _status(stack.chat()) == "routed"
    assert stack.daemon.questions[-1].candidates == ["gpt-4o", "gpt-4o-mini"]


def test_outcomes_of_fallbacks_arrive_when_the_daemon_is_back(stack: Stack) -> None:
    stack.server.stop()
    try:
        answers = [stack.chat() for _ in range(FAILURES + 1)]
    finally:
        stack.server.start()
    assert [_status(answer) for answer in answers] == ["fallback"] * (FAILURES + 1)
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
        assert _status(stack.chat()) == "fallback"
        waits.append(time.monotonic() - started)
    assert min(waits[:FAILURES]) > 0.9
    assert waits[-1] < 0.5
    stack.daemon.behaviour = behaviours.normal
    time.sleep(PAUSE_S)
    assert _status(stack.chat()) == "routed"


def test_observing_changes_nothing_and_tells_what_it_would_have_done(stack: Stack) -> None:
    stack.daemon.mode = "observe"
    answer = stack.chat("router-mf")
    assert (answer.status_code, _status(answer)) == (200, "observe")
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
        assert (answer.status_code, _status(answer)) == (200, "fallback")
        assert answer.headers["x-litellm-model-group"] == "router-mf"
    assert stack.chat("router-mf", key="sk-virtual").status_code == 200
    assert stack.upstream() == ["gpt-4o"] * 3


def test_a_key_gets_only_models_it_may_use(stack: Stack) -> None:
    answer = stack.chat(key="sk-cheap")
    assert _status(answer) == "routed"
    assert stack.daemon.questions[0].candidates == ["gpt-4o-mini"]
    assert stack.upstream() == ["gpt-4o-mini"]


def test_a_fallback_respects_the_key(stack: Stack) -> None:
    stack.daemon.behaviour = behaviours.failing
    answer = stack.chat(key="sk-cheap")
    assert (_status(answer), answer.headers["x-routerd-model"]) == ("fallback", "gpt-4o-mini")
    assert stack.upstream() == ["gpt-4o-mini"]


def test_a_key_that_may_use_no_model_of_the_ladder_is_refused(stack: Stack) -> None:
    answer = stack.chat("router-mf", key="sk-virtual")
    assert answer.status_code == 403
    message = answer.json()["error"]["message"]
    assert message == "this key may use router-mf, but no model behind it: gpt-4o, medium, gpt-4o-mini"
    assert stack.upstream() == []


def test_virtual_names_are_listed(stack: Stack) -> None:
    headers = {"Authorization": "Bearer sk-all"}
    answer = stack.http.get("/v1/models?return_wildcard_routes=true", headers=headers).json()
    assert {"router", "router-*", "gpt-4o", "gpt-4o-mini"} <= {model["id"] for model in answer["data"]}


def test_a_failed_request_has_headers_and_one_outcome(stack: Stack) -> None:
    stack.strong.behave(status=500)
    stack.weak.behave(status=500)
    for stream in (False, True):
        stack.daemon.choice = "gpt-4o"
        answer = stack.chat(stream=stream)
        assert (answer.status_code, _status(answer)) == (500, "routed")
        outcome = stack.daemon.outcome(answer.headers["x-routerd-decision-id"])
        assert (outcome.status, outcome.chosen, outcome.served) == ("failure", "gpt-4o", None)
        assert outcome.error == "InternalServerError 500"


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


def test_embeddings_and_real_models_are_left_alone(stack: Stack) -> None:
    embedded = stack.post("/v1/embeddings", {"model": "router-mf", "input": "hi"})
    asked = stack.chat("gpt-4o-mini")
    for answer in (embedded, asked):
        assert answer.status_code == 200
        assert _status(answer) is None
    assert stack.daemon.questions == []
    assert stack.upstream() == ["gpt-4o", "gpt-4o-mini"]


def test_a_routing_cannot_be_forged(stack: Stack) -> None:
    forged = {"decision_id": ids.mint(), "requested": "router", "status": "routed"}
    answer = stack.chat("gpt-4o", metadata={"routerd": forged})
    assert (answer.status_code, _status(answer)) == (200, None)
    genuine = stack.chat("router", metadata={"routerd": forged})
    assert genuine.headers["x-routerd-decision-id"] != forged["decision_id"]
    stack.daemon.outcome(genuine.headers["x-routerd-decision-id"])
    assert forged["decision_id"] not in [outcome.decision_id for outcome in stack.daemon.outcomes]


def test_a_shape_the_plugin_does_not_know_is_left_to_the_provider(stack: Stack) -> None:
    answer = stack.chat(messages=[{"role": "user", "content": [{"type": "text", "text": 5}]}])
    assert answer.status_code == 200
    assert _status(answer) == "fallback"
    assert answer.headers["x-routerd-reason"] == "bad prompt: messages[0].content[0].text: must be a string"


def test_an_agents_tool_loop_is_scored_by_the_humans_question(stack: Stack) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "ls", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "You are an agent."},
        {"role": "user", "content": "Fix the failing test."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "a.py"},
    ]
    assert _status(stack.chat(messages=messages)) == "routed"
    assert stack.daemon.questions[0].prompt == "Fix the failing test."
    assert stack.daemon.questions[0].needs["tools"] is True


def test_a_bad_setting_is_one_line_in_the_log(stack: Stack) -> None:
    lines = [line for line in stack.log.read_text().splitlines() if "ROUTERD_QUEUE" in line]
    assert len(lines) == 1
    assert "ROUTERD_QUEUE: 'not a number' is not a whole number from 1 to 1000000; 10000 is used" in lines[0]


def test_a_skew_of_protocols_is_logged_once_and_not_fatal(stack: Stack) -> None:
    stack.daemon.protocol = 2
    for _ in range(2):
        stack.relearn()
        time.sleep(0.1)
        assert _status(stack.chat()) == "routed"
    lines = [line for line in stack.log.read_text().splitlines() if "speaks protocol 2" in line]
    assert len(lines) == 1
