from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import litellm
import pytest
from fastapi import HTTPException

from gateway_plugin import events

_START = datetime(2026, 1, 1)


def _success(
    payload: dict[str, object], metadata: Mapping[str, object] | None = None, **more: object
) -> dict[str, object]:
    kwargs = {"standard_logging_object": payload, "litellm_params": {"metadata": metadata or {}}} | more
    return events.success(kwargs, _START, _START + timedelta(milliseconds=250))


def test_a_success_is_read() -> None:
    payload: dict[str, object] = {
        "model_group": "weak",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "response_cost": 0.25,
        "cache_hit": None,
    }
    assert _success(payload) == {
        "served": "weak",
        "deployment": None,
        "tokens_in": 10,
        "tokens_out": 5,
        "cached_tokens": None,
        "cost": 0.25,
        "latency_ms": 250.0,
        "ttft_ms": None,
        "stream": False,
        "disconnected": False,
        "cache_hit": False,
    }


def test_a_stream_has_a_time_to_first_token() -> None:
    seen = _success({}, stream=True, completion_start_time=_START + timedelta(milliseconds=40))
    assert (seen["stream"], seen["ttft_ms"]) == (True, 40.0)


def test_a_cost_of_zero_is_priced_by_the_deployment() -> None:
    payload: dict[str, object] = {"prompt_tokens": 1000, "completion_tokens": 100, "response_cost": 0.0}
    price = {"model_info": {"input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6}}
    assert _success(payload, price)["cost"] == pytest.approx(1000 * 2e-6 + 100 * 8e-6)
    assert _success(payload | {"response_cost": 0.5}, price)["cost"] == 0.5


@pytest.mark.parametrize(
    ("usage", "cached"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 400}}, 400),
        ({"input_tokens_details": {"cached_tokens": 0}}, 0),
        ({"prompt_tokens_details": None}, None),
        ({"prompt_tokens_details": {"cached_tokens": "many"}}, None),
        ({}, None),
        (None, None),
    ],
)
def test_tokens_in_the_providers_cache_are_read(usage: object, cached: int | None) -> None:
    assert _success({"metadata": {"usage_object": usage}})["cached_tokens"] == cached


def test_tokens_in_the_providers_cache_have_a_price_of_their_own() -> None:
    usage = {"prompt_tokens_details": {"cached_tokens": 400}}
    payload: dict[str, object] = {"prompt_tokens": 1000, "completion_tokens": 100, "metadata": {"usage_object": usage}}
    price = {"input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6}
    assert _success(payload, {"model_info": price})["cost"] == pytest.approx(1000 * 2e-6 + 100 * 8e-6)
    cheaper = {"model_info": price | {"cache_read_input_token_cost": 1e-6}}
    assert _success(payload, cheaper)["cost"] == pytest.approx(600 * 2e-6 + 400 * 1e-6 + 100 * 8e-6)


def test_an_answer_from_the_cache_costs_nothing() -> None:
    payload: dict[str, object] = {"prompt_tokens": 1000, "response_cost": 0.0, "cache_hit": True}
    seen = _success(payload, {"model_info": {"input_cost_per_token": 2e-6}})
    assert (seen["cost"], seen["cache_hit"]) == (0.0, True)


def test_what_litellm_does_not_know_is_left_out() -> None:
    seen = events.success({}, None, None)
    assert {name: value for name, value in seen.items() if value is not None} == {
        "stream": False,
        "disconnected": False,
        "cache_hit": False,
    }


def test_a_client_that_left_is_marked_in_either_bucket() -> None:
    for name in ("metadata", "litellm_metadata"):
        kwargs = {"litellm_params": {name: {"client_disconnected": True}}}
        assert events.success(kwargs, None, None)["disconnected"] is True


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ({"choices": [{"finish_reason": "length"}]}, "length"),
        (litellm.ModelResponse(choices=[{"finish_reason": "tool_calls", "message": {"content": ""}}]), "tool_calls"),
        ({"stop_reason": "max_tokens"}, "length"),
        ({"stop_reason": "end_turn"}, "stop"),
        ({"incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"response": {"incomplete_details": {"reason": "content_filter"}}}, "content_filter"),
        ({"choices": [{"finish_reason": "x" * 1000}]}, "x" * 100),
        ({"choices": []}, None),
        ({"choices": [{"finish_reason": 3}]}, None),
        (None, None),
        ("text", None),
    ],
)
def test_why_an_answer_ended_is_said_in_chats_words(response: object, reason: str | None) -> None:
    assert events.finish_reason(response) == reason


def test_an_error_names_class_and_status_and_not_the_message() -> None:
    exception = litellm.RateLimitError("prompt: secret", llm_provider="openai", model="gpt-4o")
    assert events.error(exception) == "RateLimitError 429"
    assert events.error(ValueError("secret")) == "ValueError"


def test_a_providers_error_is_told_from_the_proxys() -> None:
    assert events.is_from_provider(litellm.Timeout("late", model="gpt-4o", llm_provider="openai"))
    assert not events.is_from_provider(HTTPException(429, "too many"))
    assert not events.is_from_provider(ValueError("no deployment"))
    assert events.client_left(HTTPException(499, "Client disconnected the request"))
    assert not events.client_left(HTTPException(429, "too many"))
