"""The daemon, as the proxy sees it: two questions under a deadline, and a place to deliver outcomes."""

import asyncio
import json
import logging
import ssl
from collections.abc import Mapping, Sequence

import aiohttp

from gateway_plugin.breaker import Breaker
from gateway_plugin.faults import Refused as Refused
from gateway_plugin.faults import Rejected as Rejected
from gateway_plugin.faults import Unavailable as Unavailable
from gateway_plugin.settings import Settings

logger = logging.getLogger(__name__)

PROTOCOL = 1

_CLIENT_FAULTS = ((400, "bad_name"), (400, "unknown_router"), (400, "not_calibrated"), (403, "not_allowed"))
_DELIVERY_S = 5.0
_LARGEST_ANSWER = 1 << 20  # bytes


class Client:
    """Bound to the event loop that it is first used in. `timeouts` and `errors` are counts."""

    def __init__(self, settings: Settings) -> None:
        self.breaker = Breaker(settings.breaker_failures, settings.breaker_pause_s)
        self.timeouts = 0
        self.errors = 0
        self._url = settings.url
        self._settings = settings
        self._headers = {"Authorization": f"Bearer {settings.token}"} if settings.token else {}
        self._session: aiohttp.ClientSession | None = None
        self._told = ""  # the last fault that was logged

    async def route(
        self, body: Mapping[str, object], deadline: float, headers: Mapping[str, str] | None = None
    ) -> Mapping[str, object]:
        """The answer of POST /v1/route. Raises Unavailable or Refused. `deadline` is in the loop's time."""
        return await self._ask("POST", "/v1/route", body, deadline, headers)

    async def routers(self, deadline: float) -> Mapping[str, object]:
        """The answer of GET /v1/routers. Raises Unavailable."""
        return await self._ask("GET", "/v1/routers", None, deadline)

    async def deliver(self, outcomes: Sequence[object], plugin: Mapping[str, object]) -> None:
        """POST /v1/outcomes, past the breaker. Raises Unavailable if worth another try, else Rejected."""
        try:
            status, answer = await self._call(
                "POST", "/v1/outcomes", {"outcomes": outcomes, "plugin": plugin}, _DELIVERY_S
            )
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable(type(error).__name__) from error
        if 400 <= status < 500 and status not in (401, 403, 404, 408, 429):
            raise Rejected(_error(answer)[1])
        if status >= 300:
            raise Unavailable(f"http {status}")

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        deadline: float,
        headers: Mapping[str, str] | None = None,
    ) -> Mapping[str, object]:
        if not self.breaker.admit():
            raise Unavailable("breaker open")
        try:
            left = deadline - asyncio.get_running_loop().time()
            status, answer = await self._call(method, path, body, left, headers)
        except TimeoutError:
            self.timeouts += 1
            self._failed("timeout")
            raise Unavailable("timeout") from None
        except (aiohttp.ClientError, OSError) as error:
            self.errors += 1
            self._failed(str(error))
            raise Unavailable("unreachable") from error
        except ValueError as error:
            self.errors += 1
            self._failed(f"bad answer: {error}")
            raise Unavailable("bad answer") from error
        except BaseException:
            self.breaker.released()
            raise
        return self._judge(status, answer)

    def _judge(self, status: int, answer: object) -> Mapping[str, object]:
        """A daemon that is busy (503) or finds fault (4xx) answers at once, so the breaker counts it as alive:
        open, it would save no waiting and turn away what a busy daemon can still serve.
        """
        if status >= 500 and status != 503:
            self.errors += 1
            self._failed(f"http {status}")
            raise Unavailable(f"http {status}")
        self._answered()
        if status == 200 and isinstance(answer, Mapping):
            return answer
        code, message = _error(answer)
        if (status, code) in _CLIENT_FAULTS:
            raise Refused(status, message)
        self.errors += 1
        if status == 200:
            raise Unavailable("bad answer")
        if status == 503:
            raise Unavailable("busy")
        self._tell(f"the daemon at {self._url} answered {status}: {message}")
        raise Unavailable(f"http {status}")

    def _failed(self, fault: str) -> None:
        was = self.breaker.state
        self.breaker.failed()
        if self.breaker.state == "open" and was == "closed":
            self._tell(f"the daemon at {self._url} does not answer ({fault}); requests go to the fallback")

    def _answered(self) -> None:
        if self.breaker.state == "half-open":
            self._tell(f"the daemon at {self._url} answers again")
        self.breaker.succeeded()

    def _tell(self, line: str) -> None:
        """Logs what is new, and not with every request."""
        if line != self._told:
            logger.warning("routerd: %s", line)
        self._told = line

    async def _call(
        self, method: str, path: str, body: object, seconds: float, headers: Mapping[str, str] | None = None
    ) -> tuple[int, object]:
        """Status and decoded body. Raises TimeoutError, ClientError, OSError, or ValueError for no JSON."""
        if seconds <= 0:
            raise TimeoutError
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers | {"Content-Type": "application/json"},
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60, ssl=_trusted(self._settings)),
            )
        data = None if body is None else json.dumps(body).encode()
        timeout = aiohttp.ClientTimeout(total=seconds)
        async with self._session.request(
            method, self._url + path, data=data, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            raw = await _read(response.content)
            if response.status != 200 and response.content_type != "application/json":
                return response.status, None
            return response.status, _decoded(raw)


def _trusted(settings: Settings) -> ssl.SSLContext | bool:
    """What https is spoken by. Raises OSError for a file that is no certificate."""
    if settings.ca is None and settings.certificate is None:
        return True
    context = ssl.create_default_context(cafile=settings.ca)
    if settings.certificate:
        context.load_cert_chain(settings.certificate, password="")  # rather a fault than a question at a terminal
    return context


async def _read(stream: aiohttp.StreamReader) -> bytes:
    """The whole body; ValueError once it exceeds what any answer can be."""
    raw = bytearray()
    async for chunk in stream.iter_any():
        raw += chunk
        if len(raw) > _LARGEST_ANSWER:
            raise ValueError("the answer is too large")
    return bytes(raw)


def _decoded(raw: bytes) -> object:
    try:
        return json.loads(raw)
    except RecursionError:
        raise ValueError("the answer is nested too deeply") from None


def _error(answer: object) -> tuple[str, str]:
    """Code and message of an error answer."""
    error = answer.get("error") if isinstance(answer, Mapping) else None
    if not isinstance(error, Mapping):
        return "", "no reason given"
    return str(error.get("code", "")), str(error.get("message", "no reason given"))[:500]
