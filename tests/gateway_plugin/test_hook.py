"""The hook in this process, on LiteLLM's own Router made from the example config."""

from __future__ import annotations

import asyncio
import inspect
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import litellm
import pytest
import yaml
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy import proxy_server
from litellm.proxy._types import UserAPIKeyAuth

from gateway_plugin import hook, proxy, routing
from gateway_plugin.hook import ClientError, GatewayRouter
from gateway_plugin.routing import Routing
from tests.conftest import Serve, free_port
from tests.demo.provider import Provider
from tests.gateway_plugin import daemon as behaviours
from tests.gateway_plugin.daemon import Daemon
from tests.gateway_plugin.processes import ROOT

LADDER = ["gpt-4o", "gpt-4o-mini"]
ANYBODY = UserAPIKeyAuth(api_key="sk-1", models=[])

Config = dict[str, Any]


def _config() -> Config:
    config: Config = yaml.safe_load((ROOT / "docs" / "litellm.yaml").read_text())
    return config


def _router(monkeypatch: pytest.MonkeyPatch, upstream: str) -> litellm.Router:
    for name in ("STRONG", "WEAK"):
        monkeypatch.setenv(f"{name}_API_BASE", f"{upstream}/v1")
        monkeypatch.setenv(f"{name}_API_KEY", "sk-x")
    return litellm.Router(model_list=_config()["model_list"], num_retries=0)


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch) -> litellm.Router:
    """The proxy's; nothing here calls a model through it."""
    router = _router(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setattr(proxy_server, "llm_router", router)
    return router


@pytest.fixture
def daemon(router: litellm.Router, monkeypatch: pytest.MonkeyPatch, serve: Serve) -> Iterator[Daemon]:
    daemon = Daemon(LADDER)
    monkeypatch.setattr(litellm, "callback_settings", {"routerd": {"url": serve(daemon), "timeout_ms": 2000}})
    yield daemon
    assert daemon.faults == []


@pytest.fixture
async def gateway() -> AsyncIterator[GatewayRouter]:
    gateway = GatewayRouter()
    yield gateway
    await _closed(gateway)


async def _closed(gateway: GatewayRouter) -> None:
    if gateway._runtime:
        gateway._runtime.outcomes.stop()
        await gateway._runtime.client.close()


def _data(model: str = "router", text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "metadata": {}} | more


async def _call(
    router: GatewayRouter, data: dict[str, Any], key: object = ANYBODY, call_type: str = "acompletion"
) -> Routing | None:
    await router.async_pre_call_hook(user_api_key_dict=key, cache=None, data=data, call_type=call_type)
    return routing.find(data.get("metadata"), data.get("litellm_metadata"))


def test_every_hook_is_on_the_registered_class_with_litellms_parameter_names() -> None:
    for name in (
        "async_pre_call_hook",
        "async_post_call_response_headers_hook",
        "async_log_success_event",
        "async_log_failure_event",
        "async_post_call_failure_hook",
    ):
        assert name in vars(type(hook.instance))
        ours = inspect.signature(getattr(GatewayRouter, name)).parameters
        theirs = inspect.signature(getattr(CustomLogger, name)).parameters
        assert list(ours) == list(theirs)


def test_the_instance_is_made_without_settings_loop_or_session() -> None:
    assert isinstance(hook.instance, CustomLogger)
    assert vars(GatewayRouter())["_runtime"] is None


def test_importing_the_plugin_brings_no_heavy_package() -> None:
    names = "prompt tokens needs settings client ladder outcomes routing request events names ids breaker proxy harness"
    names += " failover"
    imports = "; ".join(f"import gateway_plugin.{name}" for name in names.split())
    heavy = "{'litellm', 'numpy', 'torch', 'sqlalchemy', 'msgspec', 'scorer', 'feedback', 'starlette', 'fastapi'}"
    script = f"import sys; {imports}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_without_the_hook_virtual_names_are_served_by_the_strongest_model(
    monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    provider = Provider()
    router = _router(monkeypatch, serve(provider))
    for model in ("router", "router-mf-0.5", "router-mf-p30"):
        answer = await router.acompletion(model=model, messages=[{"role": "user", "content": "hi"}])
        assert answer.choices[0].message.content.startswith("gpt-4o heard:")
    assert [call["model"] for call in provider.calls] == ["gpt-4o"] * 3


def test_virtual_groups_cost_what_the_strongest_model_costs() -> None:
    prices = {group["model_name"]: group["litellm_params"] for group in _config()["model_list"]}
    assert prices["router"] == prices["router-*"] == prices["gpt-4o"]
    assert prices["gpt-4o"]["input_cost_per_token"] > 0


async def test_virtual_names_are_grantable(router: litellm.Router) -> None:
    key = UserAPIKeyAuth(api_key="sk-1", models=["router-*"])
    models = ["router-mf", "router-mf-0.5", "router-mf-p30", "gpt-4o", "gpt-4o-mini"]
    assert await proxy.allowed(models, key) == ["router-mf", "router-mf-0.5", "router-mf-p30"]
    assert await proxy.allowed(models, ANYBODY) == models


def test_served_models_are_groups_and_wildcards(router: litellm.Router) -> None:
    assert proxy.served(["gpt-4o", "router-mf-0.3", "nobody"]) == ["gpt-4o", "router-mf-0.3"]
    assert proxy.twin("router-mf-0.3", ["gpt-4o-mini", "gpt-4o"]) == "gpt-4o"
    assert proxy.twin("nobody", ["gpt-4o-mini", "gpt-4o"]) is None


async def test_a_model_rests_when_all_of_its_deployments_do(router: litellm.Router) -> None:
    assert await proxy.resting(["gpt-4o", "gpt-4o-mini", "nobody"]) == []
    for model in ("gpt-4o-mini", "gpt-4o-mini", "gpt-4o"):
        (deployment,) = router.get_model_ids(model_name=model)
        router.cooldown_cache.add_deployment_to_cooldown(deployment, ValueError("busy"), 429, 60)
        resting = await proxy.resting(["gpt-4o", "gpt-4o-mini", "nobody"])
        assert resting == (["gpt-4o", "gpt-4o-mini"] if model == "gpt-4o" else ["gpt-4o-mini"])


async def test_a_release_that_does_not_say_who_rests_costs_nothing(
    router: litellm.Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("litellm.router_utils.cooldown_handlers.async_get_cooldown_deployments")
    assert await proxy.resting(["gpt-4o"]) == []


async def test_the_daemon_is_told_who_rests(daemon: Daemon, router: litellm.Router, gateway: GatewayRouter) -> None:
    await _call(gateway, _data())
    (deployment,) = router.get_model_ids(model_name="gpt-4o-mini")
    router.cooldown_cache.add_deployment_to_cooldown(deployment, ValueError("busy"), 429, 60)
    await _call(gateway, _data())
    assert [question.cooldown for question in daemon.questions] == [[], ["gpt-4o-mini"]]


def _needing(key: str = "", **more: Any) -> UserAPIKeyAuth:
    return UserAPIKeyAuth(api_key="sk-1", models=[], metadata={"routerd_needs": key} if key else {}, **more)


@pytest.mark.parametrize(
    ("sent", "header", "key", "tags"),
    [
        ({"region": "eu"}, None, _needing(), {"region": "eu"}),
        ("region=eu, tier=gold", None, _needing(), {"region": "eu", "tier": "gold"}),
        ("region=us", "region=eu", _needing(), {"region": "eu"}),
        (None, "region=us", _needing("region=eu"), {"region": "eu"}),
        ("region=us", None, _needing(team_metadata={"routerd_needs": "region=eu"}), {"region": "eu"}),
        (None, None, _needing("region=eu", team_metadata={"routerd_needs": "region=us"}), {"region": "eu"}),
    ],
)
async def test_tags_that_are_needed_reach_the_daemon_and_narrow_the_candidates(
    daemon: Daemon, gateway: GatewayRouter, sent: object, header: str | None, key: UserAPIKeyAuth, tags: dict[str, str]
) -> None:
    daemon.tags = {"gpt-4o": {"region": "eu", "tier": "gold"}, "gpt-4o-mini": {"region": "us"}}
    data = _data(metadata={"requester_metadata": {"routerd_needs": sent} if sent else {}})
    if header:
        data["proxy_server_request"] = {"headers": {"X-Routerd-Needs": header}}
    await _call(gateway, data, key)
    assert data["model"] == "gpt-4o"
    (question,) = daemon.questions
    assert {name: question.needs[name] for name in tags} == tags
    assert question.candidates == ["gpt-4o"]


@pytest.mark.parametrize("sent", ["eu", "region=", "=eu", 3, {"region": 3}, {"tools": "yes"}, {"a b": "c"}])
async def test_needs_that_are_none_are_refused(daemon: Daemon, gateway: GatewayRouter, sent: object) -> None:
    with pytest.raises(ClientError) as caught:
        await _call(gateway, _data(metadata={"requester_metadata": {"routerd_needs": sent}}))
    assert caught.value.status_code == 400
    assert "expected tags such as region=eu" in str(caught.value.detail)
    assert daemon.questions == []


async def test_without_a_decision_nobody_lacks_the_tags(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, gateway: GatewayRouter
) -> None:
    settings = litellm.callback_settings["routerd"] | {"fallback": "gpt-4o-mini"}
    monkeypatch.setattr(litellm, "callback_settings", {"routerd": settings})
    daemon.tags = {"gpt-4o": {"region": "eu"}}
    daemon.behaviour = behaviours.failing
    needing = {"requester_metadata": {"routerd_needs": "region=eu"}}
    with pytest.raises(ClientError) as caught:  # the ladder was never learned
        await _call(gateway, _data(metadata=dict(needing)))
    assert caught.value.status_code == 503
    daemon.behaviour = behaviours.normal
    await _call(gateway, _data())
    daemon.behaviour = behaviours.failing
    data = _data(metadata=dict(needing))
    found = await _call(gateway, data)
    assert found is not None
    assert (found.status, data["model"]) == ("fallback", "gpt-4o")
    with pytest.raises(ClientError) as caught:
        await _call(gateway, _data(metadata={"requester_metadata": {"routerd_needs": "region=mars"}}))
    assert (caught.value.status_code, "with region: mars" in str(caught.value.detail)) == (403, True)


async def test_a_request_is_routed_and_tagged(daemon: Daemon, gateway: GatewayRouter) -> None:
    data = _data(metadata={"tags": ["team-a"]})
    found = await _call(gateway, data)
    assert found is not None
    assert (found.status, data["model"]) == ("routed", "gpt-4o-mini")
    assert data["metadata"]["tags"] == ["team-a", f"route:{found.decision_id}"]


async def test_where_tags_choose_deployments_none_is_added(
    daemon: Daemon, router: litellm.Router, gateway: GatewayRouter
) -> None:
    router.enable_tag_filtering = True
    data = _data()
    assert await _call(gateway, data) is not None
    assert "tags" not in data["metadata"]


async def test_what_goes_to_the_provider_is_left_alone(daemon: Daemon, gateway: GatewayRouter) -> None:
    data: dict[str, Any] = {"model": "router", "input": "hi", "metadata": {"k": "v"}, "litellm_metadata": {}}
    found = await _call(gateway, data, call_type="aresponses")
    assert found is data["litellm_metadata"][routing.KEY]
    assert data["metadata"] == {"k": "v"}


@pytest.mark.parametrize("call_type", ["aembedding", "embeddings", "amoderation", "aimage_generation"])
async def test_other_call_types_are_left_alone(daemon: Daemon, call_type: str, gateway: GatewayRouter) -> None:
    data = _data()
    before = json.dumps(data)
    assert await _call(gateway, data, call_type=call_type) is None
    assert json.dumps(data) == before
    assert daemon.ladders == 0


async def test_without_daemon_and_ladder_the_configured_model_answers(
    router: litellm.Router, monkeypatch: pytest.MonkeyPatch, gateway: GatewayRouter
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setattr(litellm, "callback_settings", {"routerd": {"url": url, "fallback": "gpt-4o-mini"}})
    data = _data()
    found = await _call(gateway, data)
    assert found is not None
    assert (found.status, found.reason, data["model"]) == ("fallback", "unreachable", "gpt-4o-mini")
    only_virtual = UserAPIKeyAuth(api_key="sk-1", models=["router-*"])
    data = _data("router-mf")
    found = await _call(gateway, data, only_virtual)
    assert found is not None
    assert (found.status, found.model, data["model"]) == ("fallback", None, "router-mf")


async def test_a_fallback_model_the_proxy_does_not_serve_is_not_used(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, gateway: GatewayRouter
) -> None:
    settings = litellm.callback_settings["routerd"] | {"fallback": "retired-model"}
    monkeypatch.setattr(litellm, "callback_settings", {"routerd": settings})
    await _call(gateway, _data())
    daemon.behaviour = behaviours.failing
    data = _data()
    found = await _call(gateway, data)
    assert found is not None
    assert (found.status, data["model"]) == ("fallback", "gpt-4o")  # the strongest candidate


async def test_a_key_without_the_ladders_models_is_refused(daemon: Daemon, gateway: GatewayRouter) -> None:
    data = _data("router-mf")
    with pytest.raises(ClientError) as refused:
        await _call(gateway, data, UserAPIKeyAuth(api_key="sk-1", models=["router-*"]))
    assert refused.value.status_code == 403
    assert daemon.questions == []


async def test_with_virtual_only_the_virtual_name_is_grant_enough(
    daemon: Daemon, gateway: GatewayRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUTERD_AUTHORIZE", "virtual_only")
    data = _data("router-mf")
    assert await _call(gateway, data, UserAPIKeyAuth(api_key="sk-1", models=["router-*"])) is not None
    assert data["model"] == "gpt-4o-mini"


async def test_a_ladder_the_proxy_serves_nothing_of_is_a_fallback(daemon: Daemon, gateway: GatewayRouter) -> None:
    daemon.ladder = ["elsewhere"]
    data = _data()
    found = await _call(gateway, data)
    assert found is not None
    assert (found.status, data["model"]) == ("fallback", "router")
    assert found.reason == "the proxy serves no model of the ladder"


class _Broken:
    api_key = "sk-1"

    @property
    def end_user_id(self) -> str:
        raise RuntimeError("a key of another shape")


@pytest.mark.parametrize("failing", ["busy", "normal"])
async def test_failover_can_be_switched_off(
    daemon: Daemon, gateway: GatewayRouter, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    await _call(gateway, _data())  # learns the ladder
    daemon.behaviour = getattr(behaviours, failing)
    data = _data()
    await _call(gateway, data)
    (others,) = data["fallbacks"]
    assert others == ({"gpt-4o": ["gpt-4o-mini"]} if failing == "busy" else {"gpt-4o-mini": ["gpt-4o"]})
    monkeypatch.setenv("ROUTERD_FAILOVER", "none")
    await _closed(gateway)
    gateway._runtime = None
    data = _data()
    await _call(gateway, data)
    assert "fallbacks" not in data


async def test_observing_sets_no_fallbacks(daemon: Daemon, gateway: GatewayRouter) -> None:
    daemon.mode = "observe"
    data = _data()
    await _call(gateway, data)
    assert "fallbacks" not in data


async def test_the_conversation_is_scored_where_that_is_configured(
    daemon: Daemon, gateway: GatewayRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUTERD_SCORE", "conversation")
    turns = [("system", "Be brief."), ("user", "Prove it."), ("assistant", "Done."), ("user", "And for n = 3?")]
    await _call(gateway, _data(messages=[{"role": role, "content": text} for role, text in turns]))
    assert daemon.questions[0].prompt == "And for n = 3?\nProve it.\nBe brief."


async def test_an_error_of_the_plugins_own_does_not_fail_the_request(
    daemon: Daemon, caplog: pytest.LogCaptureFixture, gateway: GatewayRouter
) -> None:
    data = _data("router-mf")
    found = await _call(gateway, data, _Broken())
    assert found is not None
    assert (found.status, found.reason, data["model"]) == ("fallback", "plugin error", "router-mf")
    assert "a key of another shape" in caplog.text


async def test_a_cancelled_request_stays_cancelled(daemon: Daemon, gateway: GatewayRouter) -> None:
    daemon.behaviour = behaviours.slow
    task = asyncio.create_task(_call(gateway, _data()))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_each_event_loop_gets_a_session_of_its_own(daemon: Daemon) -> None:
    gateway = GatewayRouter()

    async def call() -> Routing | None:
        found = await _call(gateway, _data())
        await _closed(gateway)
        return found

    for _ in range(2):
        found = asyncio.run(call())
        assert found is not None
        assert found.status == "routed"


async def test_odd_metadata_does_not_fail_the_request(daemon: Daemon, gateway: GatewayRouter) -> None:
    for odd in (None, "text", ["list"]):
        data = _data(metadata=odd)
        found = await _call(gateway, data)
        assert found is not None
        assert found.status == "routed"


async def test_a_session_that_litellm_made_up_is_none(daemon: Daemon, gateway: GatewayRouter) -> None:
    made_up = {"session_id": "s-1", "litellm_session_id_generated": True}
    await _call(gateway, _data(metadata=made_up, litellm_session_id="s-1"))
    await _call(gateway, _data(litellm_session_id="s\0\ud800" + "x" * 300))
    assert str(daemon.questions[0].session_id).startswith("auto:")
    assert daemon.questions[1].session_id == "s?" + "x" * 253


async def test_the_hooks_own_work_takes_less_than_a_millisecond(daemon: Daemon, gateway: GatewayRouter) -> None:
    await _call(gateway, _data())
    runtime = gateway._runtime
    assert runtime is not None
    question = {"decision_id": "d", "model": "router", "prompt": "hello", "needs": {}, "candidates": LADDER}

    async def ask() -> None:
        await runtime.client.route(question, runtime.deadline())

    async def call() -> None:
        await _call(gateway, _data())

    waits: dict[str, list[float]] = {"ask": [], "call": []}
    for _ in range(200):
        for name, measured in (("ask", ask), ("call", call)):
            started = time.perf_counter()
            await measured()
            waits[name].append(time.perf_counter() - started)
    own = statistics.median(waits["call"]) - statistics.median(waits["ask"])
    print(f"own work {own * 1e6:.0f} us, daemon {statistics.median(waits['ask']) * 1e6:.0f} us")
    assert own < 0.001


async def test_requests_to_real_models_cost_microseconds(daemon: Daemon, gateway: GatewayRouter) -> None:
    data = _data("gpt-4o")
    started = time.perf_counter()
    for _ in range(1000):
        await gateway.async_pre_call_hook(ANYBODY, None, data, "acompletion")
    each = (time.perf_counter() - started) / 1000
    print(f"{each * 1e6:.1f} us")
    assert each < 50e-6
