"""The clock: which times a cron line names, and the one job that starts what is due.

Every replica runs this clock. What keeps them from doing the work twice is not here: the time that is due is the same
on all of them, and a row in the database can be claimed for it once (feedback/runs.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger

_GRACE_SECONDS = 3600  # by which a job may start late, as after a suspended laptop; later it waits for the next time
_LOOK_BACK = [timedelta(hours=1), timedelta(days=1), timedelta(days=32), timedelta(days=366), timedelta(days=5 * 366)]
_STEP = timedelta(seconds=1)
_NICENESS = 10

_log = logging.getLogger(__name__)


class BadCron(ValueError):
    """Not a cron line, or one that names no time."""


def parse(cron: str, timezone: str = "UTC") -> CronTrigger:
    """A cron line of five fields, read in a time zone by name. Raises BadCron."""
    try:
        trigger = CronTrigger.from_crontab(cron, timezone)
    except (ValueError, LookupError) as error:
        raise BadCron(
            f"{cron!r} ({timezone}): {error}; expected minute hour day month weekday, e.g. 0 3 * * *"
        ) from None
    if trigger.get_next_fire_time(None, datetime.now(UTC)) is None:
        raise BadCron(f"{cron!r} names no time")
    return trigger


def due(trigger: CronTrigger, now: datetime) -> datetime | None:
    """The last time that the line names up to `now`, in UTC; None: not within five years."""
    for span in _LOOK_BACK:
        last: datetime | None = None
        cursor = now - span
        while (time := trigger.get_next_fire_time(None, cursor)) is not None and time <= now:
            last = time.astimezone(UTC)
            cursor = max(last, cursor) + _STEP  # where a clock is put back, APScheduler names a time before the cursor
        if last is not None:
            return last
    return None


def start(trigger: CronTrigger, work: Callable[[datetime], Awaitable[object]]) -> AsyncIOScheduler:
    """Calls `work` with each time that comes; one call at a time. Needs a running event loop; `shutdown()` ends it."""

    async def job() -> None:
        time = due(trigger, datetime.now(UTC))
        if time is not None:
            await work(time)

    scheduler = AsyncIOScheduler(timezone=UTC)
    scheduler.add_job(job, trigger, max_instances=1, coalesce=True, misfire_grace_time=_GRACE_SECONDS)
    scheduler.start()
    return scheduler


async def run_process(command: Sequence[str], scheduled_for: datetime) -> int:
    """Runs `command --scheduled-for <time>` at low priority and waits for it; its exit code. Ends with its caller."""
    arguments = [*command, "--scheduled-for", scheduled_for.isoformat()]
    lower = partial(os.nice, _NICENESS) if sys.platform != "win32" else None
    process = await asyncio.create_subprocess_exec(*arguments, preexec_fn=lower)
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    if code:
        _log.error("%s ended with %d", " ".join(arguments), code)
    return code
