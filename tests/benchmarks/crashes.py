"""Kill -9 at any point of a nightly run and of a daemon's swap: what is found afterwards.

    python -m tests.benchmarks.crashes [--points 200] [--database sqlite postgresql]

Killed are: the process that makes a run, before and after every durable step (a transaction, its commit, an fsync, a
rename) and at moments spread evenly over its duration; a daemon, while it takes versions over. Another process rates
all the while and notes on disk what was acknowledged; every other time it is killed too.

After each kill: the active version of each router is there with its calibration and scores exactly as the champion or
the challenger does, and so does everything else that is taken for a version; a daemon started anew serves it; nothing
acknowledged is lost; the next run takes over, ends with a record, and the challengers serve. PostgreSQL is a server of
our own, which lives on.
"""

from __future__ import annotations

import argparse
import itertools
import os
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import httpx
from rich.console import Console
from rich.table import Table

from feedback import retrain
from feedback.records import Activation, Rating, Run
from feedback.retrain import JOB
from feedback.store import Store
from scorer import chores
from tests.benchmarks.champions import NIGHT, PROBES, RATER, Broken, Known, World
from tests.benchmarks.killing import Point, Stuck, Watch, forked, killed, points
from tests.feedback.examples import rows

SWAPS = 0.2  # of the points are a daemon's
SWAP_POINTS = [
    Point(step, time)
    for step in ("poll: begins", "load: begins", "read: begins", "calibrate: begins")
    for time in (1, 2)
]
SWAP_SECONDS = 1.0  # about what two activations and their swaps take
DAY = 86_400.0
_PATIENCE_SECONDS = 30.0

console = Console(highlight=False, width=150, soft_wrap=True)


class Kill(NamedTuple):
    """swap: of a daemon, not of a run; point None: after so many seconds; both: of the rater too."""

    swap: bool
    point: Point | None
    seconds: float
    both: bool


