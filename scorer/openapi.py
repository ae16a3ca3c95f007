"""The OpenAPI document, made from the same endpoints and message types that serve."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from scorer.web import Endpoint, ErrorAnswer

_PARAMETER = re.compile(r"{(\w+)}")
_ERRORS = {
    400: "The request is wrong; `field` names where.",
    401: "No token, or a wrong one.",
    403: "The token may not do this; or the caller may have none of the models.",
    404: "There is no such thing.",
    408: "The body did not arrive in time.",
    409: "The Idempotency-Key came before, with another body; or the call id is not unique.",
    413: "The body is too large.",
    429: "Too many requests; Retry-After says when to come back.",
    502: "The provider failed.",
    503: "Too busy, or the database is away; Retry-After says when to come back.",
    504: "The provider did not answer in time.",
}


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """OpenAPI 3.1 for the endpoints."""
    types: list[Any] = [ErrorAnswer]
    for endpoint in endpoints:
        types += [kind for kind in (endpoint.body, *endpoint.answers.values()) if kind is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(map(repr, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "routerd", "version": version("routerd")},
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "paths": paths,
    }


def _operation(endpoint: Endpoint, schema_of: dict[str, Any]) -> dict[str, Any]:
    answers = {status: ("As asked.", schema_of[repr(kind)]) for status, kind in endpoint.answers.items()}
    guarded = (401, 403, 429) if endpoint.scopes else ()
    errors = sorted({*endpoint.errors, *guarded})
    faults = {status: (_ERRORS[status], schema_of[repr(ErrorAnswer)]) for status in errors}
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": endpoint.handler.__name__,
        "security": [{}, *({"token": [scope]} for scope in endpoint.scopes)],  # {}: where no tokens are configured
        "responses": {
            str(status): {"description": text, "content": {"application/json": {"schema": schema}}}
            for status, (text, schema) in (answers | faults).items()
        },
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _PARAMETER.findall(endpoint.path)
        ]
        + [{"name": name, "in": "header", "schema": {"type": "string"}} for name in endpoint.headers],
    }
    if endpoint.body is not None:
        content = {"application/json": {"schema": schema_of[repr(endpoint.body)]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation
