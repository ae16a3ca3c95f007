"""Trace context on its way from the proxy to the daemon."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from opentelemetry.sdk.trace import TracerProvider

from gateway_plugin import traces

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def sent(**headers: object) -> dict[str, object]:
    return {"proxy_server_request": {"headers": headers}}


def test_client_s_context_is_passed_on() -> None:
    assert traces.context(sent(TraceParent=PARENT, tracestate="a=1"), None) == {
        "traceparent": PARENT,
        "tracestate": "a=1",
    }


def test_litellm_s_span_comes_before_the_client_s() -> None:
    span = TracerProvider().get_tracer("proxy").start_span("request")
    found = span.get_span_context()
    expected = f"00-{found.trace_id:032x}-{found.span_id:016x}-{int(found.trace_flags):02x}"
    assert traces.context(sent(traceparent=PARENT), SimpleNamespace(parent_otel_span=span)) == {"traceparent": expected}


class Broken:
    def get_span_context(self) -> None:
        raise RuntimeError("unlucky")


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({}, None),
        (sent(), None),
        ({"proxy_server_request": None}, None),
        ({"proxy_server_request": {"headers": 7}}, None),
        (sent(traceparent="nonsense"), None),
        (sent(traceparent=f"{PARENT}\r\nx: y"), None),
        (sent(traceparent=7), None),
        (sent(traceparent=PARENT), SimpleNamespace(parent_otel_span=Broken())),
    ],
)
def test_what_is_no_context_is_not_passed_on(data: dict[str, object], key: object) -> None:
    assert traces.context(data, key) == {}


def test_endless_state_is_left_out() -> None:
    assert traces.context(sent(traceparent=PARENT, tracestate="a" * 513), None) == {"traceparent": PARENT}
