"""The composition root: a Config in, a Starlette application out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import feedback.api
import scorer.api
from feedback.database import Unavailable
from feedback.migrations import migrate
from feedback.plugins import Plugins
from feedback.store import Store
from feedback.writer import DecisionWriter
from scorer import artifacts, calibration, catalogue, encoder, openapi
from scorer.auth import BearerToken
from scorer.batching import Batcher
from scorer.calibration import Calibration
from scorer.config import Config, ConfigError
from scorer.encoder import Encoder
from scorer.routers.base import UnknownModel
from scorer.routing import Routing
from scorer.scoring import Hosted, Scoring
from scorer.web import JSON, Problem, answer_failure, answer_problem

_HOUSEKEEPING_SECONDS = 60.0
_POLL_SECONDS = 10.0  # after which a replica follows what another process published

_log = logging.getLogger(__name__)


def build(config: Config) -> Starlette:
    """Loads everything that serves, so that a fault shows before the port opens, and puts it together.

    Raises ConfigError, EncoderError, ArtifactError or StoreError.
    """
    scoring = load_scoring(config)
    store = open_store(config)
    writer = DecisionWriter(store, config.limits.unwritten)
    batcher = Batcher(scoring.score, capacity=config.limits.queue, largest=config.limits.batch)
    routing = Routing(config, scoring.encoder.id, batcher, writer.put, store.find_decision)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        work = (
            batcher.run(),
            _regularly(_POLL_SECONDS, partial(follow_calibrations, config, store, scoring)),
            _regularly(_HOUSEKEEPING_SECONDS, partial(_keep_house, config, store)),
        )
        tasks = [asyncio.create_task(one) for one in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await writer.close()
            await store.close()

    endpoints = [
        *scorer.api.endpoints(config, scoring, routing, store.ping),
        *feedback.api.endpoints(store, writer, Plugins()),
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


def load_scoring(config: Config) -> Scoring:
    """The encoder and the configured routers, calibrated on the shipped sample of prompts."""
    loaded = _load_encoder(config)
    sample, prompts = calibration.shipped_sample(loaded.id)
    hosted = {}
    for name, settings in config.routers.items():
        router = catalogue.load(name, settings.artifact, loaded.id)
        try:
            hosted[name] = Hosted(router, calibration.calibrate(router, config.known_as, sample, prompts))
        except UnknownModel as error:
            raise ConfigError(f"ladder: {error}") from None
    return Scoring(loaded, hosted)


def open_store(config: Config) -> Store:
    """The database, its schema brought up to date."""
    try:
        config.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"data_dir: {config.data_dir}: {error.strerror}") from None
    migrate(config.database_url)
    return Store(config.database_url)


def _load_encoder(config: Config) -> Encoder:
    """The configured directory's encoder, else the cached one that the routers were fitted with."""
    if config.encoder.directory:
        return Encoder.load(config.encoder.directory, config.encoder.threads)
    fitted = [catalogue.directory(name, settings.artifact) for name, settings in config.routers.items()]
    artifact = next((path for path in fitted if path.is_dir()), calibration.PRETRAINED / calibration.SAMPLE)
    wanted = artifacts.read_manifest(artifact).encoder_id
    return Encoder.load(encoder.resolve(encoder_id=wanted), config.encoder.threads)


async def follow_calibrations(config: Config, store: Store, scoring: Scoring) -> None:
    """Takes over what was calibrated last for the versions that are hosted, here or by another replica."""
    for name, hosted in list(scoring.hosted.items()):
        stored = await store.calibration(name, hosted.router.version, config.known_as)
        if stored:
            lowest = np.frombuffer(stored.lowest, "<f4").astype(np.float64)
            scoring.hosted[name] = Hosted(hosted.router, Calibration(stored.sample, lowest))


async def _keep_house(config: Config, store: Store) -> None:
    """Gives up decisions that no outcome was reported for, and forgets old idempotency keys."""
    if expired := await store.expire(config.outcome_minutes * 60):
        _log.info("%d decisions expired without an outcome", expired)
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
