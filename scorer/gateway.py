"""The daemon as an OpenAI-compatible endpoint, for who has no LiteLLM proxy (docs/endpoints.md).

A virtual name goes through the same decision as `POST /v1/route`, then to the chosen model's provider, and up the
ladder where that fails; the answer has the plugin's headers, and the outcome is what the plugin would report. A model
of the ladder is passed on as it is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway_plugin import failover, names, needs, prompt, samples
from gateway_plugin import request as sent
from gateway_plugin.routing import Routing
from scorer import gateway_bodies as bodies
from scorer.api import Decide, RouteAnswer
from scorer.config import Config
from scorer.gateway_bodies import Body, Model, Models, error, refusal
from scorer.gateway_providers import Failure, Providers, Stream
from scorer.requests import RouteRequest
from scorer.sections import GatewayConfig
from scorer.web import JSON, Endpoint, Problem, read_body

_CLIENT_FAULTS = ("bad_name", "unknown_router", "not_calibrated", "not_allowed")
_CLIENT_LEFT = 499  # nginx's status for it; nobody reads it

T = TypeVar("T")

_log = logging.getLogger(__name__)


class ClientLeft(Exception):
    """The client did not wait for the answer."""


class Gateway:
    """One daemon's. `decide` as for `POST /v1/route`; `report` takes an outcome and does not wait."""

    def __init__(
        self, config: Config, settings: GatewayConfig, decide: Decide, report: Callable[[dict[str, object]], None]
    ) -> None:
        """Raises ConfigError."""
        self._config, self._settings = config, settings
        self._providers = Providers(config, settings)
        self._parameters = self._providers.parameters
        self._decide, self._report_to = decide, report
        self._closing: set[asyncio.Task[None]] = set()

    def endpoints(self) -> list[Endpoint]:
        """As data."""
        return [
            Endpoint(
                "POST",
                "/v1/chat/completions",
                self.chat,
                "OpenAI's chat completion, by the model that is chosen; streams where it is asked to.",
                answers={200: dict[str, Any]},
                body=dict[str, Any],
                errors=(400, 404, 408, 413, 502, 504),
                headers=(needs.HEADER, bodies.SESSION),
                scopes=("route",),
            ),
            Endpoint(
                "GET",
                "/v1/models",
                self.models,
                "OpenAI's list: names to ask for, and the ladder's models.",
                answers={200: Models},
                scopes=("route",),
            ),
        ]

    async def chat(self, request: Request) -> Response:
        try:
            body = bodies.read(await read_body(request, self._config.limits.body_bytes), self._parameters)
            if body["model"] in self._config.models:
                return await self._serve(request, body, [body["model"]], None)
            found, plan = await self._route(request, body)
            return await self._serve(request, body, plan, found)
        except Problem as problem:
            return refusal(problem)

    async def models(self, _: Request) -> Response:
        default = names.parse(self._config.default)
        plain = [
            f"router-{name}" for name in self._config.routers if default.share is not None or name == default.router
        ]
        listed = dict.fromkeys(["router", self._config.default, *plain, *self._config.models])
        return JSON(Models([Model(name) for name in listed]))

    # To a decision

    async def _route(self, request: Request, body: Body) -> tuple[Routing, list[str]]:
        """The routing, and the models to ask, one after the other. Raises Problem for what the client may not have."""
        found = bodies.routing(request, body)
        found.candidates = self._tagged(found)
        observing = self._config.mode == "observe"
        try:
            async with asyncio.timeout(self._settings.decide_ms / 1000):
                answer = await self._decide(self._question(found, body))
            self._take(found, answer, body)
        except TimeoutError:
            self._fall_back(found, "timeout")
        except prompt.BadPrompt as fault:
            self._fall_back(found, f"bad prompt: {fault}")
        except Problem as problem:
            if problem.code in _CLIENT_FAULTS and not observing:
                raise
            self._fall_back(found, str(problem))
        except Exception:
            _log.exception("routing failed; the request goes to the fallback")
            self._fall_back(found, "routing error")
        if observing or found.model is None:
            return found, [self._tagged(found)[0]]
        return found, [found.model, *failover.above_then_below(found.model, found.candidates)]

    def _tagged(self, found: Routing) -> list[str]:
        """The models that have the tags which are needed. Raises Problem 403 where none has."""
        able = [rung.model for rung in self._config.ladder if found.tags.items() <= rung.tags.items()]
        if not able:
            wanted = ", ".join(f"{tag}: {value}" for tag, value in found.tags.items())
            raise Problem(403, "not_allowed", f"no model of the ladder has {wanted}", needs.METADATA)
        return able

    def _question(self, found: Routing, body: Body) -> RouteRequest:
        """Raises BadPrompt."""
        asked = prompt.extract(body, self._settings.score)
        return RouteRequest(
            model=found.requested,
            decision_id=found.decision_id,
            prompt=asked.text,
            needs={**asked.needs, **found.tags},
            session_id=found.session_id or sent.derived(asked.opening),
            user=found.user,
            metadata=sent.flat(body.get("metadata") or {}),
            continuation=asked.continuation,
        )

    def _take(self, found: Routing, answer: RouteAnswer, body: Body) -> None:
        said: dict[str, Any] = msgspec.to_builtins(answer)
        found.decide(said, answer.model, self._config.models)
        found.candidates = failover.left(self._config.models, said)
        if answer.sample_answer:
            found.sample = samples.conversation(body)

    def _fall_back(self, found: Routing, reason: str) -> None:
        able, wanted = found.candidates, self._settings.fallback
        model = wanted if wanted in able else able[0]
        found.fall_back(None if self._config.mode == "observe" else model, reason)

    # To an answer

    async def _serve(self, request: Request, body: Body, plan: Sequence[str], found: Routing | None) -> Response:
        """The first answer that one of the models has; else the first one's failure, with OpenAI's error."""
        first: Failure | None = None
        for model in plan:
            began = time.perf_counter()
            try:
                if body.get("stream"):
                    return self._streamed(
                        body, await _here(request, self._providers.open(model, body)), model, found, began
                    )
                return self._answered(await _here(request, self._providers.ask(model, body)), model, found, began)
            except ClientLeft:
                self._report(found, "failure", {"disconnected": True})
                return Response(status_code=_CLIENT_LEFT)
            except Exception as fault:  # LiteLLM's, of many classes
                failure = self._providers.failure(fault)
                first = first or failure
                if found:
                    found.error = failure.noted
        assert first is not None  # there is always a model to ask
        self._report(found, "failure", {})
        return error(first.status, first.message, headers=_headers(found))

    def _answered(self, answer: Any, model: str, found: Routing | None, began: float) -> Response:
        seen = self._seen(answer, model, found, began, stream=False)
        self._report(found, "success", seen)
        return Response(bodies.whole(answer, model), media_type="application/json", headers=_headers(found))

    def _streamed(self, body: Body, stream: Stream, model: str, found: Routing | None, began: float) -> Response:
        first_at = time.perf_counter()
        wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))

        async def events() -> AsyncIterator[bytes]:
            status, ended = "failure", False
            try:
                async for chunk in stream:
                    if event := bodies.event(chunk, model, wants_usage):
                        yield event
                status, ended = "success", True
                yield bodies.DONE
            except Exception as fault:  # LiteLLM's; the status is sent already
                ended, failure = True, self._providers.failure(fault)
                if found:
                    found.error = failure.noted
                yield bodies.broken(failure.message)
            finally:  # else the client has left, and what it got was an answer
                seen: dict[str, object] = {}
                if status == "success" or not ended:
                    seen = self._seen(self._providers.whole(stream, body), model, found, began, stream=True)
                    seen |= {"ttft_ms": _milliseconds(began, first_at), "disconnected": not ended}
                self._report(found, status if ended else "success", seen)
                self._close(stream)

        return StreamingResponse(events(), media_type="text/event-stream", headers=_headers(found))

    def _seen(self, answer: Any, model: str, found: Routing | None, began: float, stream: bool) -> dict[str, object]:
        """What an outcome says of it; nothing where there is no outcome."""
        if found is None:
            return {}
        said = samples.answer(answer) if found.sample else None
        return {
            "served": model,
            **self._providers.seen(model, answer),
            "latency_ms": _milliseconds(began, time.perf_counter()),
            "stream": stream,
            "sample": {"messages": found.sample, "answer": said} if said else None,
        }

    def _report(self, found: Routing | None, status: str, seen: Mapping[str, object]) -> None:
        if found and not found.reported:
            found.reported = True
            self._report_to(found.outcome(status, seen))

    def _close(self, stream: Stream) -> None:
        """In a task of its own: where the client has left, nothing is waited for any more."""
        task = asyncio.create_task(_quietly(stream.close()))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _here(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result, as long as the client waits for it. Raises ClientLeft."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientLeft
        return task.result()
    finally:
        for one in (task, gone):
            if not one.done():
                one.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await one


async def _quietly(work: Awaitable[None]) -> None:
    with suppress(Exception):
        await work


def _headers(found: Routing | None) -> dict[str, str]:
    return found.headers() if found else {}


def _milliseconds(start: float, end: float) -> float:
    return round((end - start) * 1000, 3)
