"""Embeddings of texts from an OpenAI-compatible endpoint, `POST {url}/embeddings`, under a deadline.

RouteLLM's mf and sw read prompts through OpenAI's text-embedding-3-small and through nothing else. A call takes its
time on a network, so: many texts a call, a connection that is kept, a cache, few retries, and a circuit breaker, behind
which nobody waits for an endpoint that has just failed.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway_plugin.breaker import Breaker
from scorer.config import ConfigError
from scorer.routers.base import Unscorable
from scorer.sections import EmbeddingsConfig

Floats = NDArray[np.float32]

_TOGETHER = 128  # texts a call
_SURE = 8191  # bytes; text-embedding-3-small takes as many tokens, and a token is a byte at least
_KEPT = 4096  # embeddings, more than a batch holds
_PAUSES = 0.02, 0.1  # seconds before the second and the third try
_FAILURES, _REST = 3, 5.0  # in a row, and the seconds that the endpoint is then left alone

_log = logging.getLogger(__name__)


class _Item(msgspec.Struct):
    embedding: list[float] | str  # a string: little-endian float32 in base64
    index: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Item]


class _Fault(Exception):
    """The endpoint gave no embeddings; one line that says why."""


class _Passing(_Fault):
    """Another try may do, after so many seconds."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class _Refused(_Fault):
    """It will not have this input."""


