"""The clock of the nightly run, and the nights it makes whatever clocks, machines and replicas do."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, time, timedelta
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import monotonic, sleep
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback import schedule
from feedback.retrain import JOB
from feedback.store import Store
from tests.feedback.examples import a_decision, rows

MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))
CHANGES = [  # of clocks: forward and back, at midnight, by half an hour
    (zone, datetime(*day, tzinfo=UTC))
    for zone, days in {
        "Europe/Berlin": [(2026, 3, 29), (2026, 10, 25)],
        "America/New_York": [(2026, 3, 8), (2026, 11, 1)],
        "America/Santiago": [(2026, 4, 5), (2026, 9, 6)],
        "Australia/Lord_Howe": [(2026, 4, 5), (2026, 10, 4)],
        "Asia/Kolkata": [(2026, 5, 4)],
    }.items()
    for day in days
]


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


@given(st.sampled_from(CHANGES), st.integers(0, 23), st.integers(0, 59), st.integers(0, 4 * 24 * 60))
def test_a_day_has_one_time_whatever_its_clock_does(
    change: tuple[str, datetime], hour: int, minute: int, minutes: int
) -> None:
    """A second way to the same number: of the last days' times, made by the calendar, the last that has passed."""
    zone, around = ZoneInfo(change[0]), change[1] - timedelta(days=2)
    now = around + timedelta(minutes=minutes)
    calendar = [now.astimezone(zone).date() - timedelta(days=days) for days in range(-1, 3)]
    times = [datetime.combine(day, time(hour, minute), zone).astimezone(UTC) for day in calendar]
    cron = schedule.parse(f"{minute} {hour} * * *", change[0])
    assert schedule.due(cron, now) == max(moment for moment in times if moment <= now)


def test_what_is_left_out_or_comes_twice_where_a_clock_is_changed() -> None:
    """Berlin, 2026: no 02:30 on 29 March, two on 25 October; Lord Howe's clock changes by half an hour."""
    berlin = schedule.parse("30 2 * * *", "Europe/Berlin")
    assert schedule.due(berlin, datetime(2026, 3, 29, 12, tzinfo=UTC)) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert schedule.due(berlin, datetime(2026, 10, 25, 12, tzinfo=UTC)) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    howe = schedule.parse("45 1 * * *", "Australia/Lord_Howe")
    assert schedule.due(howe, datetime(2026, 4, 4, 23, tzinfo=UTC)) == datetime(2026, 4, 4, 14, 45, tzinfo=UTC)


def test_weekdays_are_those_of_cron() -> None:
    """2026-05-03 is a Sunday."""
    now = datetime(2026, 5, 8, 12, tzinfo=UTC)
    for line, day in (("0", 3), ("7", 3), ("sun", 3), ("1", 4), ("1-3", 6), ("5-7", 8), ("0,2", 5), ("*", 8)):
        assert schedule.due(schedule.parse(f"0 3 * * {line}"), now) == datetime(2026, 5, day, 3, tzinfo=UTC), line


@pytest.mark.parametrize("cron", ["", "3", "0 25 * * *", "a b c d e", "0 0 30 2 *", "0 3 * * 8", "0 3 * * 5-2"])
def test_a_line_that_names_no_time_is_refused(cron: str) -> None:
    with pytest.raises(schedule.BadCron) as refused:
        schedule.parse(cron)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "/etc/localtime", ".."])
def test_an_unknown_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(schedule.BadCron, match="expected minute hour day month weekday"):
        schedule.parse("0 3 * * *", zone)