class Found(NamedTuple):
    """where: what was going on; active: champion or challenger, of each router; run: what its row says; unfinished:
    directories; unused: whole versions that never served."""

    kill: Kill
    where: str
    active: tuple[str, ...]
    run: str
    unfinished: int
    unused: int
    acknowledged: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=200, help="for each database")
    parser.add_argument("--database", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    parser.add_argument("--url", help="of an empty or migrated database, in place of those")
    chosen = parser.parse_args()
    broken = 0
    for name in [chosen.url] if chosen.url else chosen.database:
        with tempfile.TemporaryDirectory(prefix="routerd-bench-") as folder, database(name, Path(folder)) as url:
            began = time.perf_counter()
            found, faults = crash(World(url, Path(folder)), chosen.points)
            report(url.partition(":")[0], found, time.perf_counter() - began)
            for fault in faults:
                console.print(f"BROKEN {fault}", markup=False)
            broken += len(faults)
    sys.exit(1 if broken else 0)


@contextmanager
def database(name: str, folder: Path) -> Iterator[str]:
    """The URL of a new one, or that of one that is there."""
    if name == "sqlite":
        yield f"sqlite:///{folder}/routerd.sqlite"
    elif name == "postgresql":
        from tests.postgres import Postgres

        server = Postgres(str(folder / "postgres"))
        try:
            yield server.create()
        finally:
            server.close()
    else:
        yield name


def crash(world: World, count: int) -> tuple[list[Found], list[str]]:
    """So many kills, what each left behind, and what should not have been."""
    found, faults = [], []
    with mock.patch.object(retrain, "EXPIRY_SECONDS", 0.05), mock.patch.object(chores, "_POLL_SECONDS", 0.02):
        for number, kill in enumerate(kills(world, count)):
            print(f"\r{number} of {count}", end="", file=sys.stderr, flush=True)
            try:
                found.append(survive(world, kill))
            except (Broken, Stuck, httpx.HTTPError) as fault:
                faults.append(f"{kill}: {fault}")
    return found, faults


def kills(world: World, count: int) -> list[Kill]:
    """Every durable step if there is room for all, then moments; and of the daemon its stages, then moments."""
    steps, run_seconds = measured(world)
    swaps = round(count * SWAPS)
    chosen: list[Kill] = []
    for swap, named, seconds, n in (
        (False, steps, run_seconds, count - swaps),
        (True, SWAP_POINTS, SWAP_SECONDS, swaps),
    ):
        most = n if n >= 2 * len(named) else n // 2
        named = named[:: -(-len(named) // max(most, 1))]
        moments = [seconds * (i + 0.5) / (n - len(named)) for i in range(n - len(named))]
        chosen += [Kill(swap, point, 0.0, i % 2 == 1) for i, point in enumerate(named)]
        chosen += [Kill(swap, None, moment, i % 2 == 1) for i, moment in enumerate(moments)]
    return chosen


def measured(world: World) -> tuple[list[Point], float]:
    """The steps that a run takes, and how long it takes."""
    world.reset()
    watch, journal = Watch(), world.folder / "steps"
    watch.arm()
    began = time.perf_counter()
    killed(forked(world.run, NIGHT, watch, None, journal))
    return points(journal), time.perf_counter() - began


def survive(world: World, kill: Kill) -> Found:
    """One kill, and everything that must hold after it. Raises Broken."""
    world.reset()
    watch, journal = Watch(), world.folder / "acknowledged"
    journal.write_bytes(b"")
    running, rater = (swapping if kill.swap else publishing)(world, kill, watch, journal)
    try:
        end(running, kill)
        if kill.both:
            rater.kill()
        if kill.swap:
            until(lambda: len(active_children()) == rater.is_alive(), "the activations to end")
        active, unfinished, unused = world.look()
        runs = world.stored(lambda store: store.runs(JOB))
        served(world, active)
        acknowledged = kept(world, journal)
        if kill.swap:  # over HTTP people rate, and the next run would learn from it
            world.forget_ratings()
            journal.write_bytes(b"")
        resumed(world, runs)
    finally:
        rater.kill()
        rater.join()
    acknowledged = max(acknowledged, kept(world, journal))
    where = watch.at or "start: begins"
    status = runs[0].status if runs else "none"
    return Found(kill, where, tuple(one.name for _, one in active), status, unfinished, unused, acknowledged)


def publishing(world: World, kill: Kill, watch: Watch, journal: Path) -> tuple[BaseProcess, BaseProcess]:
    """A run, and a rater beside it."""
    rater = forked(rate, world, journal)
    until(lambda: journal.stat().st_size > 0, "the rater to begin")
    watch.arm()
    return forked(world.run, NIGHT, watch, kill.point), rater


def swapping(world: World, kill: Kill, watch: Watch, journal: Path) -> tuple[BaseProcess, BaseProcess]:
    """A daemon that is told to follow to the challengers, and a rater whose ratings it takes."""
    running, url = started(world, watch, kill.point)
    rater = forked(post, world, url, journal)
    until(lambda: journal.stat().st_size > 0, "the rater to begin")
    watch.arm()
    forked(world.swap)
    return running, rater


def end(process: BaseProcess, kill: Kill) -> None:
    """Kills the process, unless it kills itself. It may have ended before its moment, but not in error."""
    if kill.point is None:
        time.sleep(kill.seconds)
        process.kill()
    if not killed(process) and (kill.point or process.exitcode):
        raise Broken(f"the process ended with {process.exitcode} before it could be killed")


def started(world: World, *watched: object) -> tuple[BaseProcess, str]:
    """A daemon that answers, and its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        process = forked(world.serve, listening, *watched)
    until(lambda: answers(url), "the daemon to answer")
    return process, url


def served(world: World, active: Sequence[tuple[Activation, Known]]) -> None:
    """A daemon that is started now serves what is active, with its thresholds. Raises Broken."""
    process, url = started(world)
    try:
        for one, known in active:
            body = {"model": f"router-{one.router}-p50", "prompt": PROBES[0]}
            answer = httpx.post(f"{url}/v1/route", json=body, timeout=30).raise_for_status().json()
            said = answer["version"], tuple(answer["win_rates"].values()), answer["threshold"]
            if said != (one.version, known.scores[0], known.threshold):
                raise Broken(f"a daemon answers {said}, but {one.version} is active")
    finally:
        process.kill()
        process.join()
        world.forget_decisions()


def resumed(world: World, before: Sequence[Run]) -> None:
    """The next run takes over, or is that of the next night; it ends with a record, and challengers serve."""
    over = bool(before) and before[0].finished_at is not None
    night = NIGHT + DAY * over
    if not over and not world.stored(lambda store: store.wants_run(JOB, night, 0.05)):
        raise Broken("the run that was killed is not wanted again")
    if killed(process := forked(world.run, night)) or process.exitcode:
        raise Broken(f"the next run ended with {process.exitcode}")
    last = world.stored(lambda store: store.runs(JOB))[0]
    if (last.scheduled_for, last.status in ("published", "refused", "skipped")) != (night, True) or not last.record:
        raise Broken(f"the next run left {last.status}: {last.verdict}")
    active, _, _ = world.look()
    if {known.name for _, known in active} != {"challenger"}:
        raise Broken(f"after the next run there serve {[known.name for _, known in active]}: {last.verdict}")


def rate(world: World, journal: Path) -> None:
    """Rates through the store for ever, and notes what is acknowledged."""

    async def work(store: Store) -> None:
        with journal.open("ab", buffering=0) as file:
            for number, decision_id in enumerate(itertools.cycle(world.decisions)):
                rating = Rating(decision_id=decision_id, value=1.0, source=RATER, user=str(number), comment=RATER)
                note(file.fileno(), (await store.rate(rating)).feedback_id)

    world.stored(work)


def post(world: World, url: str, journal: Path) -> None:
    """Rates through the daemon until that is gone, and notes what is acknowledged."""
    with journal.open("ab", buffering=0) as file, httpx.Client(base_url=url, timeout=30) as client:
        for number, decision_id in enumerate(itertools.cycle(world.decisions)):
            body = {"decision_id": decision_id, "rating": "up", "user": str(number), "comment": RATER}
            try:
                answer = client.post("/v1/feedback", json=body)
            except httpx.TransportError:
                return
            note(file.fileno(), answer.raise_for_status().json()["feedback_id"])


def note(file: int, feedback_id: str) -> None:
    os.write(file, f"{feedback_id}\n".encode())
    os.fsync(file)
    time.sleep(0.03)


def kept(world: World, journal: Path) -> int:
    """How many ratings were acknowledged; all of them are there. Raises Broken."""
    acknowledged = {line for line in journal.read_text().splitlines(keepends=True) if line.endswith("\n")}
    there = {f"{one}\n" for (one,) in rows(world.url, f"SELECT feedback_id FROM ratings WHERE comment = '{RATER}'")}
    if lost := acknowledged - there:
        raise Broken(f"{len(lost)} of {len(acknowledged)} acknowledged ratings are lost")
    return len(acknowledged)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).is_success
    except httpx.TransportError:
        return False


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise Stuck(f"waited in vain for {what}")
        time.sleep(0.01)


def report(name: str, found: Sequence[Found], seconds: float) -> None:
    table = Table(title=f"{name}: {len(found)} kills survived in {seconds:.0f} s", title_justify="left", box=None)
    for column in ("killed in", "kills", "its run", "mf, sw then serving", "half-written", "unused", "acknowledged"):
        table.add_column(column, justify="left" if column in ("killed in", "its run") else "right", no_wrap=True)
    groups: dict[tuple[str, str, str], list[Found]] = {}
    for one in found:
        stage = f"{'swap' if one.kill.swap else 'run'}, {one.where.partition(':')[0]}"
        groups.setdefault((stage, one.run, " ".join(one.active)), []).append(one)
    for (stage, run, active), group in groups.items():
        sums = (sum(getattr(one, field) for one in group) for field in ("unfinished", "unused", "acknowledged"))
        table.add_row(stage, str(len(group)), run, active, *map(str, sums))
    console.print(table)
    named, both = sum(one.kill.point is not None for one in found), sum(one.kill.both for one in found)
    by = Counter("swap" if one.kill.swap else "run" for one in found)
    console.print(f"{by['run']} in a run, {by['swap']} in a swap; {named} at a named step; {both} hit the rater too")
    console.print(f"{sum(one.acknowledged for one in found)} ratings acknowledged, none lost")


if __name__ == "__main__":
    main()
