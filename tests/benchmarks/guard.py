"""What it costs a request to be let in: python -m tests.benchmarks.guard

The same ASGI call, in this process, of a route that answers at once: bare, and behind the guard with ten tokens, a rate
limit and rating tokens; and what the daemon's connections cost beside uvicorn's own, over a socket.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import click
import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from gateway_plugin import ids
from scorer.auth import Guard
from scorer.connections import Impatient
from scorer.sections import Rate
from scorer.tokens import Signer, Tokens
from scorer.web import Endpoint
from tests.conftest import served

TOKEN = "the-last-of-all-tokens"
SIGNER = Signer(["k" * 32], 3600)


async def answer(_: Request) -> Response:
    return Response(b"{}")


ENDPOINT = Endpoint("POST", "/v1/route", answer, "", answers={}, scopes=("route", "rating"))


def guarded() -> Guard:
    granted = {f"token-number-{number}": ["route"] for number in range(9)} | {TOKEN: ["route"]}
    return Guard(Tokens(granted), SIGNER, Rate(1e9, 10**6))


def call(app: Starlette, token: str) -> Callable[[], Awaitable[None]]:
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/route",
        "query_string": b"",
        "headers": [(b"host", b"x"), (b"authorization", f"Bearer {token}".encode())],
        "client": ("127.0.0.1", 1),
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        assert message.get("status", 200) == 200

    return lambda: app(dict(scope), receive, send)


async def microseconds(calls: dict[str, Callable[[], Awaitable[None]]], repeats: int, times: int) -> dict[str, float]:
    """Of each the median over the repeats, which take turns."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, one in calls.items():
            began = time.perf_counter()
            for _ in range(times):
                await one()
            taken[name].append((time.perf_counter() - began) / times * 1e6)
    return {name: statistics.median(values) for name, values in taken.items()}


def over_sockets(repeats: int, times: int) -> dict[str, float]:
    """Microseconds of a request on a connection that stays open."""
    app = Starlette(routes=[ENDPOINT.route])
    taken: dict[str, list[float]] = {}
    protocols: dict[str, object] = {"uvicorn's connections": "httptools", "ours": Impatient}
    for _ in range(repeats):
        for name, protocol in protocols.items():
            with served(app, http=protocol) as url, httpx.Client(base_url=url) as client:
                client.post("/v1/route")
                began = time.perf_counter()
                for _ in range(times):
                    client.post("/v1/route")
                taken.setdefault(name, []).append((time.perf_counter() - began) / times * 1e6)
    return {name: statistics.median(values) for name, values in taken.items()}


@click.command()
@click.option("--repeats", default=15)
@click.option("--times", default=2000)
def main(repeats: int, times: int) -> None:
    bare, behind = Starlette(routes=[ENDPOINT.route]), Starlette(routes=[guarded().route(ENDPOINT)])
    calls = {"bare": call(bare, TOKEN), "behind the guard": call(behind, TOKEN)}
    rating = SIGNER.sign(ids.mint()).encode()
    print("\nmicroseconds a request, the median of", repeats)
    for name, taken in asyncio.run(microseconds(calls, repeats, times)).items():
        print(f"{name:24} {taken:8.1f}")
    began = time.perf_counter()
    for _ in range(times):
        SIGNER.holder(rating)
    print(f"{'to read a rating token':24} {(time.perf_counter() - began) / times * 1e6:8.1f}")
    began = time.perf_counter()
    for _ in range(times):
        SIGNER.sign("01900000-0000-7000-8000-000000000000")
    print(f"{'to sign one':24} {(time.perf_counter() - began) / times * 1e6:8.1f}")
    for name, taken in over_sockets(repeats, times // 4).items():
        print(f"{name:24} {taken:8.1f}")


if __name__ == "__main__":
    main()
