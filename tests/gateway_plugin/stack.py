"""A real LiteLLM proxy on the documentation's config, the scripted daemon behind its hook, and its two providers."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.demo.provider import Provider
from tests.gateway_plugin.daemon import Daemon
from tests.gateway_plugin.processes import ROOT, Server, proxy

LADDER = ["gpt-4o", "medium", "gpt-4o-mini", "not-on-this-proxy"]
PAUSE_S = 0.5  # the breaker's
FAILURES = 3  # that open it

_AUTH = """
from litellm.proxy._types import UserAPIKeyAuth

KEYS = {
    "sk-all": dict(models=[]),
    "sk-named": dict(models=[], key_alias="billing", team_id="t-1", team_alias="finance"),
    "sk-cheap": dict(models=["router", "router-*", "gpt-4o-mini"]),
    "sk-two": dict(models=["router", "router-*", "medium", "gpt-4o-mini"]),
    "sk-virtual": dict(models=["router-*"]),
    "sk-team": dict(models=[], team_id="t-2", team_models=["router", "gpt-4o-mini"]),
    "sk-limited": dict(models=[], metadata={"model_rpm_limit": {"gpt-4o": 1}}),
    "sk-settled": dict(models=[], router_settings={"fallbacks": [{"gpt-4o-mini": ["medium"]}]}),
    "sk-eu": dict(models=[], metadata={"routerd_needs": {"region": "eu"}}),
    "sk-smart": dict(models=["smart", "medium", "gpt-4o-mini"]),
    "plain-key": dict(models=[]),
}

async def check(request, api_key):
    return UserAPIKeyAuth(api_key=api_key, **KEYS[api_key])
"""


class Stack:
    """The running whole."""

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
        while status(self.chat()) != "routed":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        self.relearn()
        self.daemon.outcome(self.chat().headers["x-routerd-decision-id"])
        self.daemon.reset()
        for provider in (self.strong, self.weak):
            provider.calls.clear()


def status(response: httpx.Response) -> str | None:
    """How a request was routed."""
    found: str | None = response.headers.get("x-routerd-status")
    return found


@contextlib.contextmanager
def launched(folder: Path, settings: Mapping[str, Any], workers: int = 1) -> Iterator[Stack]:
    """The documentation's config with a third model and these sections put over it, run in `folder`."""
    config = yaml.safe_load((ROOT / "docs" / "litellm.yaml").read_text())
    medium = copy.deepcopy(config["model_list"][1])
    medium["model_name"], medium["litellm_params"]["model"] = "medium", "openai/unmapped-model"
    config["model_list"] += [medium, *settings.get("model_list", [])]
    config["general_settings"] = {"master_key": "sk-master", "custom_auth": "auth.check", "cancel_on_disconnect": True}
    config["router_settings"] = settings["router_settings"]
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
        with proxy(folder, environment, workers) as url:
            stack = Stack(url, daemon, server, strong, weak, folder / "proxy.log")
            yield stack
            stack.http.close()