class Replica:
    """A schedule on a store, by a clock that is `apart` from the truth; its runs take no time."""

    def __init__(self, store: Store, cron: schedule.Cron, apart: timedelta = timedelta()) -> None:
        self.made: list[datetime] = []
        self._store, self._cron, self._apart = store, cron, apart

    async def wake(self, now: datetime) -> None:
        """What the daemon does every few seconds, at a true time."""

        async def clock() -> float:
            return (now + self._apart).timestamp()

        async def wanted(scheduled_for: float) -> bool:
            return await self._store.wants_run(JOB, scheduled_for, 600)

        await schedule.keep(self._cron, clock, wanted, self._make)

    async def _make(self, scheduled_for: datetime) -> int:
        if run := await self._store.claim_run(JOB, scheduled_for.timestamp(), "a replica", 600):
            self.made.append(scheduled_for)
            await self._store.finish_run(run.run_id, "refused", "no reason")
        return 0


@pytest.fixture
async def lived(store: Store) -> Store:
    """A store whose traffic is older than any night."""
    await store.add_decisions([a_decision(created_at=0.0)])
    return store


@pytest.mark.parametrize(
    ("line", "zone", "evening"),
    [
        ("30 2 * * *", "Europe/Berlin", datetime(2026, 3, 27, 22, tzinfo=UTC)),  # 02:30 is left out on the 29th
        ("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 23, 20, tzinfo=UTC)),  # and comes twice on 25 October
        ("0 0 * * *", "UTC", datetime(2026, 12, 30, 20, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("apart", [timedelta(minutes=7), timedelta(hours=1)])
async def test_schedulers_whose_clocks_are_apart_make_one_run_a_night(
    lived: Store, line: str, zone: str, evening: datetime, apart: timedelta
) -> None:
    cron = schedule.parse(line, zone)
    replicas = [Replica(lived, cron), Replica(lived, cron, apart), Replica(lived, cron, -apart)]
    await replicas[0].wake(evening)  # the night before
    for night in range(3):
        for minutes in range(0, 480, 9):
            for replica in replicas:
                await replica.wake(evening + timedelta(days=night, minutes=minutes))
    made = sorted(moment for replica in replicas for moment in replica.made)
    assert [moment.astimezone(cron.zone).date() for moment in made] == [
        evening.astimezone(cron.zone).date() + timedelta(days=day) for day in range(4)
    ]
    assert len(await lived.runs(JOB)) == 4


NIGHT = datetime(2026, 5, 4, 3, tzinfo=UTC)


async def test_a_daemon_that_starts_after_the_time_makes_the_run(lived: Store) -> None:
    late = Replica(lived, schedule.parse("0 3 * * *"))
    await late.wake(NIGHT + timedelta(minutes=10))
    await late.wake(NIGHT + timedelta(minutes=11))
    await Replica(lived, schedule.parse("0 3 * * *")).wake(NIGHT + timedelta(hours=5))  # restarted
    assert late.made == [NIGHT]
    assert len(await lived.runs(JOB)) == 1


async def test_nights_that_passed_asleep_come_down_to_the_last_at_waking(lived: Store) -> None:
    laptop = Replica(lived, schedule.parse("0 3 * * *"))
    await laptop.wake(NIGHT)
    await laptop.wake(NIGHT + timedelta(days=3, hours=9))
    assert laptop.made == [NIGHT, NIGHT + timedelta(days=3)]


async def test_a_clock_that_is_set_back_repeats_no_night_and_one_set_ahead_loses_none(lived: Store) -> None:
    replica = Replica(lived, schedule.parse("0 3 * * *"))
    for hours in (0, -4, -1, 0, 1, 24 * 365, 2, 23, 24, 25):  # true hours, but for a year ahead that is soon corrected
        await replica.wake(NIGHT + timedelta(hours=hours))
    ahead = NIGHT + timedelta(days=365)
    assert replica.made == [NIGHT, NIGHT - timedelta(days=1), ahead, NIGHT + timedelta(days=1)]


async def test_before_anything_is_logged_there_is_no_night(store: Store) -> None:
    await store.add_decisions([a_decision(created_at=NIGHT.timestamp() + 60)])
    replica = Replica(store, schedule.parse("0 3 * * *"))
    await replica.wake(NIGHT + timedelta(hours=1))
    assert replica.made == []
    await replica.wake(NIGHT + timedelta(days=1))
    assert replica.made == [NIGHT + timedelta(days=1)]


async def test_a_run_longer_than_a_day_is_alone_and_then_the_last_night_is_made(lived: Store) -> None:
    cron = schedule.parse("0 3 * * *")
    long = await lived.claim_run(JOB, NIGHT.timestamp(), "another replica", 600)
    assert long is not None
    replica = Replica(lived, cron)
    for hours in range(60):
        await replica.wake(NIGHT + timedelta(hours=hours))
    assert replica.made == []
    await lived.finish_run(long.run_id, "published", "at last")
    await replica.wake(NIGHT + timedelta(hours=60))
    assert replica.made == [NIGHT + timedelta(days=2)]


def test_of_replicas_that_start_at_once_one_makes_the_run(store_url: str) -> None:
    url = store_url.replace("timeout=0.1", "timeout=10")
    asyncio.run(_add_decision(url))
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.feedback.test_schedule"])
    barrier = context.Barrier(8)
    with ProcessPoolExecutor(8, context, _wait_for_all, (barrier,)) as pool:
        made = list(pool.map(_wake_for_nights, [url] * 8))
    nights = sorted(moment for one in made for moment in one)
    assert nights == [NIGHT + timedelta(days=day) for day in range(5)]
    assert rows(url, "SELECT count(*), max(attempt), min(status) FROM runs") == [(5, 1, "refused")]


async def test_after_a_process_that_failed_there_is_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_RETRY_SECONDS", 0.2)
    calls: list[datetime] = []

    async def now() -> float:
        return NIGHT.timestamp()

    async def yes(_: float) -> bool:
        return True

    async def fail(scheduled_for: datetime) -> int:
        calls.append(scheduled_for)
        return len(calls) % 2

    cron = schedule.parse("0 3 * * *")
    spans = []
    for _ in range(2):
        began = monotonic()
        await schedule.keep(cron, now, yes, fail)
        spans.append(monotonic() - began)
    assert calls == [NIGHT, NIGHT]
    assert spans[0] >= 0.2 > spans[1]


async def test_a_process_runs_at_low_priority_and_is_told_the_time(tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = f"import os, sys; open({str(told)!r}, 'w').write(f'{{os.nice(0)}} {{sys.argv[1:]}}'); sys.exit(3)"
    night = datetime(2026, 5, 4, 3, tzinfo=UTC)
    assert await schedule.run_process([sys.executable, "-c", script], 60, night) == 3
    nice = min(os.nice(0) + 10, 19)
    assert told.read_text() == f"{nice} ['--scheduled-for', '2026-05-04T03:00:00+00:00']"


async def test_a_process_ends_with_its_caller(tmp_path: Path) -> None:
    marker = tmp_path / "alive"
    script = f"import time; open({str(marker)!r}, 'w').close(); time.sleep(60)"
    task = asyncio.create_task(schedule.run_process([sys.executable, "-c", script], 60, datetime.now(UTC)))
    await asyncio.to_thread(_appear, marker)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)


async def test_a_process_that_hangs_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    command = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"]
    assert await asyncio.wait_for(schedule.run_process(command, 0.9, datetime.now(UTC)), 10) == -signal.SIGKILL
    assert "was killed after 0.00025 hours" in caplog.text


async def _add_decision(url: str) -> None:
    store = Store(url)
    await store.add_decisions([a_decision(created_at=0.0)])
    await store.close()


def _wait_for_all(barrier: Barrier) -> None:
    barrier.wait(timeout=60)


def _wake_for_nights(url: str) -> list[datetime]:
    """Five nights, each at the same moment in every process: they meet where the last one begins."""

    async def wake() -> list[datetime]:
        store = Store(url)
        replica = Replica(store, schedule.parse("0 3 * * *"))
        for night in range(5):
            await replica.wake(NIGHT + timedelta(days=night))
        await store.close()
        return replica.made

    return asyncio.run(wake())


def _appear(path: Path) -> None:
    while not path.exists():
        sleep(0.02)
