"""The gateway where the decision fails, or the configuration; over a real socket, with a scripted decision."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from scorer.api import RouteAnswer
from scorer.config import Config, ConfigError, load
from scorer.gateway import Gateway
from scorer.gateway_providers import Providers
from scorer.requests import RouteRequest
from scorer.sections import GatewayConfig, Rung
from scorer.sections import Provider as Configured
from scorer.web import Problem
from tests.conftest import Serve
from tests.demo.provider import Provider
from tests.demo.stack import ROOT

LADDER = (Rung("large", tags={"region": "us"}), Rung("small", tags={"region": "eu"}))
QUESTION = [{"role": "user", "content": "hello there"}]

Decide = Callable[[RouteRequest], Awaitable[RouteAnswer]]
Ask = Callable[..., httpx.Response]


class Endpoint:
    """A gateway that runs, the outcomes that it reports, and the provider behind all of its models."""

    def __init__(self, serve: Serve, decide: Decide, mode: str = "route", **settings: Any) -> None:
        self.provider = Provider()
        self.outcomes: list[Mapping[str, Any]] = []
        upstream = f"{serve(self.provider)}/v1"
        models = {rung.model: Configured(f"openai/{rung.model}", upstream, "sk-x") for rung in LADDER}
        configured = GatewayConfig(models, **settings)
        config = Config(ladder=LADDER, mode=mode, gateway=configured)  # type: ignore[arg-type]
        gateway = Gateway(config, configured, decide, self.outcomes.append)
        self.url = serve(Starlette(routes=[endpoint.route for endpoint in gateway.endpoints()]))

    def chat(self, model: str = "router", needs: str | None = None, **more: Any) -> httpx.Response:
        headers = {"x-routerd-needs": needs} if needs else {}
        body = {"model": model, "messages": QUESTION} | more
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=30)

    @property
    def asked(self) -> list[object]:
        return [call["model"] for call in self.provider.calls]


def chosen(asked: RouteRequest, model: str = "small", **more: Any) -> RouteAnswer:
    return RouteAnswer(
        decision_id=asked.decision_id or "",
        model=model,
        router="mf",
        version="v1",
        win_rates={"large": 0.5, "small": 0.6},
        threshold=0.7,
        probabilities={"large": 0.0, "small": 1.0},
        propensity=1.0,
        explored=False,
        reason="below the threshold",
        **{"mode": "route"} | more,
    )


async def slow(_: RouteRequest) -> RouteAnswer:
    await asyncio.sleep(5)
    raise AssertionError


async def busy(_: RouteRequest) -> RouteAnswer:
    raise Problem(503, "busy", "too many requests are waiting to be scored")


async def broken(_: RouteRequest) -> RouteAnswer:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("decide", "reason"),
    [(slow, "timeout"), (busy, "too many requests are waiting to be scored"), (broken, "routing error")],
)
@pytest.mark.parametrize(("fallback", "model"), [(None, "large"), ("small", "small")])
def test_routing_that_fails_never_fails_the_request(
    serve: Serve, decide: Decide, reason: str, fallback: str | None, model: str
) -> None:
    up = Endpoint(serve, decide, fallback=fallback, decide_ms=200)
    answer = up.chat(user="ann", metadata={"session_id": "s-1"})
    assert (answer.status_code, answer.json()["model"]) == (200, model)
    assert (answer.headers["x-routerd-status"], answer.headers["x-routerd-reason"]) == ("fallback", reason)
    assert up.asked == [model]
    (outcome,) = up.outcomes
    assert outcome["decision_id"] == answer.headers["x-routerd-decision-id"]
    assert (outcome["status"], outcome["chosen"], outcome["served"]) == ("fallback", model, model)
    assert (outcome["requested"], outcome["reason"]) == ("router", reason)
    assert (outcome["user"], outcome["session_id"]) == ("ann", "s-1")


def test_a_fallback_has_the_tags_that_are_needed(serve: Serve) -> None:
    up = Endpoint(serve, busy, fallback="large")
    assert up.chat(needs="region=eu").json()["model"] == "small"
    assert up.chat(needs="region=mars").status_code == 403
    assert up.asked == ["small"]


def test_a_fallback_climbs_too(serve: Serve) -> None:
    up = Endpoint(serve, busy, fallback="small")
    up.provider.behave(status=500)
    assert up.chat().status_code == 500
    assert up.asked == ["small", "large"]
    (outcome,) = up.outcomes
    assert (outcome["status"], outcome["error"], outcome.get("served")) == ("fallback", "InternalServerError 500", None)


def test_what_the_client_may_not_have_is_refused(serve: Serve) -> None:
    async def forbidden(_: RouteRequest) -> RouteAnswer:
        raise Problem(403, "not_allowed", "candidates: none of them", "candidates")

    up = Endpoint(serve, forbidden)
    answer = up.chat()
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "permission_error")
    assert Endpoint(serve, forbidden, mode="observe").chat().status_code == 200
    assert (up.asked, up.outcomes) == ([], [])


def test_observing_leaves_the_request_on_the_strongest_model(serve: Serve) -> None:
    async def observed(asked: RouteRequest) -> RouteAnswer:
        return chosen(asked, mode="observe")

    up = Endpoint(serve, observed, mode="observe")
    answer = up.chat()
    assert (answer.headers["x-routerd-status"], answer.headers["x-routerd-model"]) == ("observe", "small")
    assert up.asked == ["large"]
    assert (up.outcomes[0]["chosen"], up.outcomes[0]["served"]) == ("small", "large")


@pytest.mark.parametrize("stream", [False, True])
def test_the_judge_gets_the_answer_that_it_asked_for(serve: Serve, stream: bool) -> None:
    async def sampled(asked: RouteRequest) -> RouteAnswer:
        return chosen(asked, sample_answer=asked.prompt == "hello there")

    up = Endpoint(serve, sampled)
    for messages in (QUESTION, [{"role": "user", "content": "hi"}]):
        assert up.chat(messages=messages, stream=stream).status_code == 200
    assert [outcome.get("sample") for outcome in up.outcomes] == [
        {"messages": QUESTION, "answer": "small heard: hello there"},
        None,
    ]


def test_what_is_asked_is_what_the_plugin_would_ask(serve: Serve) -> None:
    asked: list[RouteRequest] = []

    async def remembered(question: RouteRequest) -> RouteAnswer:
        asked.append(question)
        return chosen(question)

    up = Endpoint(serve, remembered)
    turns = [{"role": "system", "content": "Be brief."}, *QUESTION]
    up.chat("router-mf-0.11593", messages=turns, metadata={"team": "a", "deep": {"b": 1}}, max_tokens=77)
    (question,) = asked
    assert (question.model, question.prompt, question.metadata) == ("router-mf-0.11593", "hello there", {"team": "a"})
    assert question.needs is not None
    assert question.needs["max_tokens"] == 77
    assert question.session_id is not None
    assert question.session_id.startswith("auto:")


@pytest.mark.parametrize(
    ("gateway", "fault"),
    [
        ("{models: {tiny: {}}}", "gateway: 'tiny' is not on the ladder (large, small)"),
        ("{fallback: tiny}", "gateway: 'tiny' is not on the ladder"),
        ("{models: {large: {url: here}}}", "'here' is no http:// or https:// address"),
        ("{models: {large: {api_key: x}}}", "accepted: litellm, url, key"),
        ("{decide_ms: 0}", "gateway.decide_ms"),
    ],
)
def test_a_bad_section_is_one_line(tmp_path: Path, gateway: str, fault: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"ladder: [{{model: large}}, {{model: small}}]\ngateway: {gateway}\n")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_whose_provider_nobody_knows_is_named_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match=r"gateway\.models\.large: LiteLLM knows no provider of 'large'"):
        Providers(Config(ladder=LADDER), GatewayConfig())
    Providers(Config(ladder=(Rung("gpt-4o"), Rung("ours", litellm="openai/gpt-4o-mini"))), GatewayConfig())


def test_without_litellm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litellm", None)
    with pytest.raises(ConfigError, match=r"pip install 'routerd\[litellm\]'"):
        Providers(Config(ladder=LADDER), GatewayConfig())


def test_litellm_is_imported_for_the_gateway_alone(tmp_path: Path) -> None:
    program = f"""
import sys, pathlib
from scorer import daemon
from scorer.config import Config
from scorer.sections import EncoderConfig, GatewayConfig, Rung
config = dict(ladder=(Rung("gpt-4o"), Rung("gpt-4o-mini")), data_dir=pathlib.Path({str(tmp_path)!r}))
for gateway in (None, GatewayConfig()):
    daemon.build(Config(**config, encoder=EncoderConfig("static"), gateway=gateway))
    print("litellm" in sys.modules, "torch" in sys.modules)
"""
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split("\n")[:2] == ["False False", "True False"], done.stderr
