"""The ladder's providers, through LiteLLM's SDK. It is imported when a gateway is made and never otherwise: that takes
seconds and a hundred megabytes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

from gateway_plugin import events
from scorer import models
from scorer.config import Config, ConfigError
from scorer.sections import GatewayConfig, Provider

# Else importing LiteLLM asks the network for its price map, and takes variables from any .env file that lies about.
_ENVIRONMENT = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
_OURS = ("model", "messages", "metadata", "stream", "stream_options")  # of a body, that LiteLLM gets in another way

Body = Mapping[str, Any]


class Failure(NamedTuple):
    """What went wrong at a provider: OpenAI's status and a message for the client; `noted` for the outcome, without
    anybody's words."""

    status: int
    message: str
    noted: str


class Stream:
    """The chunks of an answer, of which there is at least one: LiteLLM's, whatever the provider."""

    def __init__(self, first: Any, rest: Any) -> None:
        self._first, self._rest = first, rest
        self.chunks: list[Any] = []  # those that were read

    async def __aiter__(self) -> AsyncIterator[Any]:
        self.chunks.append(self._first)
        yield self._first
        async for chunk in self._rest:
            self.chunks.append(chunk)
            yield chunk

    async def close(self) -> None:
        """Lets the provider stop."""
        await self._rest.aclose()


class Providers:
    """Asks them, and reads what their answers cost."""

    def __init__(self, config: Config, gateway: GatewayConfig) -> None:
        """Raises ConfigError where LiteLLM is missing, or knows no provider of a model."""
        self._litellm = _sdk()
        self._seconds = gateway.timeout_seconds
        self._models = models.known(config.ladder)
        self._priced = {rung.model for rung in config.ladder if rung.price}
        self._calls: dict[str, dict[str, Any]] = {}
        for rung in config.ladder:
            provider = gateway.models.get(rung.model, Provider())
            name = provider.litellm or rung.litellm or rung.model
            self._check(rung.model, name, provider)
            said = {"model": name, "api_base": provider.url, "api_key": provider.key}
            self._calls[rung.model] = {field: value for field, value in said.items() if value is not None}

    @property
    def parameters(self) -> frozenset[str]:
        """What a request may have: OpenAI's own list. All else LiteLLM might take for itself, such as where to send the
        key."""
        from openai.types.chat.completion_create_params import CompletionCreateParamsBase

        return frozenset(CompletionCreateParamsBase.__annotations__) | {"stream"}

    async def ask(self, model: str, body: Body) -> Any:
        """The whole answer of a model of the ladder. Raises what LiteLLM raises."""
        return await self._litellm.acompletion(**self._call(model, body))

    async def open(self, model: str, body: Body) -> Stream:
        """The same as a stream, once its first chunk has come. Raises what LiteLLM raises."""
        options = {**(body.get("stream_options") or {}), "include_usage": True}
        chunks = await self._litellm.acompletion(**self._call(model, body), stream=True, stream_options=options)
        try:
            return Stream(await anext(chunks), chunks)
        except StopAsyncIteration:
            raise ConnectionError("the provider sent an empty stream") from None

    def whole(self, stream: Stream, body: Body) -> Any:
        """What has come of a stream, as one answer; None where LiteLLM can make nothing of it. Tokens are counted where
        the provider did not come to say them."""
        try:
            return self._litellm.stream_chunk_builder(list(stream.chunks), messages=body["messages"])
        except Exception:  # of a stream that broke off
            return None

    def seen(self, model: str, answer: Any) -> dict[str, object]:
        """What an outcome says of an answer; None is what is not known."""
        usage = getattr(answer, "usage", None)
        details = getattr(usage, "prompt_tokens_details", None)
        tokens_in, tokens_out = (getattr(usage, f"{kind}_tokens", None) or 0 for kind in ("prompt", "completion"))
        cached = getattr(details, "cached_tokens", None)
        return {
            "tokens_in": tokens_in or None,
            "tokens_out": tokens_out or None,
            "cached_tokens": cached,
            "cost": self._cost(model, answer, tokens_in, tokens_out, cached or 0) if usage else None,
            "finish_reason": events.finish_reason(answer),
        }

    def failure(self, error: Exception) -> Failure:
        """Of what LiteLLM raised. That a provider does not know us is no fault of the client's."""
        found = getattr(error, "status_code", None)
        timeout = isinstance(error, TimeoutError | self._litellm.Timeout)
        status = 504 if timeout else found if isinstance(found, int) and 400 <= found < 600 else 502
        message = str(getattr(error, "message", None) or error)
        if status in (401, 403, 407):
            status, message = 502, "the provider does not let this gateway in"
        return Failure(status, message, events.error(error))

    def _call(self, model: str, body: Body) -> dict[str, Any]:
        """The next model is the retry, so there is no other."""
        parameters = {name: value for name, value in body.items() if name not in _OURS and value is not None}
        sent = {"messages": [dict(message) for message in body["messages"]], "timeout": self._seconds, "max_retries": 0}
        return {**parameters, **sent, **self._calls[model]}

    def _cost(self, model: str, answer: Any, tokens_in: int, tokens_out: int, cached: int) -> float | None:
        """In dollars: by the configured price, else LiteLLM's own count, else what is known of the model."""
        if model not in self._priced:
            try:
                return float(self._litellm.completion_cost(answer, model=self._calls[model]["model"]))
            except Exception:  # LiteLLM has no price of it
                pass
        price = self._models[model].price
        return price.dollars(tokens_in, tokens_out, cached) if price else None

    def _check(self, model: str, name: str, provider: Provider) -> None:
        try:
            self._litellm.get_llm_provider(model=name, api_base=provider.url)
        except Exception:  # LiteLLM's BadRequestError, whose message is a page
            fault = f"LiteLLM knows no provider of {name!r}; say `litellm: PROVIDER/NAME`, e.g. openai/{name}"
            raise ConfigError(f"gateway.models.{model}: {fault}") from None


def _sdk() -> Any:
    """LiteLLM. Raises ConfigError."""
    os.environ.update(_ENVIRONMENT | os.environ)
    try:
        import litellm
    except ImportError:
        raise ConfigError("gateway: LiteLLM is not installed; pip install 'routerd[litellm]'") from None
    litellm.suppress_debug_info = True
    return litellm
