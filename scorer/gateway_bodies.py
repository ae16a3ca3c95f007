"""OpenAI's chat completions as bodies: what comes in is checked, what goes out looks like OpenAI's."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from starlette.requests import Request

from gateway_plugin import ids, names, needs
from gateway_plugin import request as sent
from gateway_plugin.routing import Routing
from scorer.web import JSON, Problem

SESSION = "x-routerd-session-id"
DONE = b"data: [DONE]\n\n"

_SESSIONS = (SESSION, "x-litellm-session-id")
_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}

Body = dict[str, Any]


class Model(msgspec.Struct, frozen=True):
    """One name in the list."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "routerd"


class Models(msgspec.Struct, frozen=True):
    """OpenAI's list of models."""

    data: list[Model]
    object: str = "list"


def read(raw: bytes, parameters: Collection[str]) -> Body:
    """A request's body. Raises Problem 400."""
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise Problem(400, "bad_json", f"the body is not JSON: {fault}") from None
    if not isinstance(body, dict):
        raise Problem(400, "bad_request", "the body must be an object")
    if unknown := next((name for name in body if name not in parameters), None):
        raise Problem(400, "unknown_parameter", f"{unknown[:64]}: no parameter of a chat completion", unknown[:64])
    for name, kind, expected in (
        ("model", str, "a name"),
        ("messages", list, "a list of messages"),
        ("stream", bool | None, "true or false"),
        ("stream_options", dict | None, "an object"),
        ("metadata", dict | None, "an object"),
    ):
        if not isinstance(body.get(name), kind):
            raise Problem(400, "bad_request", f"{name}: expected {expected}", name)
    for place, message in enumerate(body["messages"]):
        if not isinstance(message, dict):
            raise Problem(400, "bad_request", f"messages[{place}]: expected an object", f"messages[{place}]")
    return body


def routing(request: Request, body: Body) -> Routing:
    """Who asks for which virtual name, and what it needs. Raises Problem where a name or a tag is none, and for a call
    of routerd's own, which would be routed again."""
    model = body["model"]
    try:
        names.parse(model)
        tags = needs.read((body.get("metadata") or {}).get(needs.METADATA), request.headers.get(needs.HEADER))
    except names.BadName as fault:
        if not names.is_virtual(model):
            message = f"model {model[:100]!r}: neither of the ladder nor a virtual name; {names.ACCEPTED}"
            raise Problem(404, "model_not_found", message, "model") from None
        raise Problem(400, "bad_name", str(fault), "model") from None
    except needs.BadNeeds as fault:
        raise Problem(400, "bad_request", str(fault), needs.METADATA) from None
    if names.MARK in request.headers:
        raise Problem(508, "loop", f"a call of routerd's own asks for {model}, which would be routed again", "model")
    found = Routing(ids.mint(), model, "acompletion", tags=tags, user=sent.identifier(body.get("user")))
    given = [request.headers.get(name) for name in _SESSIONS] + [(body.get("metadata") or {}).get("session_id")]
    found.session_id = next(filter(None, map(sent.identifier, given)), None)
    return found


def whole(answer: Any, model: str) -> bytes:
    """LiteLLM's answer as OpenAI's, by the ladder's name of who gave it."""
    shown = _shown(answer, model)
    for choice in shown.get("choices", ()):
        choice.setdefault("message", {}).setdefault("content", None)
    return msgspec.json.encode(shown)


def event(chunk: Any, model: str, wants_usage: bool) -> bytes | None:
    """A chunk of a stream as OpenAI's event. The last one has the usage and nothing else; None for who did not ask for
    it."""
    shown = _shown(chunk, model)
    if "usage" in shown:
        if not wants_usage:
            return None
        shown["choices"] = []
    return b"data: " + msgspec.json.encode(shown) + b"\n\n"


def broken(message: str) -> bytes:
    """The end of a stream that its provider broke off."""
    return b"data: " + msgspec.json.encode({"error": _fault(502, message)}) + b"\n\n"


def refusal(problem: Problem) -> JSON:
    """A problem of ours in OpenAI's words."""
    return error(problem.status, problem.message, problem.code, problem.field, problem.headers)


def error(
    status: int,
    message: str,
    code: str = "provider_failed",
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSON:
    """OpenAI's error object."""
    return JSON({"error": _fault(status, message, code, param)}, status_code=status, headers=headers)


def _fault(status: int, message: str, code: str = "provider_failed", param: str | None = None) -> dict[str, object]:
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"message": message, "type": kind, "param": param, "code": code}


def _shown(answer: Any, model: str) -> dict[str, Any]:
    shown: dict[str, Any] = answer.model_dump(mode="json", exclude_none=True)
    return shown | {"model": model}
