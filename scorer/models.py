"""What is known of each model of the ladder: prices, window, what it takes. From the configuration, else from LiteLLM's
price map where that is installed; what neither knows is None, and narrows nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from scorer.sections import Rung

_MAP = "model_prices_and_context_window_backup.json"
_MILLION = 1e6
_KINDS = {"images": "supports_vision", "audio": "supports_audio_input", "tools": "supports_function_calling"}


class Price(NamedTuple):
    """US dollars per million tokens; `cached` is of input that the provider has in its cache."""

    tokens_in: float
    tokens_out: float
    cached: float | None = None

    def dollars(self, tokens_in: float, tokens_out: float, cached: float = 0.0) -> float:
        """Of a call, `cached` of whose input tokens are in the provider's cache."""
        read = min(cached, tokens_in) if self.cached is not None else 0.0
        paid = (tokens_in - read) * self.tokens_in + read * (self.cached or 0.0) + tokens_out * self.tokens_out
        return paid / _MILLION


@dataclass(frozen=True)
class Model:
    """One model of the ladder."""

    name: str
    price: Price | None = None
    window: int | None = None  # tokens of prompt and answer together
    images: bool | None = None
    audio: bool | None = None
    tools: bool | None = None
    json: bool | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    answer_tokens: int = 300


class Size(NamedTuple):
    """Of a request, in tokens: what is sent, how many of them are in a provider's cache, the most that come back."""

    tokens_in: float
    cached: float = 0.0
    most_out: int | None = None


def known(ladder: Sequence[Rung]) -> dict[str, Model]:
    """By name, strongest first."""
    return {rung.model: _known(rung, price_map().get(rung.litellm or rung.model, {})) for rung in ladder}


def costs(models: Mapping[str, Model], size: Size, cache_of: str | None = None) -> dict[str, float] | None:
    """Expected dollars of a call to each, with an answer of ordinary length; only `cache_of` has the cached tokens.
    None unless all prices are known."""
    dollars = {}
    for name, model in models.items():
        if model.price is None:
            return None
        tokens_out = min(model.answer_tokens, size.most_out or model.answer_tokens)
        dollars[name] = model.price.dollars(size.tokens_in, tokens_out, size.cached if name == cache_of else 0.0)
    return dollars


@cache
def price_map() -> Mapping[str, Mapping[str, Any]]:
    """LiteLLM's, from its file, since importing it takes seconds and asks the network; empty where it is missing."""
    found = find_spec("litellm")
    path = Path(found.origin).with_name(_MAP) if found and found.origin else None
    if path is None or not path.is_file():
        return {}
    read: dict[str, dict[str, Any]] = msgspec.json.decode(path.read_bytes())
    return {name: about for name, about in read.items() if about.get("mode") in ("chat", "responses", "completion")}


def _known(rung: Rung, listed: Mapping[str, Any]) -> Model:
    """What the configuration says, gaps filled. As LiteLLM has it, a model that is listed without a modality lacks it;
    for structured output it says too little to conclude that."""

    def takes(kind: str) -> bool | None:
        said: bool | None = getattr(rung, kind)
        return said if said is not None or not listed else bool(listed.get(_KINDS[kind]))

    return Model(
        name=rung.model,
        price=_price(rung, listed),
        window=rung.window or listed.get("max_input_tokens"),
        images=takes("images"),
        audio=takes("audio"),
        tools=takes("tools"),
        json=rung.json if rung.json is not None else listed.get("supports_response_schema"),
        tags=rung.tags,
        answer_tokens=rung.answer_tokens,
    )


def _price(rung: Rung, listed: Mapping[str, Any]) -> Price | None:
    if rung.price is not None:
        return Price(*rung.price, rung.cached_price)
    tokens_in, tokens_out = listed.get("input_cost_per_token"), listed.get("output_cost_per_token")
    if tokens_in is None or tokens_out is None:
        return None
    cached = listed.get("cache_read_input_token_cost")
    in_cache = rung.cached_price if cached is None or rung.cached_price is not None else _MILLION * cached
    return Price(_MILLION * tokens_in, _MILLION * tokens_out, in_cache)
