"""What web pages of other sites may send here, straight from their users' browsers: ratings, and nothing else."""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from scorer.sections import BrowserRatings

PATH = "/v1/feedback"


class BrowserAccess:
    """ASGI middleware: answers browsers that ask whether a page may rate, and lets its script read what came of it."""

    def __init__(self, app: ASGIApp, allowed: BrowserRatings) -> None:
        self._app = app
        self._shared = CORSMiddleware(
            app,
            allow_origins=allowed.origins,
            allow_methods=["POST"],
            allow_headers=["Authorization", "Idempotency-Key"],  # and Content-Type
            expose_headers=["Retry-After"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._shared if scope.get("path") == PATH else self._app)(scope, receive, send)
