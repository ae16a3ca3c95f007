"""A scripted scoring daemon: it checks what it is sent against the contract and answers as it is told to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Amount = Annotated[float, msgspec.Meta(ge=0)]


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    decision_id: _Text
    model: _Text
    prompt: str
    needs: dict[str, bool | int | str]
    candidates: Annotated[list[_Text], msgspec.Meta(min_length=1)]
    session_id: _Text | None = None
    user: _Text | None = None
    call_id: _Text | None = None
    metadata: dict[_Text, Annotated[str, msgspec.Meta(max_length=512)]] = {}
    key: _Text | None = None
    team: _Text | None = None
    continuation: bool = False
    cooldown: list[_Text] = []


class Sample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    messages: Annotated[list[dict[str, str]], msgspec.Meta(min_length=1)]
    answer: Annotated[str, msgspec.Meta(min_length=1)]


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    decision_id: _Text
    status: Literal["success", "failure", "fallback", "rejected"]
    chosen: _Text
    call_id: _Text
    call_type: _Text
    served: _Text | None = None
    tokens_in: Annotated[int, msgspec.Meta(ge=1)] | None = None
    tokens_out: Annotated[int, msgspec.Meta(ge=1)] | None = None
    cached_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    cost: _Amount | None = None
    latency_ms: _Amount | None = None
    ttft_ms: _Amount | None = None
    stream: bool | None = None
    disconnected: bool | None = None
    cache_hit: bool | None = None
    error: _Text | None = None
    finish_reason: _Text | None = None
    requested: _Text | None = None
    reason: _Text | None = None
    created_at: float | None = None
    session_id: _Text | None = None
    user: _Text | None = None
    sample: Sample | None = None


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    instance: _Text
    breaker: Literal["closed", "open", "half-open"]
    counters: dict[str, int]


class Delivery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    outcomes: Annotated[list[Outcome], msgspec.Meta(min_length=1)]
    plugin: Report


class Daemon:
    """An ASGI application. Set its attributes to change what it does; reset() undoes that."""

    def __init__(self, ladder: list[str]) -> None:
        self._ladder = ladder
        self.reset()
        self._app = Starlette(
            routes=[
                Route("/v1/routers", self._routers, methods=["GET"]),
                Route("/v1/route", self._route, methods=["POST"]),
                Route("/v1/outcomes", self._outcomes, methods=["POST"]),
            ]
        )

    def reset(self) -> None:
        self.ladder = self._ladder
        self.tags: dict[str, dict[str, str]] = {}  # of the ladder's models
        self.mode = "route"
        self.protocol = 1
        self.sampling = False  # asks for every answer
        self.choice: str | None = None  # None: the cheapest candidate
        self.left_out: tuple[str, ...] = ()  # by guards
        self.behaviour: Callable[[], Awaitable[Response | None]] = normal
        self.questions: list[Question] = []
        self.outcomes: list[Outcome] = []
        self.reports: list[Report] = []
        self.ladders = 0  # times the ladder was asked for
        self.tokens: set[str | None] = set()
        self.parents: list[str | None] = []  # of the questions, in their traces
        self.faults: list[str] = []  # what broke the contract

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def outcome(self, decision_id: str, within: float = 10.0) -> Outcome:
        """The one outcome of a decision, awaited."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            found = [outcome for outcome in self.outcomes if outcome.decision_id == decision_id]
            if found:
                assert len(found) == 1
                return found[0]
            time.sleep(0.02)
        raise AssertionError(f"no outcome for {decision_id} within {within} s; faults: {self.faults}")

    async def _routers(self, request: Request) -> Response:
        self.ladders += 1
        self.tokens.add(request.headers.get("authorization"))
        answer = await self.behaviour()
        ladder = [{"model": model, "like": None, "tags": self.tags.get(model, {})} for model in self.ladder]
        return answer or JSONResponse(
            {"protocol": self.protocol, "mode": self.mode, "default": "mf", "ladder": ladder, "routers": {}}
        )

    async def _route(self, request: Request) -> Response:
        question = self._decoded(await request.body(), Question)
        if question is None:
            return JSONResponse({"error": {"code": "bad_request", "message": self.faults[-1]}}, 400)
        self.questions.append(question)
        self.parents.append(request.headers.get("traceparent"))
        self.tokens.add(request.headers.get("authorization"))
        if answer := await self.behaviour():
            return answer
        model = self.choice or question.candidates[-1]
        rates = {name: round(0.5 + index / 10, 4) for index, name in enumerate(self.ladder)}
        return JSONResponse(
            {
                "decision_id": question.decision_id,
                "model": model,
                "mode": self.mode,
                "router": "mf",
                "version": "v7",
                "win_rates": rates,
                "threshold": 0.75,
                "probabilities": {
                    name: float(name == model) for name in question.candidates if name not in self.left_out
                },
                "propensity": 1.0,
                "explored": False,
                "reason": "below the threshold → cheap",
                "sample_answer": self.sampling,
            }
        )

    async def _outcomes(self, request: Request) -> Response:
        delivery = self._decoded(await request.body(), Delivery)
        if delivery is None:
            return JSONResponse({"error": {"code": "bad_request", "message": self.faults[-1]}}, 400)
        self.outcomes += delivery.outcomes
        self.reports.append(delivery.plugin)
        return JSONResponse({"recorded": len(delivery.outcomes)})

    def _decoded(self, body: bytes, kind: type[T]) -> T | None:
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.faults.append(f"{error}: {body[:500]!r}")
            return None


async def normal() -> Response | None:
    return None


async def slow() -> Response | None:
    await asyncio.sleep(1.5)
    return None


async def garbage() -> Response | None:
    return PlainTextResponse("<html>not what you asked for</html>")


async def failing() -> Response | None:
    return JSONResponse({"error": {"code": "internal", "message": "it broke"}}, 500)


async def busy() -> Response | None:
    return JSONResponse({"error": {"code": "busy", "message": "the queue is full"}}, 503)


async def not_allowed() -> Response | None:
    message = "candidates: none of them is on the ladder (gpt-4o, medium, gpt-4o-mini), with region: eu"
    return JSONResponse({"error": {"code": "not_allowed", "message": message, "field": "candidates"}}, 403)


async def unknown_router() -> Response | None:
    message = "model 'router-sw': this daemon hosts mf"
    return JSONResponse({"error": {"code": "unknown_router", "message": message, "field": "model"}}, 400)