class Embeddings:
    """A client of one endpoint and model. Thread-safe; one call at a time."""

    def __init__(self, settings: EmbeddingsConfig, dimension: int) -> None:
        self.model, self.dimension = settings.model, dimension
        parts = urlsplit(settings.url.rstrip("/"))
        secure = parts.scheme == "https"
        self._connection = (http.client.HTTPSConnection if secure else http.client.HTTPConnection)(
            parts.hostname or "", parts.port
        )
        self._url, self._path = settings.url.rstrip("/"), f"{parts.path}/embeddings"
        self._key, self._seconds = settings.key, settings.timeout_ms / 1000
        self._breaker = Breaker(_FAILURES, _REST)
        self._kept: OrderedDict[bytes, Floats] = OrderedDict()
        self._lock = threading.Lock()
        self._told = ""  # the last fault that was logged

    def __call__(self, texts: Sequence[str]) -> Floats:
        """(n, d) float32, as the endpoint gives them, which is of unit length; blank texts are not sent and get zeros.

        Raises Unscorable with the rows that could not be had; the others are cached by then.
        """
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        rows: dict[str, list[int]] = {}
        fault = ""
        with self._lock:
            for row, text in enumerate(texts):
                if (known := self._recall(text)) is not None:
                    vectors[row] = known
                elif text.strip():
                    rows.setdefault(text, []).append(row)
            for some in _calls(list(rows)):
                try:
                    answered = self._guarded(some)
                except _Fault as error:
                    fault = f"{self._url}: {error}"
                    continue
                for text, vector in zip(some, answered, strict=True):
                    self._keep(text, vector)
                    vectors[rows.pop(text)] = vector
        if rows:
            raise Unscorable(fault, [row for missing in rows.values() for row in missing])
        return vectors

    def _recall(self, text: str) -> Floats | None:
        key = _digest(text)
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def _keep(self, text: str, vector: Floats) -> None:
        self._kept[_digest(text)] = vector
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    def _guarded(self, texts: Sequence[str]) -> Floats:
        """(n, d) through the breaker. Raises _Fault."""
        if not self._breaker.admit():
            raise _Fault(f"{self._told}; not asked again for {_REST:g} seconds")
        try:
            vectors = self._within(texts, time.monotonic() + self._seconds)
        except _Refused as error:  # it answers, and this text is not to its liking
            self._breaker.succeeded()
            self._tell(str(error))
            raise
        except _Fault as error:
            self._breaker.failed()
            self._tell(str(error))
            raise
        except BaseException:
            self._breaker.released()
            raise
        self._breaker.succeeded()
        self._told = ""
        return vectors

    def _within(self, texts: Sequence[str], deadline: float) -> Floats:
        """A text that may be too long, and is refused, is cut to what surely is not."""
        try:
            return self._tried(texts, deadline)
        except _Refused:
            if not _may_be_too_long(texts[0]):
                raise
            return self._tried([_bytes(texts[0])[:_SURE].decode("utf-8", "ignore")], deadline)

    def _tried(self, texts: Sequence[str], deadline: float) -> Floats:
        """A few times while the fault may pass and there is time."""
        for pause in _PAUSES:
            try:
                return self._answer(texts, deadline)
            except _Passing as fault:
                wait = max(fault.after, pause)
                if time.monotonic() + wait >= deadline:
                    raise
                time.sleep(wait)
        return self._answer(texts, deadline)

    def _answer(self, texts: Sequence[str], deadline: float) -> Floats:
        """One call."""
        return self._vectors(self._post(texts, deadline), len(texts))

    def _post(self, texts: Sequence[str], deadline: float) -> bytes:
        """The body of a 200."""
        asked = {"model": self.model, "input": [_bytes(t).decode() for t in texts], "encoding_format": "base64"}
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            self._wait(deadline)
            self._connection.request("POST", self._path, msgspec.json.encode(asked), headers)
            self._wait(deadline)
            response = self._connection.getresponse()
            raw = self._read(response, deadline, 2**20 + len(texts) * self.dimension * 64)
        except TimeoutError:
            self._connection.close()
            raise _Fault(f"no answer within {self._seconds * 1000:g} ms") from None
        except (OSError, http.client.HTTPException) as error:  # also when a kept connection was closed meanwhile
            self._connection.close()
            raise _Passing(f"cannot be reached ({str(error) or type(error).__name__})") from None
        if response.status != 200:
            raise self._fault(response.status, response.headers.get("Retry-After"), raw)
        return raw

    def _wait(self, deadline: float) -> None:
        """Lets the next operation on the connection last to the deadline."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.timeout = left
        if self._connection.sock is not None:
            self._connection.sock.settimeout(left)

    def _read(self, response: http.client.HTTPResponse, deadline: float, most: int) -> bytes:
        raw = bytearray()
        while chunk := response.read1(2**16):
            raw += chunk
            if len(raw) > most:
                raise http.client.HTTPException("the answer is too large")
            self._wait(deadline)
        response.close()  # else the connection would take it for unread
        return bytes(raw)

    def _fault(self, status: int, retry_after: str | None, raw: bytes) -> _Fault:
        said = f"http {status}: {self._message(raw)}"
        if status in (408, 429) or status >= 500:
            return _Passing(said, float(retry_after) if retry_after and retry_after.isdigit() else 0.0)
        if status in (400, 413, 422):
            return _Refused(said)
        if status in (401, 403):
            return _Fault(f"the key is refused ({said})")
        if status == 404:
            return _Fault(f"no such address, or no model {self.model!r} ({said})")
        return _Fault(said)

    def _message(self, raw: bytes) -> str:
        """What an error answer says, in one line and without the key."""
        try:
            message = str(msgspec.json.decode(raw)["error"]["message"])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
            message = raw.decode("utf-8", "replace")
        shown = " ".join(message.replace(self._key, "***").split() if self._key else message.split())
        return shown[:200] or "no reason given"

    def _vectors(self, raw: bytes, count: int) -> Floats:
        """(n, d) in the order that was asked."""
        try:
            items = msgspec.json.decode(raw, type=_Answer).data
            places = [place if item.index is None else item.index for place, item in enumerate(items)]
            rows = [_numbers(item.embedding) for item in items]
        except (ValueError, RecursionError) as error:  # msgspec's, binascii's, numpy's and Unicode's among them
            raise _Fault(f"answers no embeddings: {error}") from None
        if sorted(places) != list(range(count)):
            raise _Fault(f"answers {len(items)} embeddings for {count} texts")
        if wrong := [row for row in rows if len(row) != self.dimension]:
            raise _Fault(
                f"{self.model!r} answers {len(wrong[0])} dimensions, the checkpoint was made with {self.dimension}"
            )
        vectors = np.empty((count, self.dimension), np.float32)
        vectors[places] = rows
        if not np.isfinite(vectors).all():
            raise _Fault("answers embeddings with NaN or infinity")
        return vectors

    def _tell(self, fault: str) -> None:
        """Logs what is new, and not with every request."""
        if fault != self._told:
            _log.warning("embeddings from %s: %s", self._url, fault)
        self._told = fault


def embeddings_for(directory: Path, settings: EmbeddingsConfig | None) -> EmbeddingsConfig:
    """The settings, without which the checkpoint in a directory is of no use. Raises ConfigError."""
    if settings is None:
        raise ConfigError(
            f"{directory}: a RouteLLM checkpoint that reads prompts through an embeddings endpoint; say which:"
            " `embeddings: {url: ..., key: os.environ/OPENAI_API_KEY}` beside `artifact`,"
            " OPENAI_BASE_URL and OPENAI_API_KEY for `routerd evaluate`"
        )
    return settings


def _calls(texts: Sequence[str]) -> list[list[str]]:
    """Which texts are asked for together. One that may be too long is asked for alone, so that no other pays for it."""
    short = [text for text in texts if not _may_be_too_long(text)]
    blocks = [short[start : start + _TOGETHER] for start in range(0, len(short), _TOGETHER)]
    return [*blocks, *([text] for text in texts if _may_be_too_long(text))]


def _may_be_too_long(text: str) -> bool:
    return len(text) > _SURE or len(_bytes(text)) > _SURE


def _bytes(text: str) -> bytes:
    """UTF-8; lone surrogates, which are in no encoding, replaced."""
    return text.encode("utf-8", "replace")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _numbers(embedding: list[float] | str) -> Floats:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
    with np.errstate(over="ignore"):  # infinity is refused later
        return np.array(embedding, np.float32)
