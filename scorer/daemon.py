"""The composition root: a Config in, a Starlette application out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import feedback.api
import feedback.judge
import scorer.api
from feedback import erasing
from feedback.dashboard.commands import Commands
from feedback.dashboard.pages import Pages
from feedback.dashboard.summary import Summaries
from feedback.dashboard.summary import endpoint as figures
from feedback.database import Unavailable
from feedback.plugins import Plugins
from feedback.records import SampledOutcome
from feedback.store import Store
from feedback.writer import DecisionWriter
from gateway_plugin import faults, names
from gateway_plugin.outcomes import Deliver, Outcome, Outcomes
from scorer import chores, hosting, logs, openapi, steering, telemetry
from scorer.auth import Guard, signer
from scorer.batching import Batcher
from scorer.browsers import BrowserAccess
from scorer.budget import Steering
from scorer.config import Config, ConfigError
from scorer.conversations import Conversations
from scorer.decisions import Decision
from scorer.gateway import Gateway
from scorer.metrics import Measured, Metrics, State
from scorer.routers.base import Unscorable
from scorer.routing import Routing
from scorer.scoring import Job, Scored, Scoring, uncalibrated
from scorer.telemetry import Traced, Traces
from scorer.tokens import Tokens
from scorer.web import JSON, Endpoint, Problem, answer_failure, answer_problem


def build(
    config: Config, retrain: Sequence[str] = (), commands: Commands | None = None, erase: Sequence[str] = ()
) -> Starlette:
    """Loads everything that serves, so that a fault shows before the port opens, and puts it together.

    retrain: the command that makes a nightly run, in a process of its own; without one there are none. commands: what
    the dashboard's buttons run; without them it has none. erase: the command that carries out erasures, likewise.
    Raises ConfigError, EncoderError, ArtifactError or StoreError.
    """
    traces = Traces() if config.telemetry else None
    scoring = hosting.load_scoring(config)
    store = hosting.open_store(config)
    _at_once(hosting.follow(config, store, scoring))
    _check_calibrated(config, scoring)
    steering.check(config, scoring)
    writer = DecisionWriter(store, config.limits.unwritten)
    limits = config.limits
    metrics = Metrics()
    metrics.built(scorer.api.PROTOCOL, scoring.encoder.name)
    scoring.took, store.listener = metrics.took, metrics
    batchers = {
        name: Batcher(scoring.score, capacity=limits.queue, largest=limits.batch, batched=partial(metrics.batch, name))
        for name in scoring.hosted
    }
    log, plugins = _log_to(writer, metrics), Plugins()
    metrics.follow(partial(_state, batchers, writer, scoring, plugins))
    held, conversations = Steering(), Conversations(store.find_pin, store.write_pin)
    routing = Routing(config, scoring.encoder.id, batchers, log, store.find_decision, conversations, held)
    judge = feedback.judge.create(config, store)
    judged = judge.wants if judge else lambda _: False
    outcomes = Outcomes(_report_to(store, judge), limits.unwritten)
    signs = signer(config)
    decide = scorer.api.deciding(routing, judged, metrics.took, signs)
    gateway = Gateway(config, config.gateway, decide, outcomes.put) if config.gateway else None
    regular = chores.chores(config, store, scoring, metrics, held, judge, retrain, erase)
    summaries = Summaries(config, store, scoring.hosted.__getitem__)
    explainer = hosting.explainer(config, store, scoring)
    guard = Guard(Tokens(config.granted), signs, limits.rate)
    pages = Pages(config, store, writer, scoring, summaries, explainer, hosting.configured(config), commands)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work()) for work in (*(batcher.run for batcher in batchers.values()), *regular)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await outcomes.close()
            if judge:
                await judge.close()
            if commands:
                await commands.close()
            await writer.close()
            await store.close()
            if traces:
                await traces.close()

    endpoints = [
        *scorer.api.endpoints(config, scoring, routing, store.ping, judged, metrics.took, signs),
        *(gateway.endpoints() if gateway else []),
        *feedback.api.endpoints(store, writer, plugins, routing.keep, explainer.explain, judge.take if judge else None),
        *erasing.endpoints(store, writer),
        figures(summaries),
    ]
    described = openapi.document(endpoints)
    return Starlette(
        routes=[
            *(guard.route(endpoint) for endpoint in endpoints),
            *pages.routes(),
            Route("/openapi.json", lambda _: JSON(described)),
            guard.route(_metrics(config, metrics)),
        ],
        middleware=[
            *([Middleware(Traced, traces=traces)] if traces else []),
            Middleware(Measured, metrics=metrics, endpoints=endpoints),
            *([Middleware(BrowserAccess, allowed=config.browser_ratings)] if config.browser_ratings else []),
        ],
        exception_handlers={
            Problem: answer_problem,
            Unavailable: _answer_unavailable,
            HTTPException: _answer_http,
            Exception: answer_failure,
        },
        lifespan=lifespan,
    )


def _metrics(config: Config, metrics: Metrics) -> Endpoint:
    """Open, unless there are tokens for it."""
    scopes = ("metrics", "admin") if config.tokens.metrics else ()
    return Endpoint("GET", "/metrics", metrics.show, "What Prometheus reads.", answers={}, scopes=scopes)


def _log_to(writer: DecisionWriter, metrics: Metrics) -> Callable[[Decision], None]:
    """Where decisions go."""

    def log(decision: Decision) -> None:
        writer.put(decision)
        metrics.decided(decision)
        logs.decided(decision)
        telemetry.decided(decision)

    return log


def _report_to(store: Store, judge: feedback.judge.Judge | None) -> Deliver:
    """Where outcomes of the daemon's own gateway go: the same way as a plugin's."""

    async def deliver(batch: Sequence[Outcome]) -> None:
        reported = msgspec.convert(batch, list[SampledOutcome])
        try:
            await store.record_outcomes(reported)
            if judge:
                await judge.take(reported)
        except Unavailable as error:
            raise faults.Unavailable(str(error)) from error

    return deliver


def _state(
    batchers: Mapping[str, Batcher[Job, Scored | Unscorable]],
    writer: DecisionWriter,
    scoring: Scoring,
    plugins: Plugins,
) -> State:
    """Of the moment."""
    return State(
        waiting={name: batcher.waiting for name, batcher in batchers.items()},
        unwritten=writer.queued,
        written=writer.written,
        dropped=writer.dropped,
        versions={name: hosted.router.version for name, hosted in scoring.hosted.items()},
        breakers=[plugin.breaker for plugin in plugins.newest],
        events=plugins.counted,
    )


def _check_calibrated(config: Config, scoring: Scoring) -> None:
    """A default that asks for a share needs its router to be calibrated: as shipped, or by command."""
    default, canary = names.parse(config.default), config.canary
    if default.share is None or default.router is None:
        return
    if scoring.hosted[default.router].calibration is None:
        raise ConfigError(f"default: {config.default}: {uncalibrated(default.router)}")
    if canary and scoring.hosted[canary.hosted_as].calibration is None:
        raise ConfigError(f"canary: {uncalibrated(canary.router)}")


def _at_once(work: Coroutine[Any, Any, None]) -> None:
    """Before anything serves, in an event loop of its own, whether or not one runs in this thread."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


async def _answer_http(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405, in our form."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    message = f"{request.method} {request.url.path}: {error.detail}"
    return await answer_problem(request, Problem(error.status_code, code, message, headers=dict(error.headers or {})))


async def _answer_unavailable(request: Request, error: Exception) -> Response:
    problem = Problem(503, "database_away", str(error), headers={"retry-after": "1"})
    return await answer_problem(request, problem)
