"""The benchmarks' client: closed-loop, and its figures hang together."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.benchmarks import load
from tests.conftest import Serve

DELAY = 0.05  # seconds of every answer


async def slow(request: Request) -> Response:
    body = await request.body()
    await asyncio.sleep(DELAY)
    return Response(body, 503 if body == b"busy" else 200)


def seen(serve: Serve, connections: int, *bodies: bytes) -> load.Load:
    url = serve(Starlette(routes=[Route("/v1/route", slow, methods=["POST"])])) + "/v1/route"
    return load.run(url, [load.post(url, body) for body in bodies], connections, 1.0, 0.2)


@pytest.mark.parametrize("connections", [1, 8])
def test_requests_under_way_are_as_many_as_connections(serve: Serve, connections: int) -> None:
    """Little's law: answers a second times the mean latency."""
    found = seen(serve, connections, b"a", b"b" * 100_000)
    assert min(found.spans) > 990 * DELAY  # timers are a millisecond coarse
    under_way = found.answered / found.seconds * np.mean(found.spans) / 1000
    assert under_way == pytest.approx(connections, rel=0.15)
    assert found.failed == 0
    assert found.asked >= len(found.spans) >= found.answered - connections


def test_other_answers_than_200_are_counted_apart(serve: Serve) -> None:
    found = seen(serve, 1, b"fine", b"busy")
    assert found.failed == pytest.approx(len(found.spans), abs=1)
