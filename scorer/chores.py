"""What a daemon does beside answering: it follows what others publish, keeps house, and starts what is due."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeAlias

from feedback import drift, erasure, retention, rollback, schedule
from feedback.database import Unavailable
from feedback.drift import Drift, Terms
from feedback.judge import Judge
from feedback.retrain import EXPIRY_SECONDS, JOB
from feedback.schedule import Cron
from feedback.store import Store
from scorer import hosting, steering
from scorer.budget import Steering
from scorer.config import Config, ConfigError
from scorer.metrics import Finding, Metrics
from scorer.scoring import Scoring
from scorer.sections import DriftConfig

_HOUSEKEEPING_SECONDS = 60.0
_JUDGE_SECONDS = 10.0  # after which the judge looks for answers that wait for it
_NIGHT_SECONDS = 15.0  # by which a nightly run may begin late
_POLL_SECONDS = 5.0  # after which a replica follows what another process published
_WATCH_SECONDS = 300.0  # after which ratings of what was published are looked at

Chore: TypeAlias = Callable[[], Awaitable[None]]

_log = logging.getLogger(__name__)


def chores(
    config: Config,
    store: Store,
    scoring: Scoring,
    metrics: Metrics,
    held: Steering,
    judge: Judge | None,
    retrain: Sequence[str],
    erase: Sequence[str],
) -> list[Callable[[], Coroutine[Any, Any, None]]]:
    """All of them, each to be started once. retrain, erase: commands, as for daemon.build. Raises ConfigError."""
    nights = _cron("retrain", config.retrain.cron, config.retrain.timezone) if retrain else None
    old = config.retention.days, config.retention.prompt_days
    purges = _cron("retention", config.retention.cron, config.retention.timezone) if any(old) else None
    every: list[tuple[float, Chore]] = [
        (_POLL_SECONDS, partial(hosting.follow, config, store, scoring)),
        (_HOUSEKEEPING_SECONDS, partial(_keep_house, config, store)),
        (_HOUSEKEEPING_SECONDS, partial(hosting.forget_copies, config)),
        (_HOUSEKEEPING_SECONDS, partial(_show_runs, store, metrics)),
        (_HOUSEKEEPING_SECONDS, _look_ahead(store)),
        (steering.SECONDS, partial(steering.follow, config, store, scoring, held)),
        (_WATCH_SECONDS, partial(_watch, config, store)),
    ]
    if config.drift:
        every.append((_HOUSEKEEPING_SECONDS, _look_for_drift(config, config.drift, store, scoring, metrics)))
    if judge:
        every.append((_JUDGE_SECONDS, judge.work))
    if nights:
        every.append((_NIGHT_SECONDS, _retrain(config, nights, store, retrain)))
    if purges:
        every.append((_HOUSEKEEPING_SECONDS, partial(_purge, config, purges, store)))
    if erase:
        every.append((_NIGHT_SECONDS, _erase(config, store, erase)))
    return [partial(_regularly, seconds, chore) for seconds, chore in every]


async def _regularly(seconds: float, work: Chore) -> None:
    """At once and then every so often, whatever goes wrong."""
    while True:
        try:
            await work()
        except Unavailable as error:
            _log.warning("the database is away: %s", error)
        except Exception:
            _log.exception("a regular task failed; it tries again")
        await asyncio.sleep(seconds)


def _cron(section: str, line: str | None, timezone: str) -> Cron | None:
    if line is None:
        return None
    try:
        return schedule.parse(line, timezone)
    except schedule.BadCron as error:
        raise ConfigError(f"{section}.cron: {error}") from None


# Runs that are due


def _retrain(config: Config, nights: Cron, store: Store, command: Sequence[str]) -> Chore:
    """Makes the nightly run that is due, if no replica has."""

    async def wanted(scheduled_for: float) -> bool:
        return await store.wants_run(JOB, scheduled_for, EXPIRY_SECONDS)

    make = partial(schedule.run_process, command, config.retrain.most_hours * 3600)
    return partial(schedule.keep, nights, store.clock, wanted, make)


async def _purge(config: Config, cron: Cron, store: Store) -> None:
    """Makes the purge that is due, if no replica has."""
    terms = retention.Terms(config.retention.days, config.retention.prompt_days)
    await retention.keep(store, cron, terms, hosting.open_shelf(config), hosting.named(config))


def _erase(config: Config, store: Store, command: Sequence[str]) -> Chore:
    """Has carried out what was asked to be erased, if no replica does."""
    return partial(erasure.keep, store, partial(schedule.run_process, command, config.retrain.most_hours * 3600))


def _look_for_drift(config: Config, chosen: DriftConfig, store: Store, scoring: Scoring, metrics: Metrics) -> Chore:
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


# House


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


async def _show_runs(store: Store, metrics: Metrics) -> None:
    metrics.runs(await store.run_summary())


def _look_ahead(store: Store) -> Chore:
    """Says once that a newer replica has upgraded the database; what is added to it does not concern this one."""
    said: set[str] = set()

    async def look() -> None:
        fault = await store.ahead()
        if fault and fault not in said:
            said.add(fault)
            _log.warning("the database was upgraded: %s", fault)

    return look
