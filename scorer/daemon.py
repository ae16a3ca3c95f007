"""The composition root: a Config in, a Starlette application out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from apscheduler.triggers.cron import CronTrigger
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import feedback.api
import feedback.judge
import scorer.api
from feedback import schedule
from feedback.database import Unavailable
from feedback.plugins import Plugins
from feedback.store import Store
from feedback.writer import DecisionWriter
from gateway_plugin import names
from scorer import hosting, openapi
from scorer.auth import BearerToken
from scorer.batching import Batcher
from scorer.config import Config, ConfigError
from scorer.routing import Routing
from scorer.scoring import Scoring, uncalibrated
from scorer.web import JSON, Problem, answer_failure, answer_problem

_HOUSEKEEPING_SECONDS = 60.0
_JUDGE_SECONDS = 10.0  # after which the judge looks for answers that wait for it
_POLL_SECONDS = 5.0  # after which a replica follows what another process published

_log = logging.getLogger(__name__)


def build(config: Config, retrain: Sequence[str] = ()) -> Starlette:
    """Loads everything that serves, so that a fault shows before the port opens, and puts it together.

    retrain: the command that makes a nightly run, in a process of its own; without one there are none.
    Raises ConfigError, EncoderError, ArtifactError or StoreError.
    """
    nights = _nights(config) if retrain else None
    scoring = hosting.load_scoring(config)
    store = hosting.open_store(config)
    _at_once(hosting.follow(config, store, scoring))
    _check_calibrated(config, scoring)
    writer = DecisionWriter(store, config.limits.unwritten)
    limits = config.limits
    batchers = {name: Batcher(scoring.score, capacity=limits.queue, largest=limits.batch) for name in scoring.hosted}
    routing = Routing(config, scoring.encoder.id, batchers, writer.put, store.find_decision)
    judge = feedback.judge.create(config, store)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        work = (
            *(batcher.run() for batcher in batchers.values()),
            _regularly(_POLL_SECONDS, partial(hosting.follow, config, store, scoring)),
            _regularly(_HOUSEKEEPING_SECONDS, partial(_keep_house, config, store)),
            *([_regularly(_JUDGE_SECONDS, judge.work)] if judge else []),
        )
        tasks = [asyncio.create_task(one) for one in work]
        clock = schedule.start(nights, partial(schedule.run_process, retrain)) if nights else None
        try:
            yield
        finally:
            if clock:
                clock.shutdown(wait=False)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if judge:
                await judge.close()
            await writer.close()
            await store.close()

    endpoints = [
        *scorer.api.endpoints(config, scoring, routing, store.ping, judge.wants if judge else lambda _: False),
        *feedback.api.endpoints(store, writer, Plugins(), routing.keep, judge.take if judge else None),
    ]
    described = openapi.document(endpoints)
    return Starlette(
        routes=[*(endpoint.route for endpoint in endpoints), Route("/openapi.json", lambda _: JSON(described))],
        middleware=[Middleware(BearerToken, token=config.token)],
        exception_handlers={
            Problem: answer_problem,
            Unavailable: _answer_unavailable,
            HTTPException: _answer_http,
            Exception: answer_failure,
        },
        lifespan=lifespan,
    )


def _check_calibrated(config: Config, scoring: Scoring) -> None:
    """A default that asks for a share needs its router to be calibrated: as shipped, or by command."""
    default = names.parse(config.default)
    if default.share is not None and default.router and scoring.hosted[default.router].calibration is None:
        raise ConfigError(f"default: {config.default}: {uncalibrated(default.router)}")


def _nights(config: Config) -> CronTrigger | None:
    """When to retrain."""
    if config.retrain.cron is None:
        return None
    try:
        return schedule.parse(config.retrain.cron, config.retrain.timezone)
    except schedule.BadCron as error:
        raise ConfigError(f"retrain.cron: {error}") from None


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
