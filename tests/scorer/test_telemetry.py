"""Traces: a span a decision, its stages beneath it, and both beneath the caller's."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from scorer import daemon, telemetry
from scorer.config import Config
from scorer.sections import EncoderConfig
from scorer.telemetry import Traced, Traces
from tests.conftest import Serve
from tests.demo.stack import ROOT
from tests.scorer.conftest import HARD, TWO, route

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CONTEXT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


async def works(_: Request) -> Response:
    with telemetry.stage("decide"):
        await asyncio.sleep(0.01)
    return PlainTextResponse("done")


async def breaks(_: Request) -> Response:
    with telemetry.stage("decide"):
        raise RuntimeError("unlucky")


async def asked(handler: object, path: str = "/v1/route", **headers: str) -> tuple[ReadableSpan, ...]:
    """The spans of one request to an application with this handler."""
    spans = InMemorySpanExporter()
    routes = [Route(path, handler, methods=["POST"])]  # type: ignore[arg-type]
    app = Starlette(routes=routes, middleware=[Middleware(Traced, traces=Traces(SimpleSpanProcessor(spans)))])
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        await client.post(path, headers=headers)
    return spans.get_finished_spans()


async def test_stage_is_a_span_within_the_request_s() -> None:
    stage, whole = await asked(works)
    assert (whole.name, stage.name) == ("route", "decide")
    assert whole.kind is SpanKind.SERVER
    assert stage.parent is not None
    assert stage.parent.span_id == whole.context.span_id
    assert whole.start_time <= stage.start_time < stage.end_time <= whole.end_time  # type: ignore[operator]
    assert stage.end_time - stage.start_time >= 10_000_000  # type: ignore[operator]


async def test_request_belongs_to_the_trace_that_its_caller_names() -> None:
    for span in await asked(works, **CONTEXT):
        assert f"{span.context.trace_id:032x}" == TRACE
    assert whole_parent(await asked(works, **CONTEXT)) == int(PARENT, 16)


@pytest.mark.parametrize("said", ["", "nonsense", f"00-{'0' * 32}-{PARENT}-01"])
async def test_without_a_usable_caller_it_is_a_trace_of_its_own(said: str) -> None:
    assert whole_parent(await asked(works, traceparent=said)) is None


async def test_caller_that_does_not_sample_is_followed() -> None:
    assert await asked(works, traceparent=f"00-{TRACE}-{PARENT}-00") == ()


async def test_failure_is_told_with_the_stage_that_it_happened_in() -> None:
    stage, whole = await asked(breaks)
    assert (stage.name, whole.status.status_code) == ("decide", StatusCode.ERROR)
    assert whole.attributes == {"http.response.status_code": 500}


async def test_other_calls_are_not_traced() -> None:
    assert await asked(works, "/v1/outcomes") == ()


def whole_parent(spans: tuple[ReadableSpan, ...]) -> int | None:
    (whole,) = (span for span in spans if span.name == "route")
    return whole.parent.span_id if whole.parent else None


def test_daemon_sends_its_decision_s_stages_to_the_collector(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[bytes] = []

    async def collect(request: Request) -> Response:
        taken.append(await request.body())
        return Response(media_type="application/x-protobuf")

    collector = serve(Starlette(routes=[Route("/v1/traces", collect, methods=["POST"])]))
    for name, value in {"EXPORTER_OTLP_ENDPOINT": collector, "BSP_SCHEDULE_DELAY": "50"}.items():
        monkeypatch.setenv(f"OTEL_{name}", value)
    config = Config(TWO, data_dir=tmp_path, encoder=EncoderConfig("static"), telemetry=True)
    with httpx.Client(base_url=serve(daemon.build(config)), headers=CONTEXT) as client:
        decision = route(client, HARD, call_id="call-7")
    spans = {span.name: span for span in awaited(taken)}
    assert set(spans) == {"route", "encode", "score", "decide", "log"}
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    whole = spans.pop("route")
    assert whole.parent_span_id.hex() == PARENT
    attributes = {each.key: each.value.string_value for each in whole.attributes if each.value.string_value}
    assert attributes == {
        "routerd.decision_id": decision["decision_id"],
        "routerd.model": decision["model"],
        "routerd.router": "mf",
        "routerd.version": decision["version"],
        "litellm.call_id": "call-7",
    }
    ordered = [spans[name] for name in ("encode", "score", "decide", "log")]
    assert [span.parent_span_id for span in ordered] == [whole.span_id] * 4
    times = [time for span in ordered for time in (span.start_time_unix_nano, span.end_time_unix_nano)]
    assert times == sorted(times)
    assert whole.start_time_unix_nano <= times[0]
    assert times[-1] <= whole.end_time_unix_nano
    assert not [body for body in taken if b"integral" in body], "a prompt's words are nobody's business"
    assert all(b"routerd" in body for body in taken)  # the service's name


def awaited(taken: list[bytes]) -> list[Span]:
    """All spans of the first request that arrived at the collector."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        requests = [ExportTraceServiceRequest.FromString(body) for body in list(taken)]
        found = [
            span for one in requests for of in one.resource_spans for scope in of.scope_spans for span in scope.spans
        ]
        if len(found) >= 5:
            return found
        time.sleep(0.02)
    raise AssertionError("no spans arrived")


def test_daemon_without_telemetry_loads_none_of_it(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from scorer import daemon;\n"
        "from scorer.config import Config; from scorer.sections import EncoderConfig, RouterConfig, Rung\n"
        f"where = Path({str(tmp_path)!r})\n"
        "daemon.build(Config((Rung('a'), Rung('b')), data_dir=where, encoder=EncoderConfig('static'),"
        " routers={'random': RouterConfig()}, default='router-random-0.5'))\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60).returncode == 0
