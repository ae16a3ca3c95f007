"""OpenTelemetry traces of decisions: what each stage of a request took, beneath the span that the caller names.

Stages are noted wherever they happen and become spans once the request is answered, so that whoever traces nothing
pays for nothing and needs no library. Needs routerd[telemetry]; where to and how much of it goes is configured by the
usual OTEL_* variables.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scorer.decisions import Decision

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

_TRACED = "/v1/route"
_SERVICE = "routerd"  # unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES says otherwise


class Stage(NamedTuple):
    """A part of a request; Unix nanoseconds."""

    name: str
    began: int
    ended: int


class _Request:
    """What is noted of a request while it is served."""

    def __init__(self) -> None:
        self.began = time.time_ns()
        self.status = 500
        self.stages: list[Stage] = []
        self.attributes: dict[str, str] = {}


_request: ContextVar[_Request | None] = ContextVar("traced_request", default=None)


def note(*stages: Stage) -> None:
    """Stages of the request that is being served, if it is traced."""
    if (request := _request.get()) is not None:
        request.stages.extend(stages)


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Notes what happens inside as a stage, also when it fails."""
    began = time.time_ns()
    try:
        yield
    finally:
        note(Stage(name, began, time.time_ns()))


def decided(decision: Decision) -> None:
    """Names the decision of the request that is being served."""
    if (request := _request.get()) is not None:
        request.attributes |= {
            "routerd.decision_id": decision.decision_id,
            "routerd.model": decision.model,
            "routerd.router": decision.router,
            "routerd.version": decision.version,
            **({"litellm.call_id": decision.call_id} if decision.call_id else {}),
        }


class Traces:
    """Makes spans of what was noted, and sends them on in the background."""

    def __init__(self, processor: SpanProcessor | None = None) -> None:
        """Without a processor: batches to OTEL_EXPORTER_OTLP_ENDPOINT over HTTP. Raises ModuleNotFoundError."""
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        if processor is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            processor = BatchSpanProcessor(OTLPSpanExporter())
        resource = Resource({SERVICE_NAME: _SERVICE}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("routerd")
        self._propagator = TraceContextTextMapPropagator()

    def send(self, request: _Request, headers: Mapping[str, str]) -> None:
        """The request and its stages, beneath what the headers name."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        parent = self._propagator.extract(headers)
        attributes: dict[str, Any] = {**request.attributes, "http.response.status_code": request.status}
        span = self._tracer.start_span("route", parent, SpanKind.SERVER, attributes, start_time=request.began)
        within = set_span_in_context(span, parent)
        for name, began, ended in request.stages:
            self._tracer.start_span(name, within, start_time=began).end(ended)
        if request.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    async def close(self) -> None:
        """Sends what is left, for as long as an export may take."""
        await asyncio.to_thread(self._provider.shutdown)


class Traced:
    """ASGI middleware: every request for a decision is traced."""

    def __init__(self, app: ASGIApp, traces: Traces) -> None:
        self._app = app
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != _TRACED:
            return await self._app(scope, receive, send)
        request = _Request()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                request.status = message["status"]
            await send(message)

        token = _request.set(request)
        try:
            await self._app(scope, receive, sending)
        finally:
            _request.reset(token)
            self._traces.send(
                request, {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            )
