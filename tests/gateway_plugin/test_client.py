"""The daemon's client, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from gateway_plugin.client import Client, Refused, Rejected, Unavailable
from gateway_plugin.settings import Settings
from tests.conftest import Serve, free_port


def _app(answer: Response | Callable[[Request], Awaitable[Response]]) -> Starlette:
    async def handler(request: Request) -> Response:
        return answer if isinstance(answer, Response) else await answer(request)

    return Starlette(
        routes=[
            Route("/v1/route", handler, methods=["POST"]),
            Route("/v1/routers", handler),
            Route("/v1/outcomes", handler, methods=["POST"]),
        ]
    )


@contextlib.asynccontextmanager
async def _client(url: str, **more: object) -> AsyncIterator[Client]:
    client = Client(Settings(url=url, **more))  # type: ignore[arg-type]
    try:
        yield client
    finally:
        await client.close()


def _soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_a_question_gets_its_answer_and_carries_the_token(serve: Serve) -> None:
    async def echo(request: Request) -> Response:
        return JSONResponse({"body": await request.json(), "token": request.headers["authorization"]})

    async with _client(serve(_app(echo)), token="t0") as client:
        assert await client.route({"prompt": "ü"}, _soon()) == {"body": {"prompt": "ü"}, "token": "Bearer t0"}


async def test_without_a_token_no_header_is_sent(serve: Serve) -> None:
    async def seen(request: Request) -> Response:
        return JSONResponse({"sent": "authorization" in request.headers})

    async with _client(serve(_app(seen))) as client:
        assert await client.routers(_soon()) == {"sent": False}


def _error(status: int, code: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": f"about {code}"}}, status)


@pytest.mark.parametrize("code", ["bad_name", "unknown_router"])
async def test_what_the_client_got_wrong_is_refused(serve: Serve, code: str) -> None:
    async with _client(serve(_app(_error(400, code)))) as client:
        with pytest.raises(Refused, match=f"about {code}"):
            await client.route({}, _soon())
        assert (client.breaker.state, client.errors, client.timeouts) == ("closed", 0, 0)


@pytest.mark.parametrize(
    ("answer", "reason", "counts_as_dead"),
    [
        (_error(500, "internal"), "http 500", True),
        (_error(503, "busy"), "busy", False),
        (_error(400, "bad_request"), "http 400", False),
        (_error(401, "unauthorized"), "http 401", False),
        (PlainTextResponse("no such page", 404), "http 404", False),
        (RedirectResponse("http://127.0.0.1/elsewhere", 307), "http 307", False),
        (PlainTextResponse("<html>"), "bad answer", True),
        (PlainTextResponse(b"\xff\xfe"), "bad answer", True),
        (PlainTextResponse("[" * 100_000), "bad answer", True),
        (JSONResponse(["a", "list"]), "bad answer", False),
        (PlainTextResponse("x" * 2_000_000), "bad answer", True),
        (JSONResponse({"error": "odd"}, 400), "http 400", False),
    ],
)
async def test_no_usable_answer_has_a_reason(serve: Serve, answer: Response, reason: str, counts_as_dead: bool) -> None:
    async with _client(serve(_app(answer)), breaker_failures=1) as client:
        with pytest.raises(Unavailable) as raised:
            await client.route({}, _soon())
        assert str(raised.value) == reason
        assert (client.errors, client.timeouts) == (1, 0)
        assert client.breaker.state == ("open" if counts_as_dead else "closed")


async def test_a_slow_daemon_is_given_up_at_the_deadline_and_counted_apart(serve: Serve) -> None:
    async def slow(_: Request) -> Response:
        await asyncio.sleep(2)
        return JSONResponse({})

    async with _client(serve(_app(slow)), breaker_failures=2) as client:
        for _ in range(2):
            started = time.perf_counter()
            with pytest.raises(Unavailable, match="timeout"):
                await client.route({}, _soon(0.2))
            assert 0.15 < time.perf_counter() - started < 1.0
        assert (client.timeouts, client.errors, client.breaker.state) == (2, 0, "open")
        started = time.perf_counter()
        with pytest.raises(Unavailable, match="breaker open"):
            await client.route({}, _soon(0.2))
        assert time.perf_counter() - started < 0.05


async def test_a_deadline_that_has_passed_is_a_timeout() -> None:
    async with _client("http://127.0.0.1:9") as client:
        with pytest.raises(Unavailable, match="timeout"):
            await client.route({}, _soon(-1))


async def test_a_daemon_that_is_not_there_is_unreachable() -> None:
    async with _client(f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(Unavailable, match="unreachable"):
            await client.route({}, _soon())
        assert (client.errors, client.timeouts) == (1, 0)


async def test_a_daemon_that_goes_and_comes_back_is_two_lines(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    answers = [_error(500, "internal")] * 4 + [JSONResponse({})] * 3

    async def answer(_: Request) -> Response:
        return answers.pop(0)

    async with _client(url := serve(_app(answer)), breaker_failures=3, breaker_pause_s=0.1) as client:
        while answers:
            with contextlib.suppress(Unavailable):
                await client.route({}, _soon())
            await asyncio.sleep(0.03)
    assert [record.getMessage() for record in caplog.records] == [
        f"routerd: the daemon at {url} does not answer (http 500); requests go to the fallback",
        f"routerd: the daemon at {url} answers again",
    ]


async def test_a_fault_of_every_request_is_logged_once(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async with _client(url := serve(_app(_error(401, "unauthorized")))) as client:
        for _ in range(5):
            with pytest.raises(Unavailable, match="http 401"):
                await client.route({}, _soon())
    assert [record.getMessage() for record in caplog.records] == [
        f"routerd: the daemon at {url} answered 401: about unauthorized"
    ]


async def test_a_cancelled_probe_makes_room_for_the_next(serve: Serve) -> None:
    async def slow(_: Request) -> Response:
        await asyncio.sleep(0.3)
        return JSONResponse({"fine": True})

    async with _client(serve(_app(slow)), breaker_failures=1, breaker_pause_s=0.1) as client:
        with pytest.raises(Unavailable):
            await client.route({}, _soon(0.05))
        await asyncio.sleep(0.1)
        probe = asyncio.create_task(client.route({}, _soon()))
        await asyncio.sleep(0.05)
        assert client.breaker.state == "half-open"
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        assert await client.route({}, _soon()) == {"fine": True}
        assert client.breaker.state == "closed"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (_error(400, "bad_request"), Rejected),
        (_error(413, "too_large"), Rejected),
        (_error(401, "unauthorized"), Unavailable),
        (_error(429, "slow_down"), Unavailable),
        (_error(500, "internal"), Unavailable),
        (_error(503, "busy"), Unavailable),
        (PlainTextResponse("<html>"), Unavailable),
    ],
)
async def test_a_delivery_is_worth_another_try_or_not(serve: Serve, answer: Response, error: type[Exception]) -> None:
    async with _client(serve(_app(answer)), breaker_failures=1) as client:
        with pytest.raises(error):
            await client.deliver([{}], {})
        assert client.breaker.state == "closed"  # deliveries are nobody's wait


async def test_a_delivery_is_an_object_with_the_plugins_report(serve: Serve) -> None:
    bodies = []

    async def take(request: Request) -> Response:
        bodies.append(await request.json())
        return JSONResponse({"recorded": 1})

    async with _client(serve(_app(take))) as client:
        await client.deliver([{"decision_id": "d"}], {"instance": "i"})
    assert bodies == [{"outcomes": [{"decision_id": "d"}], "plugin": {"instance": "i"}}]
