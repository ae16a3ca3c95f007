"""What every HTTP handler shares: bodies in, JSON out, and errors that name the field."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

T = TypeVar("T")

_PATH = re.compile(r" - at `\$\.?(.*)`$")
_UNKNOWN = re.compile(r"unknown field `(.*?)`")
_MISSING = re.compile(r"missing required field `(.*?)`")


class Problem(Exception):
    """An answer that is not a success: status, machine-readable code, one line for a person, and the field at fault."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        field: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.field, self.headers = status, code, message, field, headers


class JSON(Response):
    """A JSON answer, encoded by msgspec."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        return msgspec.json.encode(content)


class Error(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong: a code for programs, a line for people, and the field at fault."""

    code: str
    message: str
    field: str | None = None


class ErrorAnswer(msgspec.Struct, frozen=True):
    """Every answer that is not a success."""

    error: Error


class Endpoint(NamedTuple):
    """One call of the API: how it is served, and how it is described."""

    method: str
    path: str
    handler: Callable[[Request], Awaitable[Response]]
    summary: str
    answers: Mapping[int, object]  # status: msgspec type
    body: object = None  # msgspec type
    errors: tuple[int, ...] = ()
    headers: tuple[str, ...] = ()  # that it reads, beside the usual ones
    scopes: tuple[str, ...] = ("admin",)  # of a token that may call it: any of them (scorer/tokens.py); none: anybody

    @property
    def route(self) -> Route:
        return Route(self.path, self.handler, methods=[self.method])


async def answer_problem(_: Request, problem: Exception) -> Response:
    """Starlette exception handler for Problem."""
    assert isinstance(problem, Problem)
    answer = ErrorAnswer(Error(problem.code, problem.message, problem.field))
    return JSON(answer, status_code=problem.status, headers=problem.headers)


async def read_body(request: Request, limit: int, seconds: float = 30.0) -> bytes:
    """The body. Raises Problem: 413 once it exceeds `limit` bytes, 408 when it does not arrive in `seconds`."""
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise Problem(413, "too_large", f"the body is larger than {limit} bytes")
    except TimeoutError:
        raise Problem(408, "timeout", f"the body did not arrive within {seconds:g} seconds") from None
    except ClientDisconnect:
        raise Problem(400, "disconnected", "the client left before its body had arrived") from None
    return bytes(body)


async def answer_failure(_: Request, __: Exception) -> Response:
    """Starlette handler for what nobody foresaw; the traceback goes to the log, not to the caller."""
    return JSON(ErrorAnswer(Error("internal", "an error of the daemon's own; see its log")), status_code=500)


def decode(body: bytes, kind: type[T]) -> T:
    """The body as a msgspec type; Problem 400 naming the field (a JSON path such as `messages[3].role`) otherwise."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "bad_json", f"the body is not JSON: {error}") from None


def names_this_machine(host: str) -> bool:
    """Whether the Host header is a loopback name: a stranger's name that resolves to one is not (DNS rebinding)."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _invalid(message: str) -> Problem:
    located = _PATH.search(message)
    path = located.group(1) if located else ""
    text = message[: located.start()] if located else message
    named = _UNKNOWN.search(text) or _MISSING.search(text)
    field = ".".join(part for part in (path, named.group(1) if named else "") if part)
    where = f"{field}: " if field else ""
    return Problem(400, "bad_request", where + text[:1].lower() + text[1:], field or None)
