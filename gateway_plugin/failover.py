"""Where a request goes when the provider of the chosen model fails: up the ladder, then down.

It is said in the request's own `fallbacks`, so LiteLLM does the rest: retries first, cooldowns, streams that break.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway_plugin import proxy


def climb(data: dict[str, Any], chosen: str, candidates: Sequence[str]) -> None:
    """Sets the request's fallbacks, unless the client or the proxy's configuration has given some.

    candidates: what may serve the request, strongest first.
    """
    others = above_then_below(chosen, candidates)
    if others and "fallbacks" not in data and not proxy.has_fallbacks(chosen, data):
        data["fallbacks"] = [{chosen: others}]


def above_then_below(chosen: str, candidates: Sequence[str]) -> list[str]:
    """The nearest stronger one first, so that an answer gets worse only where nothing better is left."""
    place = candidates.index(chosen) if chosen in candidates else len(candidates)
    return [*reversed(candidates[:place]), *candidates[place + 1 :]]


def left(candidates: Sequence[str], answer: Mapping[str, object]) -> list[str]:
    """The candidates that the daemon's guards have left, which are those that have a probability."""
    probabilities = answer.get("probabilities")
    return [model for model in candidates if not isinstance(probabilities, Mapping) or model in probabilities]
