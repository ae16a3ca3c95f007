"""The clock of the nightly run."""

import asyncio
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from apscheduler.triggers.cron import CronTrigger
from hypothesis import given
from hypothesis import strategies as st

from feedback import schedule

MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))


def test_due_is_the_last_time_named_up_to_now() -> None:
    trigger = schedule.parse("0 3 * * *")
    assert schedule.due(trigger, datetime(2026, 5, 4, 3, 0, tzinfo=UTC)) == datetime(2026, 5, 4, 3, tzinfo=UTC)
    assert schedule.due(trigger, datetime(2026, 5, 4, 2, 59, 59, tzinfo=UTC)) == datetime(2026, 5, 3, 3, tzinfo=UTC)


def test_due_reaches_back_to_rare_times() -> None:
    now = datetime(2026, 5, 4, tzinfo=UTC)
    assert schedule.due(schedule.parse("0 0 1 * *"), now) == datetime(2026, 5, 1, tzinfo=UTC)
    assert schedule.due(schedule.parse("0 0 1 6 *"), now) == datetime(2025, 6, 1, tzinfo=UTC)


@given(MOMENTS)
def test_due_agrees_with_the_minute_of_the_clock(now: datetime) -> None:
    """A second way to the same number: for `m h * * *` it is plain arithmetic."""
    at = now.replace(hour=14, minute=30, second=0, microsecond=0)
    expected = at if at <= now else at - timedelta(days=1)
    assert schedule.due(schedule.parse("30 14 * * *"), now) == expected


@given(MOMENTS, st.integers(0, 40))
def test_replicas_with_clocks_apart_agree_on_what_is_due(now: datetime, apart: int) -> None:
    """Unless the time falls between their clocks, when the later one is merely first."""
    trigger = schedule.parse("0 3 * * *")
    early, late = schedule.due(trigger, now), schedule.due(trigger, now + timedelta(seconds=apart))
    assert late is not None
    assert late == early or now < late <= now + timedelta(seconds=apart)


def test_a_night_happens_once_when_the_clock_is_put_back() -> None:
    """Berlin, 25 October 2026: 02:30 comes twice."""
    trigger = schedule.parse("30 2 * * *", "Europe/Berlin")
    hours = [datetime(2026, 10, 25, hour, 45, tzinfo=UTC) for hour in range(4)]
    assert len({schedule.due(trigger, hour) for hour in hours}) <= 2
    assert schedule.due(trigger, datetime(2026, 10, 26, 12, tzinfo=UTC)) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize("cron", ["", "3", "0 25 * * *", "a b c d e", "0 0 30 2 *"])
def test_a_line_that_names_no_time_is_refused(cron: str) -> None:
    with pytest.raises(schedule.BadCron) as refused:
        schedule.parse(cron)
    assert "\n" not in str(refused.value)


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(schedule.BadCron, match="Mars"):
        schedule.parse("0 3 * * *", "Mars/Olympus")


async def test_work_is_called_with_the_time_that_came() -> None:
    called: asyncio.Queue[datetime] = asyncio.Queue()
    every_second = CronTrigger(second="*", timezone=UTC)
    clock = schedule.start(every_second, called.put)
    try:
        first = await asyncio.wait_for(called.get(), 5)
        second = await asyncio.wait_for(called.get(), 5)
    finally:
        clock.shutdown()
    assert first.microsecond == 0
    assert second - first in (timedelta(seconds=1), timedelta(seconds=2))


async def test_a_process_runs_at_low_priority_and_is_told_the_time(tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = f"import os, sys; open({str(told)!r}, 'w').write(f'{{os.nice(0)}} {{sys.argv[1:]}}'); sys.exit(3)"
    night = datetime(2026, 5, 4, 3, tzinfo=UTC)
    assert await schedule.run_process([sys.executable, "-c", script], night) == 3
    nice = min(os.nice(0) + 10, 19)
    assert told.read_text() == f"{nice} ['--scheduled-for', '2026-05-04T03:00:00+00:00']"


async def test_a_process_ends_with_its_caller(tmp_path: Path) -> None:
    marker = tmp_path / "alive"
    script = f"import time; open({str(marker)!r}, 'w').close(); time.sleep(60)"
    task = asyncio.create_task(schedule.run_process([sys.executable, "-c", script], datetime.now(UTC)))
    await asyncio.to_thread(_appear, marker)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)


def _appear(path: Path) -> None:
    while not path.exists():
        time.sleep(0.02)
