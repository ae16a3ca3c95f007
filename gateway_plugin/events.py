"""LiteLLM's log events, read into what an outcome says."""

from collections.abc import Mapping
from datetime import datetime

Event = Mapping[str, object]

_REASONS = {  # of other endpoints, in the words of chat's finish_reason
    "max_tokens": "length",
    "max_output_tokens": "length",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
}

_NONE: Event = {}
_LONGEST_REASON = 100


def buckets(kwargs: Event) -> tuple[object, object]:
    """The two places in a log event where a request's metadata may be."""
    parameters = _mapping(kwargs.get("litellm_params"))
    return parameters.get("metadata"), parameters.get("litellm_metadata")


def success(kwargs: Event, start: object, end: object) -> dict[str, object]:
    """What an outcome says of an answered request; None is what LiteLLM does not know."""
    payload = _mapping(kwargs.get("standard_logging_object"))
    places = [_mapping(place) for place in buckets(kwargs)]
    cache_hit = payload.get("cache_hit") is True
    tokens_in, tokens_out = _count(payload.get("prompt_tokens")), _count(payload.get("completion_tokens"))
    cached = _cached(payload)
    cost = _amount(payload.get("response_cost"))
    if not cost and not cache_hit:
        cost = _priced(tokens_in, tokens_out, cached or 0, places)
    stream = bool(kwargs.get("stream") or payload.get("stream"))
    return {
        "served": payload.get("model_group"),
        "deployment": payload.get("model_id"),
        "tokens_in": tokens_in or None,
        "tokens_out": tokens_out or None,
        "cached_tokens": cached,
        "cost": cost,
        "latency_ms": _milliseconds(start, end),
        "ttft_ms": _milliseconds(start, kwargs.get("completion_start_time")) if stream else None,
        "stream": stream,
        "disconnected": any(place.get("client_disconnected") is True for place in places),
        "cache_hit": cache_hit,
    }


def finish_reason(response: object) -> str | None:
    """Why the answer ended: stop, length, tool_calls, content_filter; None where it does not say.

    Chat and completions say it of their first choice, /v1/messages as stop_reason, /v1/responses only when they stop
    early; the last event of a stream of these holds the response.
    """
    answer = _part(response, "response") or response
    choices = _part(answer, "choices")
    said = (
        _part(choices[0] if isinstance(choices, list) and choices else None, "finish_reason")
        or _part(answer, "stop_reason")
        or _part(_part(answer, "incomplete_details"), "reason")
    )
    return _REASONS.get(said, said)[:_LONGEST_REASON] if isinstance(said, str) else None


def error(exception: object) -> str:
    """Class and status; the message may quote the prompt."""
    status = getattr(exception, "status_code", None) or getattr(exception, "code", None)
    return " ".join(str(part) for part in (type(exception).__name__, status) if part)[:200]


def is_from_provider(exception: object) -> bool:
    """LiteLLM names the provider on every exception of one; the proxy's own errors are HTTP ones with a detail."""
    return bool(getattr(exception, "llm_provider", None)) and not hasattr(exception, "detail")


def client_left(exception: object) -> bool:
    """LiteLLM gives up a call whose client has gone, with nginx's status for it."""
    return getattr(exception, "status_code", None) == 499


def _cached(payload: Event) -> int | None:
    """Tokens of the prompt that the provider had in its cache; None where it does not say."""
    usage = _mapping(_mapping(payload.get("metadata")).get("usage_object"))
    for details in ("prompt_tokens_details", "input_tokens_details"):
        count = _mapping(usage.get(details)).get("cached_tokens")
        if isinstance(count, int):
            return count
    return None


def _priced(tokens_in: int, tokens_out: int, cached: int, places: list[Event]) -> float | None:
    """Tokens times the deployment's own price: on some endpoints LiteLLM puts 0 for models not in its map."""
    if not tokens_in + tokens_out:
        return None
    for place in places:
        price = _mapping(place.get("model_info"))
        per_in, per_out = (
            _amount(price.get("input_cost_per_token")),
            _amount(price.get("output_cost_per_token")),
        )
        if per_in is not None or per_out is not None:
            per_cached = _amount(price.get("cache_read_input_token_cost"))
            saved = min(cached, tokens_in) * ((per_in or 0) - per_cached) if per_cached is not None else 0.0
            return tokens_in * (per_in or 0) - saved + tokens_out * (per_out or 0)
    return None


def _milliseconds(start: object, end: object) -> float | None:
    if not isinstance(start, datetime) or not isinstance(end, datetime):
        return None
    return round((end - start).total_seconds() * 1000, 3)


def _part(value: object, name: str) -> object:
    """Of a mapping or an object."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _mapping(value: object) -> Event:
    return value if isinstance(value, Mapping) else _NONE


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _amount(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
