"""Where a request belongs in a distributed trace, in W3C's words, so that the daemon's spans join LiteLLM's own."""

import logging
import re
from collections.abc import Mapping
from typing import Any

_PARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-.{0,200})?")  # later versions may add to it
_LONGEST_STATE = 512  # characters of tracestate, which W3C asks everybody to pass on

_log = logging.getLogger(__name__)


def context(data: Mapping[str, Any], key: object) -> dict[str, str]:
    """Headers for the daemon: LiteLLM's span of the request is the parent where LiteLLM traces, else the client's."""
    try:
        return _of_span(getattr(key, "parent_otel_span", None)) or _of_client(data)
    except Exception:  # no trace is worth a request
        _log.debug("routerd: a request's trace context cannot be read", exc_info=True)
        return {}


def _of_span(span: Any) -> dict[str, str]:
    """OpenTelemetry's span, whose library need not be here."""
    found = span.get_span_context() if span is not None else None
    if found is None or not found.is_valid:
        return {}
    return {"traceparent": f"00-{found.trace_id:032x}-{found.span_id:016x}-{int(found.trace_flags):02x}"}


def _of_client(data: Mapping[str, Any]) -> dict[str, str]:
    sent = data.get("proxy_server_request")
    headers = sent.get("headers") if isinstance(sent, Mapping) else None
    given = {str(name).lower(): str(value) for name, value in headers.items()} if isinstance(headers, Mapping) else {}
    if not _PARENT.fullmatch(given.get("traceparent", "")):
        return {}
    state = given.get("tracestate", "")
    kept = {"tracestate": state} if state and len(state) <= _LONGEST_STATE else {}
    return {"traceparent": given["traceparent"], **kept}
