"""Everything together: a real LiteLLM proxy, the real daemon with the shipped artifact, three stand-in providers."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
import yaml

from scorer.encoder import Encoder
from tests.demo.stack import KEY, Stack, running

LADDER = ("large", "medium", "small")
LIKE = ("gpt-4-1106-preview", "llama-3-70b-instruct", "mixtral-8x7b-instruct-v0.1")
EASY = "What is the capital of Portugal?"
HARD = "Prove that there are infinitely many primes congruent to 3 modulo 4, and say why 1 modulo 4 is harder."


def group(name: str, upstream: str, provider: str) -> dict[str, Any]:
    return {
        "model_name": name,
        "litellm_params": {
            "model": f"openai/{upstream}",
            "api_base": f"os.environ/{provider}_API_BASE",
            "api_key": f"os.environ/{provider}_API_KEY",
            "input_cost_per_token": 1e-6,
            "output_cost_per_token": 2e-6,
        },
    }


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    ladder = [{"model": model, "like": like} for model, like in zip(LADDER, LIKE, strict=True)]
    (folder / "daemon.yaml").write_text(yaml.safe_dump({"ladder": ladder, "exploration": 0.0, "keep": "text"}))
    models = [group(name, name, name.upper()) for name in LADDER]
    models += [group("router", "large", "LARGE"), group("router-*", "large", "LARGE")]
    settings = {"model_list": models, "litellm_settings": {"callbacks": ["gateway_plugin.hook.instance"]}}
    (folder / "litellm.yaml").write_text(yaml.safe_dump(settings))
    providers = {name.upper(): 0.0 for name in LADDER}
    with running(folder, folder / "daemon.yaml", folder / "litellm.yaml", providers) as up:
        yield up


def complete(stack: Stack, body: dict[str, Any]) -> httpx.Response:
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx.post(f"{stack.proxy}/v1/chat/completions", json=body, headers=headers, timeout=60)


def ask(stack: Stack, model: str, prompt: str, **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], **more}
    answer = complete(stack, body)
    assert answer.status_code == 200, answer.text
    return answer


def asked_last(stack: Stack, provider: str) -> str:
    """The model name that a provider was asked for last."""
    base = stack.services[provider.upper()].ready
    with urllib.request.urlopen(base) as answer:
        return str(json.load(answer)[-1]["model"])


def record(stack: Stack, decision_id: str) -> dict[str, Any]:
    """The decision once its outcome is in."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        answer = httpx.get(f"{stack.daemon}/v1/decisions/{decision_id}")
        if answer.status_code == 200 and answer.json()["outcome"]:
            whole: dict[str, Any] = answer.json()
            return whole
        time.sleep(0.05)
    raise AssertionError(f"no outcome for {decision_id}")


@pytest.mark.parametrize(("share", "model"), [(0, "small"), (100, "large")])
def test_share_decides_which_provider_is_asked(stack: Stack, share: int, model: str) -> None:
    answer = ask(stack, f"router-mf-p{share}", EASY)
    assert answer.headers["x-routerd-model"] == model
    assert asked_last(stack, model) == model


def test_middle_of_three_models_is_chosen_when_its_win_rate_alone_is_below_the_threshold(stack: Stack) -> None:
    scored = httpx.post(f"{stack.daemon}/v1/score", json={"router": "mf", "prompts": [HARD]}).json()["win_rates"][0]
    assert scored["medium"] < scored["small"]
    between = (scored["medium"] + scored["small"]) / 2
    answer = ask(stack, f"router-mf-{between:.6f}", HARD)
    assert answer.headers["x-routerd-model"] == "medium"
    assert float(answer.headers["x-routerd-win-rate"]) == pytest.approx(scored["medium"], abs=1e-4)
    assert asked_last(stack, "medium") == "medium"


@pytest.mark.parametrize("stream", [False, True])
def test_decision_outcome_and_rating_meet_under_one_id(stack: Stack, stream: bool) -> None:
    answer = ask(stack, "router-mf-p0", EASY, stream=stream)
    decision_id = answer.headers["x-routerd-decision-id"]
    rated = httpx.post(f"{stack.daemon}/v1/feedback", json={"decision_id": decision_id, "rating": "down"})
    assert rated.status_code in (201, 202)
    whole = record(stack, decision_id)
    assert (whole["status"], whole["model"], whole["text"]) == ("routed", "small", EASY)
    outcome = whole["outcome"]
    assert (outcome["status"], outcome["served"], outcome["stream"]) == ("success", "small", stream)
    assert outcome["cost"] == pytest.approx(outcome["tokens_in"] * 1e-6 + outcome["tokens_out"] * 2e-6)
    assert [rating["value"] for rating in whole["ratings"]] == [0.0]


def test_official_client_sees_the_route_of_a_completion(stack: Stack) -> None:
    client = openai.OpenAI(base_url=f"{stack.proxy}/v1", api_key=KEY)
    raw = client.completions.with_raw_response.create(model="router-random-p0", prompt=EASY)
    assert raw.headers["x-routerd-router"] == "random"
    assert "small heard" in raw.parse().choices[0].text


def test_name_of_a_router_that_is_not_hosted_is_a_400(stack: Stack) -> None:
    body = {"model": "router-bert-0.5", "messages": [{"role": "user", "content": EASY}]}
    answer = complete(stack, body)
    assert answer.status_code == 400
    assert "this daemon hosts mf, random" in answer.text


def test_hard_input_reaches_a_provider(stack: Stack) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    conversation = [{"role": "user", "content": EASY}, {"role": "assistant", "content": "Lisbon."}] * 1000
    for messages in ([{"role": "user", "content": [picture]}], [*conversation, {"role": "user", "content": "Go on."}]):
        body = {"model": "router", "messages": messages}
        answer = complete(stack, body)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-routerd-status"] == "routed"
    assert ask(stack, "router", "word " * 200_000).headers["x-routerd-status"] == "routed"
