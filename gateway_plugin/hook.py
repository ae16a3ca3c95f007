"""The LiteLLM hook: `litellm_settings.callbacks: [gateway_plugin.hook.instance]`.

LiteLLM looks each hook up on the registered class itself, so all of them are defined on it. It may run this
file by its path, beside its config, hence the absolute imports.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import Any

import litellm
from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger

from gateway_plugin import (
    events,
    failover,
    ids,
    names,
    needs,
    prompt,
    proxy,
    request,
    routing,
    samples,
    settings,
    traces,
)
from gateway_plugin.client import Client, Refused, Unavailable
from gateway_plugin.ladder import Learned
from gateway_plugin.outcomes import Outcome, Outcomes
from gateway_plugin.routing import Routing

logger = logging.getLogger(__name__)

_RESTING_SECONDS = 0.05  # that LiteLLM has to say which models rest
CALL_TYPES = (
    "acompletion",
    "completion",
    "atext_completion",
    "text_completion",
    "anthropic_messages",
    "aresponses",
    "responses",
)

# This request's routing and the key it came with: when its rate limiter turns the chosen model away, LiteLLM
# restores the original body, puts a fallback model of its own in and runs the hook again.
_earlier: ContextVar[tuple[Routing, object] | None] = ContextVar("routerd_earlier", default=None)


class ClientError(HTTPException):
    """Leaves the hook on purpose; everything else that goes wrong ends in the fallback."""


class Runtime:
    """What the requests of one event loop share; made by the first of them."""

    def __init__(self) -> None:
        configured = litellm.callback_settings
        self.loop = asyncio.get_running_loop()
        self.settings = settings.read(
            configured.get("routerd") if isinstance(configured, Mapping) else None, os.environ
        )
        self.client = Client(self.settings)
        self.learned = Learned(self.client.routers)
        self.outcomes = Outcomes(self._deliver, self.settings.queue)
        self.classified = proxy.classified()
        self.fallbacks = 0

    def deadline(self) -> float:
        return self.loop.time() + self.settings.timeout_ms / 1000

    async def allowed(self, models: Iterable[str], key: Any) -> list[str]:
        """Those of the served models that the key may be routed to."""
        if self.settings.authorize == "virtual_only":
            return list(models)
        return await proxy.allowed(models, key)

    async def resting(self, models: Iterable[str], deadline: float) -> list[str]:
        """Those of the models that LiteLLM gives a rest, as far as it says so at once."""
        try:
            async with asyncio.timeout_at(min(deadline, self.loop.time() + _RESTING_SECONDS)):
                return await proxy.resting(models)
        except TimeoutError:
            return []

    async def _deliver(self, batch: Sequence[Outcome]) -> None:
        counters = {
            "opened": self.client.breaker.opened,
            "timeouts": self.client.timeouts,
            "errors": self.client.errors,
            "fallbacks": self.fallbacks,
            "dropped": self.outcomes.dropped,
        }
        instance = f"{socket.gethostname()}:{os.getpid()}"
        report = {"instance": instance, "breaker": self.client.breaker.state, "counters": counters}
        await self.client.deliver(batch, report)


class GatewayRouter(CustomLogger):  # type: ignore[misc]
    """Asks the daemon which model a request to a virtual name goes to, and tells it what came of it."""

    def __init__(self) -> None:
        super().__init__()
        self._runtime: Runtime | None = None

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any] | None:
        if call_type not in CALL_TYPES:
            return None
        if not names.is_virtual(data.get("model")):
            return _rejoined(data, user_api_key_dict) or self._handed_over(data, user_api_key_dict, call_type)
        _check_name(data["model"])
        _refuse_own(data)
        found = Routing(ids.mint(), data["model"], call_type, tags=_tags(data, user_api_key_dict))
        try:
            request.identify(found, data, user_api_key_dict)
            await self._choose(data, found, user_api_key_dict)
            self._apply(data, found)
        except ClientError:
            raise
        except Exception:
            logger.exception("routerd: routing failed; the request stays on %s", found.requested)
            if found.tags and not (self._runtime and self._runtime.learned.observing):
                raise ClientError(503, f"routerd can't be asked for a model{_tagged(found)}") from None
            found.fall_back(None, "plugin error")
        return _kept(data, found, user_api_key_dict)

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,
        response: Any,
        request_headers: dict[str, str] | None = None,
        litellm_call_info: dict[str, Any] | None = None,
    ) -> dict[str, str] | None:
        found = routing.find(data.get("metadata"), data.get("litellm_metadata"))
        return found.headers() if found else None

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: datetime, end_time: datetime
    ) -> None:
        found = routing.find(*events.buckets(kwargs))
        if found:
            seen = events.success(kwargs, start_time, end_time)
            seen["served"] = self._real_name(seen["served"], seen.pop("deployment"))
            seen["finish_reason"] = events.finish_reason(response_obj)
            seen["sample"] = _sample(found, response_obj)
            self._report(found, "success", seen)

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: datetime, end_time: datetime
    ) -> None:
        """One attempt failed; a retry or a fallback of LiteLLM's may still answer."""
        found = routing.find(*events.buckets(kwargs))
        exception = kwargs.get("exception")
        if found and events.is_from_provider(exception):
            found.error = events.error(exception)

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """The request failed for good: at a provider, or turned away by the proxy before one was asked."""
        found = routing.find(request_data.get("metadata"), request_data.get("litellm_metadata"))
        if found:
            left = events.client_left(original_exception)
            failed = left or found.error is not None or events.is_from_provider(original_exception)
            found.error = events.error(original_exception)
            self._report(found, "failure" if failed else "rejected", {"disconnected": left or None})

    def _handed_over(self, data: dict[str, Any], key: Any, call_type: str) -> dict[str, Any] | None:
        """A request that LiteLLM's complexity router is asked for: gateway_plugin.classifier fills the routing in."""
        try:
            if data.get("model") not in self.now().classified:
                return None
            tags = _tags(data, key)
            found = Routing(ids.mint(), data["model"], call_type, reason="LiteLLM did not ask", tags=tags)
            request.identify(found, data, key)
            _refuse_own(data)
        except ClientError:
            raise
        except Exception:
            logger.exception("routerd: a request is not followed")
            return None
        return _kept(data, found, key)

    async def _choose(self, data: dict[str, Any], found: Routing, key: Any) -> None:
        """Fills in the daemon's decision, or the fallback. Raises ClientError."""
        now = self.now()
        candidates: list[str] = []
        try:
            await self._ask(data, found, key, candidates)
            return
        except Refused as refusal:
            if not now.learned.observing:
                raise ClientError(refusal.status, str(refusal)) from None
            reason = str(refusal)
        except prompt.BadPrompt as fault:
            reason = f"bad prompt: {fault}"
        except Unavailable as fault:
            reason = str(fault)
        now.fallbacks += 1
        found.fall_back(await self._fallback(found, key, candidates), reason)
        found.candidates = candidates

    def _apply(self, data: dict[str, Any], found: Routing) -> None:
        if found.model is None or found.status == "observe":
            return
        if self.now().settings.failover == "ladder":
            failover.climb(data, found.model, found.candidates)
        data["model"] = found.model

    async def _ask(self, data: dict[str, Any], found: Routing, key: Any, candidates: list[str]) -> None:
        """Puts the candidates into the list and the answer into the routing.

        Raises Unavailable, Refused, BadPrompt and ClientError.
        """
        now = self.now()
        deadline = now.deadline()
        ladder = await now.learned.get(deadline)
        served = proxy.served(ladder.models)
        if not served:
            raise Unavailable("the proxy serves no model of the ladder")
        holder = proxy.holder(data.get("previous_response_id"), served)
        allowed = await now.allowed([holder] if holder else served, key)
        candidates += [model for model in allowed if ladder.has(model, found.tags)]
        if not candidates and ladder.observing:
            raise Unavailable("the key may use no model of the ladder")
        if not candidates:
            behind = f"{holder or ', '.join(served)}{_tagged(found)}"
            raise ClientError(403, f"this key may use {found.requested}, but no model behind it: {behind}")
        asked = prompt.extract(data, now.settings.score)
        question = request.question(found, asked, candidates, data, key, await now.resting(candidates, deadline))
        answer = await now.client.route(question, deadline, traces.context(data, key))
        model = answer.get("model")
        if model not in candidates:
            now.learned.expire()
            raise Unavailable("bad answer: not a candidate")
        found.decide(answer, str(model), candidates)
        found.candidates = failover.left(candidates, answer)
        if answer.get("sample_answer") is True:
            found.sample = samples.conversation(data)

    async def _fallback(self, found: Routing, key: Any, candidates: list[str]) -> str | None:
        """The configured model if it can be had, else the strongest candidate; None: the virtual group. Raises
        ClientError where nobody is known to have the tags that are needed."""
        now = self.now()
        if now.learned.observing:
            return None
        configured, may = now.settings.fallback, not found.tags or now.settings.fallback in candidates
        if configured and may and await now.allowed(proxy.served([configured]), key):
            return configured
        if found.tags and not candidates:
            raise ClientError(503, f"routerd can't be asked for a model{_tagged(found)}")
        return candidates[0] if candidates else None

    def _real_name(self, group: object, deployment: object) -> object:
        """The ladder's name of what answered, where the request was left on a group that only stands for others."""
        now = self.now()
        if now.learned.last is None or not isinstance(group, str):
            return group
        if group in now.classified:
            return proxy.owner(deployment, now.learned.last.models) or group
        return (proxy.twin(group, now.learned.last.models) or group) if names.is_virtual(group) else group

    def _report(self, found: Routing, status: str, seen: Mapping[str, object]) -> None:
        if not found.reported:
            found.reported = True
            self.now().outcomes.put(found.outcome(status, seen))

    def now(self) -> Runtime:
        """What the requests of this event loop share."""
        if self._runtime is None or self._runtime.loop is not asyncio.get_running_loop():
            self._runtime = Runtime()
        return self._runtime


