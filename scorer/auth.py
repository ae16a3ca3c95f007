"""Who is let in: each call names the scopes of which a token must have one, and how often is limited."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping

from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from scorer.buckets import Buckets
from scorer.config import Config
from scorer.sections import SCOPES, Rate
from scorer.tokens import CALLER, Caller, Signer, Tokens
from scorer.web import Endpoint, Problem, names_this_machine

_CHANGES = 10  # of one signed rating at once; it then may change every six minutes, since all of it is kept
_CHANGES_PER_SECOND = 1 / 360

Headers = Mapping[bytes, bytes]


class Guard:
    """Whom the daemon answers. Where no tokens are configured it can only be reached from its own machine, and answers
    all but web pages of other sites, which a browser there may have open."""

    def __init__(self, tokens: Tokens, signer: Signer | None = None, rate: Rate | None = None) -> None:
        """signer: of rating tokens, if there are any; rate: a caller's, None: as many as come."""
        self._tokens, self._signer = tokens, signer
        self._requests = Buckets(rate.per_second, rate.most_at_once) if rate else None
        self._changes = Buckets(_CHANGES_PER_SECOND, _CHANGES)

    def route(self, endpoint: Endpoint) -> Route:
        """The endpoint's, behind this guard."""
        middleware = [Middleware(_Guarded, guard=self, scopes=endpoint.scopes)] if endpoint.scopes else None
        return Route(endpoint.path, endpoint.handler, methods=[endpoint.method], middleware=middleware)

    def admit(self, scope: Scope, accepted: tuple[str, ...]) -> Caller:
        """The caller, who has one of the accepted scopes. Raises Problem 401, 403 or 429."""
        headers: Headers = dict(scope["headers"])
        caller = self._known(headers) if self._tokens else _neighbour(headers)
        self._limit(caller, scope)
        if caller is None:
            raise _unauthorized(b"authorization" in headers)
        if caller.scopes.isdisjoint(accepted):
            raise _forbidden(caller, accepted)
        return caller

    def _known(self, headers: Headers) -> Caller | None:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        token = token.strip()
        return self._tokens.holder(token) or (self._signer.holder(token) if self._signer else None)

    def _limit(self, caller: Caller | None, scope: Scope) -> None:
        if caller and caller.decision_id:
            wait = self._changes.take(caller.decision_id)
        elif self._requests:
            wait = self._requests.take(caller.name if caller and caller.name else address(scope))
        else:
            return
        if wait:
            message = f"too many requests; the next one is answered in {wait:.3g} seconds"
            raise Problem(429, "too_many_requests", message, headers={"retry-after": str(math.ceil(wait))})


def signer(config: Config) -> Signer | None:
    """Of rating tokens, where end users rate from their browsers."""
    chosen = config.browser_ratings
    return Signer(chosen.keys, chosen.hours * 3600) if chosen else None


class _Guarded:
    """ASGI middleware of one route."""

    def __init__(self, app: ASGIApp, guard: Guard, scopes: tuple[str, ...]) -> None:
        self._app, self._guard, self._scopes = app, guard, scopes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[CALLER] = self._guard.admit(scope, self._scopes)
        await self._app(scope, receive, send)


def address(scope: Scope) -> str:
    """The client's; of an IPv6 one the network, which a single client has whole."""
    host = (scope.get("client") or ("",))[0]
    if ":" not in host:
        return str(host)
    try:
        known = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return str(host)
    return str(known.ipv4_mapped or ipaddress.ip_network((known, 64), strict=False))


_ANYBODY = Caller("", frozenset(SCOPES))


def _neighbour(headers: Headers) -> Caller:
    """Somebody on this machine. Raises Problem for what a browser sends for a page of another site's."""
    if b"origin" in headers or not names_this_machine(headers.get(b"host", b"").decode("latin-1")):
        fault = "without tokens in the configuration this answers programs on this machine, by its own name, alone"
        raise Problem(403, "not_from_here", fault)
    return _ANYBODY


def _unauthorized(tried: bool) -> Problem:
    known = "this token is not known here, or has expired" if tried else "this call takes a token"
    challenge = 'Bearer error="invalid_token"' if tried else "Bearer"
    message = f"{known}; expected `Authorization: Bearer <token>`"
    return Problem(401, "unauthorized", message, headers={"www-authenticate": challenge})


def _forbidden(caller: Caller, accepted: tuple[str, ...]) -> Problem:
    message = f"this token is for {', '.join(sorted(caller.scopes))}; this call takes one for {' or '.join(accepted)}"
    challenge = f'Bearer error="insufficient_scope", scope="{" ".join(accepted)}"'
    return Problem(403, "insufficient_scope", message, headers={"www-authenticate": challenge})
