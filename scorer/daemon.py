"""The composition root: a Config in, a Starlette application out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import feedback.api
import feedback.judge
import scorer.api
from feedback import drift, rollback, schedule
from feedback.dashboard.commands import Commands
from feedback.dashboard.pages import Pages
from feedback.dashboard.summary import Summaries
from feedback.dashboard.summary import endpoint as figures
from feedback.database import Unavailable
from feedback.drift import Drift, Terms
from feedback.plugins import Plugins
from feedback.retrain import EXPIRY_SECONDS, JOB
from feedback.schedule import Cron
from feedback.store import Store
from feedback.writer import DecisionWriter
from gateway_plugin import names
from scorer import hosting, logs, openapi, steering
from scorer.auth import BearerToken
from scorer.batching import Batcher
from scorer.budget import Steering
from scorer.config import Config, ConfigError
from scorer.conversations import Conversations
from scorer.decisions import Decision
from scorer.metrics import Finding, Measured, Metrics, State
from scorer.routers.base import Unscorable
from scorer.routing import Routing
from scorer.scoring import Job, Scored, Scoring, uncalibrated
from scorer.sections import DriftConfig
from scorer.web import JSON, Problem, answer_failure, answer_problem

_HOUSEKEEPING_SECONDS = 60.0
_JUDGE_SECONDS = 10.0  # after which the judge looks for answers that wait for it
_NIGHT_SECONDS = 15.0  # by which a nightly run may begin late
_POLL_SECONDS = 5.0  # after which a replica follows what another process published
_WATCH_SECONDS = 300.0  # after which ratings of what was published are looked at

_log = logging.getLogger(__name__)


def build(config: Config, retrain: Sequence[str] = (), commands: Commands | None = None) -> Starlette:
    """Loads everything that serves, so that a fault shows before the port opens, and puts it together.

    retrain: the command that makes a nightly run, in a process of its own; without one there are none. commands: what
    the dashboard's buttons run; without them it has none.
    Raises ConfigError, EncoderError, ArtifactError or StoreError.
    """
    nights = _nights(config) if retrain else None
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
    looks = _look_for_drift(config, config.drift, store, scoring, metrics) if config.drift else None
    held, conversations = Steering(), Conversations(store.find_pin, store.write_pin)
    routing = Routing(config, scoring.encoder.id, batchers, log, store.find_decision, conversations, held)
    judge = feedback.judge.create(config, store)
    summaries = Summaries(config, store, scoring.hosted.__getitem__)
    pages = Pages(config, store, writer, scoring, summaries, hosting.configured(config), commands)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        work = (
            *(batcher.run() for batcher in batchers.values()),
            _regularly(_POLL_SECONDS, partial(hosting.follow, config, store, scoring)),
            _regularly(_HOUSEKEEPING_SECONDS, partial(_keep_house, config, store)),
            _regularly(steering.SECONDS, partial(steering.follow, config, store, scoring, held)),
            _regularly(_WATCH_SECONDS, partial(_watch, config, store)),
            _regularly(_HOUSEKEEPING_SECONDS, partial(_show_runs, store, metrics)),
            *([_regularly(_HOUSEKEEPING_SECONDS, looks)] if looks else []),
            *([_regularly(_JUDGE_SECONDS, judge.work)] if judge else []),
            *([_regularly(_NIGHT_SECONDS, _clock(nights, store, retrain))] if nights else []),
        )
        tasks = [asyncio.create_task(one) for one in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if judge:
                await judge.close()
            if commands:
                await commands.close()
            await writer.close()
            await store.close()

    endpoints = [
        *scorer.api.endpoints(
            config, scoring, routing, store.ping, judge.wants if judge else lambda _: False, metrics.took
        ),
        *feedback.api.endpoints(store, writer, plugins, routing.keep, judge.take if judge else None),
        figures(summaries),
    ]
    described = openapi.document(endpoints)
    return Starlette(
        routes=[
            *(endpoint.route for endpoint in endpoints),
            *pages.routes(),
            Route("/openapi.json", lambda _: JSON(described)),
            Route("/metrics", metrics.show),
        ],
        middleware=[
            Middleware(Measured, metrics=metrics, endpoints=endpoints),
            Middleware(BearerToken, token=config.token),
        ],
        exception_handlers={
            Problem: answer_problem,
            Unavailable: _answer_unavailable,
            HTTPException: _answer_http,
            Exception: answer_failure,
        },
        lifespan=lifespan,
    )


def _log_to(writer: DecisionWriter, metrics: Metrics) -> Callable[[Decision], None]:
    """Where decisions go."""

    def log(decision: Decision) -> None:
        writer.put(decision)
        metrics.decided(decision)
        logs.decided(decision)

    return log


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


async def _show_runs(store: Store, metrics: Metrics) -> None:
    metrics.runs(await store.run_summary())


def _look_for_drift(
    config: Config, chosen: DriftConfig, store: Store, scoring: Scoring, metrics: Metrics
) -> Callable[[], Awaitable[None]]:
    """Once a day, on one replica; all show it."""
    terms = Terms(
        models=config.models,
        default=None if config.policy else config.default,
        encoder_id=scoring.encoder.id,
        days=chosen.days,
        false_alarms=chosen.false_alarms_per_year,
        recalibrate=chosen.recalibrate,
    )

    def show(found: Drift) -> None:
        findings = (Finding(one.check, one.router, one.alarm, one.p, one.value, one.expected) for one in found.checks)
        metrics.drift(findings, found.level, found.before)

    return partial(drift.keep, store, scoring.hosted, terms, show)


def _check_calibrated(config: Config, scoring: Scoring) -> None:
    """A default that asks for a share needs its router to be calibrated: as shipped, or by command."""
    default, canary = names.parse(config.default), config.canary
    if default.share is None or default.router is None:
        return
    if scoring.hosted[default.router].calibration is None:
        raise ConfigError(f"default: {config.default}: {uncalibrated(default.router)}")
    if canary and scoring.hosted[canary.hosted_as].calibration is None:
        raise ConfigError(f"canary: {uncalibrated(canary.router)}")


def _nights(config: Config) -> Cron | None:
    """When to retrain."""
    if config.retrain.cron is None:
        return None
    try:
        return schedule.parse(config.retrain.cron, config.retrain.timezone)
    except schedule.BadCron as error:
        raise ConfigError(f"retrain.cron: {error}") from None


def _clock(nights: Cron, store: Store, command: Sequence[str]) -> Callable[[], Coroutine[Any, Any, None]]:
    """Makes the nightly run that is due, if no replica has."""

    async def wanted(scheduled_for: float) -> bool:
        return await store.wants_run(JOB, scheduled_for, EXPIRY_SECONDS)

    return partial(schedule.keep, nights, store.clock, wanted, partial(schedule.run_process, command))


def _at_once(work: Coroutine[Any, Any, None]) -> None:
    """Before anything serves, in an event loop of its own, whether or not one runs in this thread."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


