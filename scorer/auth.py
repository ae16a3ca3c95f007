"""The bearer token that protects /v1."""

from __future__ import annotations

import hmac

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from scorer.web import Problem, answer_problem


class BearerToken:
    """ASGI middleware: 401 for a /v1 request without `Authorization: Bearer <token>`; no token set, no check."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._expected is None or scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            return await self._app(scope, receive, send)
        given = dict(scope["headers"]).get(b"authorization", b"")
        if hmac.compare_digest(given, self._expected):
            return await self._app(scope, receive, send)
        problem = Problem(
            401,
            "unauthorized",
            "expected `Authorization: Bearer <token>`",
            headers={"www-authenticate": "Bearer"},
        )
        answer = await answer_problem(Request(scope), problem)
        await answer(scope, receive, send)
