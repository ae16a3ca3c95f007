"""What the clients count, against a proxy and a daemon that are told how to fail."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gateway_plugin import ids
from tests.conftest import Serve
from tests.soak.__main__ import Row
from tests.soak.faults import Fault, trickle
from tests.soak.load import Load, Tally
from tests.soak.malformed import Malformed


class Whole:
    """A proxy and a daemon in one: of the answers, and of the ratings, every n-th is one that should not be."""

    def __init__(self, bad_answers: int = 0, bad_ratings: int = 0, malformed: int = 400) -> None:
        self.asked, self.rated = itertools.count(1), itertools.count(1)
        self.bad_answers, self.bad_ratings, self.malformed = bad_answers, bad_ratings, malformed
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/feedback", self.feedback, methods=["POST"]),
            ]
        )

    async def chat(self, request: Request) -> Response:
        if await request.body() == b"{":
            return Response(status_code=self.malformed)
        bad = self.bad_answers and next(self.asked) % self.bad_answers == 0
        headers = {"x-routerd-decision-id": ids.mint(), "x-routerd-status": "routed", "x-routerd-reason": "threshold"}
        if (await request.json())["stream"]:
            return PlainTextResponse("data: heard\n\n" + ("" if bad else "data: [DONE]\n\n"), headers=headers)
        answer = {"choices": [{"message": {"content": "heard"}}]}
        return JSONResponse(answer, status_code=500 if bad else 200, headers=headers)

    async def feedback(self, _: Request) -> Response:
        bad = self.bad_ratings and next(self.rated) % self.bad_ratings == 0
        return JSONResponse({"feedback_id": ids.mint()}, status_code=503 if bad else 201)


async def met(serve: Serve, whole: Whole, requests: int = 60) -> Tally:
    url = await asyncio.to_thread(serve, whole.app)
    spoilt = [Malformed("no JSON", b"{", status=400)]
    async with Load(url, [url], ["why?"], clients=3, malformed=spoilt, spoilt_every=10) as load:
        await load.until_asked(requests)
    return load.tally


async def test_all_is_well(serve: Serve) -> None:
    tally = await met(serve, Whole())
    malformed = tally.malformed[400]
    assert malformed in range(tally.requests // 10, tally.requests // 10 + 2)
    assert tally.routed == tally.requests - malformed >= 54
    assert (tally.failures, tally.repeated, tally.unacknowledged) == ({}, 0, 0)
    assert tally.ratings == pytest.approx(tally.requests / 2, abs=5)


async def test_an_error_and_a_stream_without_its_end_are_failures(serve: Serve) -> None:
    tally = await met(serve, Whole(bad_answers=5))
    assert tally.failures.total() == pytest.approx(tally.requests * 0.9 / 5, abs=3)
    assert {reason[:4] for reason in tally.failures} == {"500:", "200:"}


async def test_a_rating_is_posted_until_it_is_acknowledged(serve: Serve) -> None:
    tally = await met(serve, Whole(bad_ratings=3))
    assert tally.repeated > 5
    assert tally.unacknowledged == 0


async def test_a_malformed_request_must_be_answered_as_without_routing(serve: Serve) -> None:
    tally = await met(serve, Whole(malformed=500))
    (said,) = tally.failures
    assert said == "malformed (no JSON): 500 where 400 is answered without routing"


@pytest.mark.parametrize(
    ("tally", "lost", "twice", "back", "survived"),
    [
        (Tally(requests=9, ratings=1, acknowledged={"a"}), 0, 0, 0.1, True),
        (Tally(requests=9, ratings=1, acknowledged={"a"}), 1, 0, 0.1, False),
        (Tally(requests=9, ratings=1, acknowledged={"a"}), 0, 1, 0.1, False),
        (Tally(requests=9, ratings=1, acknowledged={"a"}), 0, 0, None, False),
        (Tally(requests=9, ratings=2, acknowledged={"a"}), 0, 0, 0.1, False),
    ],
    ids=["all well", "one lost", "one twice", "never back", "one never acknowledged"],
)
def test_what_counts_as_survived(tally: Tally, lost: int, twice: int, back: float | None, survived: bool) -> None:
    assert Row(Fault("slow clients", "sqlite", trickle), "", tally, lost, twice, back).survived is survived


def test_a_failure_is_not_survived() -> None:
    tally = Tally(requests=9)
    tally.failures["500"] += 1
    assert not Row(Fault("slow clients", "sqlite", trickle), "", tally, 0, 0, 0.1).survived