async def _keep_house(config: Config, store: Store) -> None:
    """Gives up decisions that no outcome was reported for and answers that were never judged, and forgets old
    idempotency keys."""
    if expired := await store.expire(config.outcome_minutes * 60):
        _log.info("%d decisions expired without an outcome", expired)
    if unjudged := await store.tidy_judgements():
        _log.warning("%d answers were given up unjudged", unjudged)
    await store.forget_keys()
    if config.sessions:
        await store.forget_pins(time.time() - config.sessions.idle_minutes * 60)


async def _watch(config: Config, store: Store) -> None:
    """Rolls back what is rated worse than what it replaced."""
    await rollback.watch(store, hosting.configured(config), config.rollback.error_rate)


async def _regularly(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """At once and then every so often, whatever goes wrong."""
    while True:
        try:
            await work()
        except Unavailable as error:
            _log.warning("the database is away: %s", error)
        except Exception:
            _log.exception("a regular task failed; it tries again")
        await asyncio.sleep(seconds)


async def _answer_http(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405, in our form."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    message = f"{request.method} {request.url.path}: {error.detail}"
    return await answer_problem(request, Problem(error.status_code, code, message, headers=dict(error.headers or {})))


async def _answer_unavailable(request: Request, error: Exception) -> Response:
    problem = Problem(503, "database_away", str(error), headers={"retry-after": "1"})
    return await answer_problem(request, problem)