def _check_name(model: str) -> None:
    try:
        names.parse(model)
    except names.BadName as error:
        raise ClientError(400, str(error)) from None


def _tags(data: dict[str, Any], key: Any) -> dict[str, str]:
    try:
        return request.tags(data, key)
    except needs.BadNeeds as error:
        raise ClientError(400, str(error)) from None


def _tagged(found: Routing) -> str:
    """The tags that are needed, to end a sentence with."""
    return "".join(f", with {tag}: {value}" for tag, value in found.tags.items())


def _refuse_own(data: dict[str, Any]) -> None:
    """What routerd itself calls is never routed again."""
    if request.is_ours(data):
        raise ClientError(508, f"a call of routerd's own asks for {data['model']}, which would be routed again")


def _sample(found: Routing, response: object) -> dict[str, object] | None:
    """What the daemon's judge asked for, if it can be had."""
    answer = samples.answer(response) if found.sample else None
    return {"messages": found.sample, "answer": answer} if answer else None


def _kept(data: dict[str, Any], found: Routing, key: Any) -> dict[str, Any]:
    request.keep(data, found, tag=not proxy.filters_tags())
    _earlier.set((found, key))
    return data


def _rejoined(data: dict[str, Any], key: Any) -> dict[str, Any] | None:
    """A second run for the same request belongs to the first one's decision."""
    earlier = _earlier.get()
    if earlier is None or earlier[1] is not key:
        return None
    earlier[0].call_id = request.call_id(data)
    return _kept(data, earlier[0], key)


instance = GatewayRouter()
