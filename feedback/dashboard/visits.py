"""Who may look and press buttons: a session in a cookie, made from the daemon's token by HMAC; a token in each form.

The cookie says when it was issued, under a signature whose key is derived from the token: it cannot be made without the
token, nor can the token be found from it, and another token ends every session. Nothing is kept on the server, so any
replica knows any session. Where no token is configured the daemon can only be reached from its own machine; whoever
reaches it may then look, and what forms need is made with a key of the process's own.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.requests import Request

COOKIE = "routerd_session"
HOURS = 12
_SECONDS = HOURS * 3600


class Visits:
    """Sessions and form tokens. token: the daemon's; None: no login is needed."""

    def __init__(self, token: str | None, clock: Callable[[], float] = time.time) -> None:
        self._token = token.encode() if token else None
        self._key = hmac.digest(self._token or secrets.token_bytes(32), b"routerd dashboard", hashlib.sha256)
        self._clock = clock

    @property
    def open(self) -> bool:
        """Whether no login is needed."""
        return self._token is None

    def admits(self, token: str) -> bool:
        """Whether it is the daemon's token, in constant time."""
        return self._token is not None and hmac.compare_digest(token.encode(), self._token)

    def issue(self) -> str:
        """A new session."""
        said = f"{int(self._clock())}.{secrets.token_urlsafe(18)}"
        return f"{said}.{self._signed('session', said)}"

    def valid(self, session: str) -> bool:
        """Whether we issued it, and not too long ago."""
        said, _, signature = session.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signed("session", said).encode()):
            return False
        return 0 <= self._clock() - int(said.partition(".")[0]) < _SECONDS

    def form_token(self, session: str) -> str:
        """What every form of a session carries."""
        return self._signed("form", session)

    def sent_by_form(self, session: str, form_token: str) -> bool:
        return hmac.compare_digest(form_token.encode(), self.form_token(session).encode())

    def _signed(self, purpose: str, text: str) -> str:
        return hmac.digest(self._key, f"{purpose} {text}".encode(), hashlib.sha256).hex()


def of_this_site(request: Request) -> bool:
    """Whether a browser says that a page of ours sent it; other clients say nothing, and have no cookie to misuse."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site not in (None, "same-origin", "none"):
        return False
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def names_this_machine(request: Request) -> bool:
    """Whether the address asked for is a loopback one: a stranger's name that resolves to it is not (DNS rebinding)."""
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
