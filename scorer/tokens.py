"""Who calls, and what he may do: a bearer token with its scopes, or one that is good for rating one decision."""

from __future__ import annotations

import hashlib
import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from starlette.requests import Request

RATING = "rating"  # the scope of what `Signer` signs; no token has it
CALLER = "routerd.caller"  # where the caller is in an ASGI scope


class Caller(NamedTuple):
    """name: tells one from another, and no secret; decision_id: the only one that may be rated."""

    name: str
    scopes: frozenset[str]
    decision_id: str | None = None


def caller(request: Request) -> Caller | None:
    """Of a request that was let in; None where nobody looked."""
    found: Caller | None = request.scope.get(CALLER)
    return found


class Tokens:
    """Tokens by their SHA-256. All are compared, whatever comes: the time it takes tells nothing of them."""

    def __init__(self, granted: Mapping[str, Collection[str]]) -> None:
        """granted: the scopes of each token."""
        digests = {hashlib.sha256(token.encode()).digest(): frozenset(scopes) for token, scopes in granted.items()}
        self._known = [(digest, Caller(digest.hex()[:16], scopes)) for digest, scopes in digests.items()]

    def __len__(self) -> int:
        return len(self._known)

    def holder(self, token: bytes) -> Caller | None:
        """Whose token it is."""
        given = hashlib.sha256(token).digest()
        found = [known for digest, known in self._known if hmac.compare_digest(digest, given)]
        return found[0] if found else None


class Signer:
    """Makes and reads rating tokens: `<decision id>.<Unix seconds at which it ends>.<HMAC-SHA256 of both, base64url>`.

    Nothing is kept, so any replica with the same keys knows any of them.
    """

    def __init__(self, keys: Sequence[str], seconds: float, clock: Callable[[], float] = time.time) -> None:
        """keys: the first one signs, all are accepted."""
        self._keys = [key.encode() for key in keys]
        self._seconds, self._clock = seconds, clock

    def sign(self, decision_id: str) -> str:
        """A token to rate the decision with."""
        said = f"{decision_id}.{int(self._clock() + self._seconds)}"
        return f"{said}.{_signature(self._keys[0], said)}"

    def holder(self, token: bytes) -> Caller | None:
        """Who may rate what the token says; None if we did not sign it, or too long ago."""
        said, _, signature = token.decode("latin-1").rpartition(".")
        signed = [hmac.compare_digest(_signature(key, said).encode(), signature.encode()) for key in self._keys]
        if not any(signed):
            return None
        decision_id, _, ends = said.rpartition(".")
        return Caller(decision_id, frozenset((RATING,)), decision_id) if self._clock() < int(ends) else None


def _signature(key: bytes, said: str) -> str:
    digest = hmac.digest(key, f"rating {said}".encode(), hashlib.sha256)
    return urlsafe_b64encode(digest).rstrip(b"=").decode()
