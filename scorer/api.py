"""The daemon's scoring endpoints: parse, call, answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from scorer import logs
from scorer.config import Config
from scorer.decisions import Decision
from scorer.requests import Label, RouteRequest
from scorer.routing import Routing
from scorer.scoring import Hosted, Job, Scoring
from scorer.tokens import Signer
from scorer.web import JSON, Endpoint, Problem, decode, read_body

PROTOCOL = 1

_REPORTED_SHARES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9)


class RouteAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of `POST /v1/route`: the part of a decision that its caller acts on or shows."""

    decision_id: str
    model: str
    router: str
    version: str
    mode: str
    win_rates: dict[str, float]
    threshold: float
    probabilities: dict[str, float]
    propensity: float
    explored: bool
    reason: str
    quality: dict[str, float] | None = None
    policy: str | None = None  # threshold, budget, lambda or quality target
    pinned: str | None = None  # what left no choice: guard, rule, session or tool_loop
    rule: str | None = None  # the name of the one that matched
    sample_answer: bool = False  # the outcome should bring the answer, for the judge
    rating_token: str | None = None  # with which a browser may rate the answer


Decide = Callable[[RouteRequest], Awaitable[RouteAnswer]]


class ScoreRequest(msgspec.Struct, frozen=True):
    """The body of `POST /v1/score`; `strong` and `weak` default to the whole ladder."""

    prompts: Annotated[list[str], msgspec.Meta(max_length=256)]
    router: str = "router"
    strong: Label | None = None
    weak: Label | None = None


class ScoreAnswer(msgspec.Struct, frozen=True):
    """Per prompt, P(the strongest model's answer beats model m's), ties counted half."""

    router: str
    version: str
    win_rates: list[dict[str, float]]


class RungAnswer(msgspec.Struct, frozen=True):
    """One model of the ladder; `tags` for requests that need them."""

    model: str
    like: str | None
    tags: dict[str, str] = {}


class RouterAnswer(msgspec.Struct, frozen=True):
    """A router that is hosted; `thresholds` of common shares of traffic to the strongest model, such as p30: none
    while it is not calibrated."""

    version: str
    calibrated_on: str | None
    thresholds: dict[str, float]


class RoutersAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What this daemon serves; the ladder runs from the strongest model to the cheapest."""

    protocol: int
    mode: str
    default: str
    exploration: float
    encoder_id: str
    ladder: list[RungAnswer]
    routers: dict[str, RouterAnswer]


class Status(msgspec.Struct, frozen=True):
    """How the process is."""

    status: str


def deciding(
    routing: Routing,
    judged: Callable[[Decision], bool] = lambda _: False,
    took: Callable[[str, float], None] = lambda stage, seconds: None,
    signer: Signer | None = None,
) -> Decide:
    """How a request gets its decision, and the answer about it; the arguments are those of `endpoints`."""

    async def decide(asked: RouteRequest) -> RouteAnswer:
        logs.decision_id.set(asked.decision_id)
        began = time.perf_counter()
        decision = await routing.decide(asked)
        took("decide", time.perf_counter() - began)
        answer = msgspec.convert(decision, RouteAnswer, from_attributes=True)
        signed = signer.sign(decision.decision_id) if signer else None
        return msgspec.structs.replace(answer, sample_answer=judged(decision), rating_token=signed)

    return decide


def endpoints(
    config: Config,
    scoring: Scoring,
    routing: Routing,
    ready: Callable[[], Awaitable[None]],
    judged: Callable[[Decision], bool] = lambda _: False,
    took: Callable[[str, float], None] = lambda stage, seconds: None,
    signer: Signer | None = None,
) -> list[Endpoint]:
    """The scoring endpoints as data. `ready` raises while a dependency is away; `judged` says whose answer is asked
    for; `took` is told how long each decision took; `signer` signs what browsers may rate."""

    decide = deciding(routing, judged, took, signer)

    async def route(request: Request) -> Response:
        return JSON(await decide(decode(await read_body(request, config.limits.body_bytes), RouteRequest)))

    async def score(request: Request) -> Response:
        body = decode(await read_body(request, config.limits.body_bytes), ScoreRequest)
        name = routing.ask(body.router if body.router.startswith("router") else f"router-{body.router}").router
        pair = _pair(config, scoring, name, body)
        jobs = [Job(name, text, tuple(pair.values())) for text in body.prompts]
        scored = await asyncio.gather(*(routing.score(job) for job in jobs))
        version = scored[0].hosted.router.version if scored else scoring.hosted[name].router.version
        win_rates = [dict(zip(pair, one.win_rates, strict=True)) for one in scored]
        return JSON(ScoreAnswer(name, version, win_rates))

    async def routers(_: Request) -> Response:
        return JSON(describe(config, scoring))

    async def alive(_: Request) -> Response:
        return JSON(Status("alive"))

    async def readiness(_: Request) -> Response:
        await ready()
        return JSON(Status("ready"))

    return [
        Endpoint(
            "POST",
            "/v1/route",
            route,
            "Decide which model answers a request, and log the decision.",
            answers={200: RouteAnswer},
            body=RouteRequest,
            errors=(400, 403, 408, 413, 503),
            scopes=("route",),
        ),
        Endpoint(
            "POST",
            "/v1/score",
            score,
            "Win rates of prompts; nothing is logged.",
            answers={200: ScoreAnswer},
            body=ScoreRequest,
            errors=(400, 408, 413, 503),
            scopes=("route", "admin"),
        ),
        Endpoint(
            "GET",
            "/v1/routers",
            routers,
            "The ladder and the routers, with versions and thresholds.",
            answers={200: RoutersAnswer},
            scopes=("route", "admin"),
        ),
        Endpoint("GET", "/healthz", alive, "Whether the process lives.", answers={200: Status}, scopes=()),
        Endpoint(
            "GET",
            "/readyz",
            readiness,
            "Whether it can decide and store.",
            answers={200: Status},
            errors=(503,),
            scopes=(),
        ),
    ]


def describe(config: Config, scoring: Scoring) -> RoutersAnswer:
    """What this daemon serves."""
    return RoutersAnswer(
        protocol=PROTOCOL,
        mode=config.mode,
        default=config.default,
        exploration=config.exploration,
        encoder_id=scoring.encoder.id,
        ladder=[RungAnswer(rung.model, rung.like, rung.tags) for rung in config.ladder],
        routers={name: _hosted(hosted) for name, hosted in scoring.hosted.items()},
    )


def _hosted(hosted: Hosted) -> RouterAnswer:
    if hosted.calibration is None:
        return RouterAnswer(hosted.router.version, None, {})
    thresholds = {f"p{share * 100:g}": hosted.calibration.threshold(share) for share in _REPORTED_SHARES}
    return RouterAnswer(hosted.router.version, hosted.calibration.sample, thresholds)


def _pair(config: Config, scoring: Scoring, router: str, body: ScoreRequest) -> dict[str, str]:
    """Models to score, strongest first, each with the name that the router knows. Raises Problem 400."""
    known_as = dict(zip(config.models, scoring.hosted[router].ladder, strict=True))
    if body.strong is None and body.weak is None:
        return known_as
    pair = {}
    for field, model in (
        ("strong", body.strong or config.models[0]),
        ("weak", body.weak or config.models[-1]),
    ):
        known = known_as.get(model, model)
        if not scoring.hosted[router].router.knows(known):
            fault = f"{field}: {model!r} is neither on the ladder nor known to {router}"
            raise Problem(400, "unknown_model", fault, field)
        pair[model] = known
    if len(pair) == 1:
        raise Problem(400, "bad_request", "strong, weak: expected two different models", "weak")
    return pair
