"""The clock: which times a cron line names, and the run that is due.

Every replica runs this clock. What keeps them from doing the work twice is not here: the time that is due is the same
on all of them, and a row in the database can be claimed for it once (feedback/runs.py). The rows also say what is still
to be made, so nothing is kept in memory, and no machine that was off, asleep or set to another time loses a night:
a scheduler that waits for the next time, as APScheduler's does, would.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import NamedTuple
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

_DAY = timedelta(days=1)
_LOOK_BACK = [timedelta(hours=1), _DAY, timedelta(days=32), timedelta(days=366), timedelta(days=5 * 366)]
_STEP = timedelta(seconds=1)
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_RETRY_SECONDS = 600.0  # after a process that failed: its successor would most likely fail alike
_NICENESS = 10

_log = logging.getLogger(__name__)


class BadCron(ValueError):
    """Not a cron line, or one that names no time."""


class Cron(NamedTuple):
    """The times that a line names on a zone's clocks. The trigger (in UTC) takes them for clocks that never change."""

    trigger: CronTrigger
    zone: tzinfo


def parse(cron: str, timezone: str = "UTC") -> Cron:
    """A cron line of five fields, read in a time zone by name. Raises BadCron."""
    try:
        parsed = Cron(CronTrigger.from_crontab(_named_weekdays(cron), UTC), ZoneInfo(timezone))
    except (ValueError, LookupError, OSError) as error:
        raise BadCron(
            f"{cron!r} ({timezone}): {error}; expected minute hour day month weekday, e.g. 0 3 * * *"
        ) from None
    if parsed.trigger.get_next_fire_time(None, datetime.now(UTC)) is None:
        raise BadCron(f"{cron!r} names no time")
    return parsed


def due(cron: Cron, now: datetime) -> datetime | None:
    """The last time that the line names up to `now`, in UTC; None: not within five years.

    Each time of a zone's clock counts once: the first of two where the clock is put back; where it is put forward, what
    is left out comes as late as it would have come on the clock before.
    """
    # What the zone's clock shows, or would had it not been put back within a day: what came twice is then behind it.
    shown = max(_wall(now, cron.zone), _wall(now - _DAY, cron.zone) + _DAY)
    for span in _LOOK_BACK:
        passed: list[datetime] = []
        cursor = shown - span
        while (wall := cron.trigger.get_next_fire_time(None, cursor)) is not None and wall <= shown:
            if (time := wall.replace(tzinfo=cron.zone).astimezone(UTC)) <= now:
                passed.append(time)
            cursor = wall + _STEP
        if passed:
            return max(passed)
    return None


async def keep(
    cron: Cron,
    clock: Callable[[], Awaitable[float]],
    wanted: Callable[[float], Awaitable[bool]],
    make: Callable[[datetime], Awaitable[int]],
) -> None:
    """Makes the run that is due, if it is wanted; a while after one whose code is not 0 it returns. To be called again
    and again: often, since a run is as late as the call. Times that passed during a run or a pause come down to one.

    clock: Unix seconds, by the clock that the replicas share.
    """
    time = due(cron, datetime.fromtimestamp(await clock(), UTC))
    if time is not None and await wanted(time.timestamp()) and await make(time):
        await asyncio.sleep(_RETRY_SECONDS)


async def run_process(command: Sequence[str], most_seconds: float, scheduled_for: datetime) -> int:
    """Runs `command --scheduled-for <time>` at low priority and waits for it; its exit code. Ends with its caller, and
    is killed after `most_seconds`: one that hangs may have a heart that goes on beating."""
    arguments = [*command, "--scheduled-for", scheduled_for.isoformat()]
    lower = partial(os.nice, _NICENESS) if sys.platform != "win32" else None
    process = await asyncio.create_subprocess_exec(*arguments, preexec_fn=lower)
    try:
        code = await asyncio.wait_for(process.wait(), most_seconds)
    except TimeoutError:
        _log.error("%s was killed after %g hours", " ".join(arguments), most_seconds / 3600)
        process.kill()
        return await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    if code:
        _log.error("%s ended with %d", " ".join(arguments), code)
    return code


def _wall(now: datetime, zone: tzinfo) -> datetime:
    """What a zone's clock shows, as a trigger takes it."""
    return now.astimezone(zone).replace(tzinfo=UTC, fold=0)


def _named_weekdays(cron: str) -> str:
    """Cron's weekday numbers, of which 0 and 7 are Sunday, by name: APScheduler would begin with Monday."""
    *fields, weekdays = cron.split() or [""]
    return " ".join([*fields, ",".join(_named(part) for part in weekdays.split(","))])


def _named(weekdays: str) -> str:
    """`1-5` as `mon,tue,wed,thu,fri`; what has no numbers, or a step, stays."""
    numbers = re.fullmatch(r"([0-7])(?:-([0-7]))?", weekdays)
    if not numbers:
        return weekdays
    first, last = int(numbers[1]), int(numbers[2] or numbers[1])
    return ",".join(_WEEKDAYS[day % 7] for day in range(first, last + 1)) or weekdays
