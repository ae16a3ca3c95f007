"""The faults: each strikes a running whole under load, ends, and says what it did."""

from __future__ import annotations

import asyncio
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import make_url

from feedback import migrations
from tests.demo.stack import ROOT, StackError, free_port
from tests.soak import memory, sockets
from tests.soak.clock import Clock
from tests.soak.load import Load
from tests.soak.world import World

HOUR, DAY = 3600.0, 86_400.0
_JUMPS = (HOUR, 0, -HOUR, 0, 2 * DAY, 0, -2 * DAY, 0)  # seconds that the daemon's clock is ahead, one after the other
_SLOW, _HALF_OPEN, _FILES = 200, 400, 256  # connections, and the files that the daemon may then have open

_REVISION = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "9999", "{head}"
def upgrade():
    op.add_column("ratings", sa.Column("soaked", sa.Integer))
    op.create_table("soaks", sa.Column("id", sa.Integer, primary_key=True))
"""
_NEWER = """
import sys
from pathlib import Path
from feedback import migrations
migrations._SCRIPTS = Path(sys.argv.pop(1))
from scorer.cli import cli
cli()
"""

Strike = Callable[[World, Load], Awaitable[str]]


class Fault(NamedTuple):
    """`strike` ends when the fault does, and answers what was done."""

    name: str
    database: str
    strike: Strike


async def kill_daemon(world: World, load: Load) -> str:
    """Killed for three seconds, now and again."""
    kills = world.times(6)
    for _ in range(kills):
        await asyncio.sleep(world.seconds(7))
        await asyncio.to_thread(world.daemon.stop, signal.SIGKILL)
        await asyncio.sleep(world.seconds(3))
        await asyncio.to_thread(world.daemon.start)
    return f"kill -9 and a restart, {kills} x"


async def stop_postgresql(world: World, load: Load) -> str:
    seconds = world.seconds(60)
    await asyncio.to_thread(world.postgres.crash)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(world.postgres.start)
    return f"PostgreSQL stopped at once, for {seconds:.0f} s"


async def lock_sqlite(world: World, load: Load) -> str:
    seconds = world.seconds(60)
    await asyncio.to_thread(_lock, str(make_url(world.database).database), seconds)
    return f"the file locked by another process, for {seconds:.0f} s"


def _lock(file: str, seconds: float) -> None:
    connection = sqlite3.connect(file, isolation_level=None, timeout=60)
    connection.execute("BEGIN EXCLUSIVE")
    time.sleep(seconds)
    connection.close()


async def fill_disk(world: World, load: Load) -> str:
    """No file of the daemon's may grow beyond what its write-ahead log has."""
    seconds = world.seconds(60)
    with _limited(world.pid, resource.RLIMIT_FSIZE, world.log_bytes()):
        await asyncio.sleep(seconds)
    return f"RLIMIT_FSIZE at the size of the database's log, for {seconds:.0f} s"


def jumping(clock: Clock) -> Strike:
    async def strike(world: World, load: Load) -> str:
        for ahead in _JUMPS:
            clock.put(ahead)
            await asyncio.sleep(world.seconds(8))
        return "the daemon's clock an hour and two days ahead and behind"

    return strike


async def upgrade_beside(world: World, load: Load) -> str:
    """A newer replica migrates the database; the older one goes on, cannot be restarted, and is replaced."""
    newer = _newer(world)
    port = free_port()
    beside = replace(
        world.daemon,
        command=[*newer, str(world.folder / "newer.yaml")],
        ready=f"http://127.0.0.1:{port}/readyz",
        log=world.folder / "newer.log",
        process=None,
    )
    world.configure(world.folder / "newer.yaml", listen=f"127.0.0.1:{port}")
    try:
        await asyncio.to_thread(beside.start)
        load.daemons.append(f"http://127.0.0.1:{port}")
        await asyncio.sleep(world.seconds(30))
        await asyncio.to_thread(world.daemon.stop)
        await asyncio.to_thread(_check_refused, world)
        world.daemon.command = [*newer, str(world.daemon.command[-1])]
        await asyncio.to_thread(world.daemon.start)
        await load.until_routed()
        load.daemons.pop()
    finally:
        await asyncio.to_thread(beside.stop)
    return "a newer one migrates; it goes on, but does not start again"


def _newer(world: World) -> list[str]:
    """The command of a daemon whose schema is one revision ahead."""
    scripts = world.folder / "newer"
    shutil.copytree(migrations._SCRIPTS, scripts)
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    head = ScriptDirectory.from_config(config).get_current_head()
    (scripts / "versions" / "r9999.py").write_text(_REVISION.format(head=head))
    return [sys.executable, "-c", _NEWER, str(scripts), "serve", "--config"]


def _check_refused(world: World) -> None:
    """Raises StackError unless the daemon ends at once, with a line that says why."""
    ended = subprocess.run(world.daemon.command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    lines = ended.stderr.strip().splitlines()
    if ended.returncode != 2 or len(lines) != 1 or "is of a newer routerd" not in lines[0]:
        raise StackError(f"a replica with an old schema ended with {ended.returncode}: {ended.stderr}")


async def trickle(world: World, load: Load) -> str:
    seconds = world.seconds(60)
    await sockets.trickle(world.url, _SLOW, seconds)
    return f"{_SLOW} clients of a byte a second, for {seconds:.0f} s"


async def half_open(world: World, load: Load) -> str:
    """More than the daemon may have open."""
    seconds = world.seconds(60)
    limit = _limited(world.pid, resource.RLIMIT_NOFILE, _FILES)
    with limit, sockets.half_open(world.url, _HALF_OPEN) as opened:
        left = await asyncio.to_thread(sockets.left_open, opened, seconds)
    return f"{_HALF_OPEN} silent sockets where {_FILES} files may be open; {left} of them after {seconds:.0f} s"


@contextmanager
def _limited(pid: int, what: int, limit: int) -> Iterator[None]:
    """A limit (resource.RLIMIT_*) of another process, for a while."""
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, what, before)


def busy(requests: int, minutes: float) -> Strike:
    """Nothing but the load, in which memory is measured: so many requests, for so long at least."""

    async def strike(world: World, load: Load) -> str:
        await load.spoil()
        watching = asyncio.create_task(memory.watch({"daemon": world.pid, "proxy": world.proxy_pid}))
        await asyncio.gather(load.until_asked(requests), asyncio.sleep(max(60 * minutes, memory.LEAST_SECONDS)))
        watching.cancel()
        world.grown = await watching
        statuses = ", ".join(f"{status}: {n:,}" for status, n in sorted(load.tally.malformed.items()))
        return f"{load.tally.malformed.total():,} malformed, answered as without routing ({statuses})"

    return strike
