"""LiteLLM runs the hook's file by its path when it lies beside the proxy's config."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx

from tests.demo.provider import Provider
from tests.gateway_plugin.daemon import Daemon
from tests.gateway_plugin.processes import ROOT, Server, proxy


def test_the_hook_works_beside_the_config(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "gateway_plugin", tmp_path / "gateway_plugin")
    shutil.copy(ROOT / "docs" / "litellm.yaml", tmp_path)
    daemon, provider = Daemon(["gpt-4o", "gpt-4o-mini"]), Provider()
    with Server(daemon) as server, Server(provider) as upstream:
        environment = {
            "LITELLM_MASTER_KEY": "sk-master",
            "ROUTERD_URL": server.url,
            "ROUTERD_TIMEOUT_MS": "2000",
            "STRONG_API_BASE": f"{upstream.url}/v1",
            "STRONG_API_KEY": "sk-strong",
            "WEAK_API_BASE": f"{upstream.url}/v1",
            "WEAK_API_KEY": "sk-weak",
        }
        with proxy(tmp_path, environment) as url:
            body = {"model": "router", "messages": [{"role": "user", "content": "hi"}]}
            headers = {"Authorization": "Bearer sk-master"}
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=30)
            assert answer.status_code == 200
            assert answer.headers["x-routerd-status"] == "routed"
            assert daemon.outcome(answer.headers["x-routerd-decision-id"]).served == "gpt-4o-mini"
    assert [call["model"] for call in provider.calls] == ["gpt-4o-mini"]
    assert daemon.faults == []
