"""Who may look and press buttons: a session in a cookie, made from an admin token by HMAC; a token in each form.

The cookie says when it was issued, under a signature whose key is derived from the token that opened it: it cannot be
made without the token, nor can the token be found from it, and when that token goes its sessions end. Nothing is kept
on the server, so any replica knows any session. Where no tokens are configured the daemon can only be reached from its
own machine; whoever reaches it may then look, and what forms need is made with a key of the process's own.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence

from starlette.requests import Request

COOKIE = "routerd_session"
HOURS = 12
_SECONDS = HOURS * 3600


class Visits:
    """Sessions and form tokens. tokens: those of admins; None: the daemon has none at all, and no login is needed."""

    def __init__(self, tokens: Sequence[str] | None, clock: Callable[[], float] = time.time) -> None:
        self.open = tokens is None  # whether no login is needed
        secret = [secrets.token_bytes(32)] if tokens is None else [token.encode() for token in tokens]
        self._tokens = [] if tokens is None else secret
        self._keys = [hmac.digest(one, b"routerd dashboard", hashlib.sha256) for one in secret]
        self._clock = clock

    def admits(self, token: str) -> bool:
        """Whether it is an admin's; all are compared, in constant time."""
        return self._place(token) is not None

    def issue(self, token: str = "") -> str:
        """A new session of a token's that is admitted; where no login is needed, of nobody's."""
        said = f"{int(self._clock())}.{secrets.token_urlsafe(18)}"
        return f"{said}.{_signed(self._keys[self._place(token) or 0], 'session', said)}"

    def valid(self, session: str) -> bool:
        """Whether we issued it, and not too long ago."""
        if self._key(session) is None:
            return False
        return 0 <= self._clock() - int(session.partition(".")[0]) < _SECONDS

    def form_token(self, session: str) -> str:
        """What every form of a valid session carries."""
        key = self._key(session)
        return _signed(key, "form", session) if key else ""

    def sent_by_form(self, session: str, form_token: str) -> bool:
        known = self.form_token(session)
        return bool(known) and hmac.compare_digest(form_token.encode(), known.encode())

    def _place(self, token: str) -> int | None:
        """Of an admitted token."""
        given = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        same = [hmac.compare_digest(hashlib.sha256(one).digest(), given) for one in self._tokens]
        return same.index(True) if any(same) else None

    def _key(self, session: str) -> bytes | None:
        """That the session is signed with."""
        said, _, signature = session.rpartition(".")
        given = signature.encode(errors="surrogatepass")
        signed = [hmac.compare_digest(given, _signed(key, "session", said).encode()) for key in self._keys]
        return self._keys[signed.index(True)] if any(signed) else None


def _signed(key: bytes, purpose: str, text: str) -> str:
    return hmac.digest(key, f"{purpose} {text}".encode(errors="surrogatepass"), hashlib.sha256).hex()


def of_this_site(request: Request) -> bool:
    """Whether a browser says that a page of ours sent it; other clients say nothing, and have no cookie to misuse."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site not in (None, "same-origin", "none"):
        return False
    return origin is None or origin.partition("://")[2] == request.headers.get("host")
