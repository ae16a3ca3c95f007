"""`make soak`: faults strike a real LiteLLM proxy, the daemon and its database under load, and nothing may be lost.

    python -m tests.soak [--scale 1] [--requests 100000] [--minutes 20] [--only slow ...]

Of each fault it prints how many requests went through the proxy, how many failed because of routing, how many ratings
the daemon acknowledged, and how many of those are not in the database afterwards. It ends with 1 unless no request
failed, no rating is lost, and routing came back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from tests.demo.stack import ROOT, StackError, running
from tests.soak import faults, malformed
from tests.soak.clock import Clock
from tests.soak.faults import Fault
from tests.soak.load import Load, Tally
from tests.soak.memory import Grown
from tests.soak.world import World

CONFIG, PROXY_CONFIG = ROOT / "config.example.yaml", ROOT / "docs" / "litellm.yaml"
PROMPTS = ROOT / "tests" / "demo" / "prompts.jsonl"
_PAUSE_SECONDS = 5.0  # of the plugin's circuit breaker
_TIMEOUT_MS = 1000  # of the plugin; longer than by default, since clients, proxy and providers share the machine


class Row(NamedTuple):
    """What came of a fault; back: seconds from its end to the next request that was routed, None: it never was."""

    fault: Fault
    done: str
    tally: Tally
    lost: int
    twice: int
    back: float | None

    @property
    def survived(self) -> bool:
        tally = self.tally
        return not (tally.failures or tally.unacknowledged or self.lost or self.twice) and self.back is not None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="of all durations and counts")
    parser.add_argument("--requests", type=int, default=100_000, help="of which one in a hundred is malformed")
    parser.add_argument("--minutes", type=float, default=20.0, help="that these last at least; memory is measured then")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--only", nargs="+", default=[], help="faults whose names contain one of these")
    parser.add_argument("--out", type=Path, default=Path("routerd-data/soak.txt"), help="where the table is kept, too")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing is left running
    os.environ["ROUTERD_TIMEOUT_MS"] = str(_TIMEOUT_MS)
    os.environ["ROUTERD_BREAKER_PAUSE_S"] = str(max(_PAUSE_SECONDS * chosen.scale, 0.5))
    with tempfile.TemporaryDirectory(prefix="routerd-soak-", ignore_cleanup_errors=True) as folder:
        try:
            with running(Path(folder), CONFIG, PROXY_CONFIG, {"STRONG": 0.02, "WEAK": 0.01}) as stack:
                world = World(stack, Path(folder), chosen.scale)
                try:
                    found = asyncio.run(soak(world, chosen))
                finally:
                    world.close()
        except StackError as error:
            print(f"soak: {error}", file=sys.stderr)
            return 1
    print(chosen.out.read_text(encoding="utf-8"), end="")
    return 0 if all(row.survived for row in found) else 1


def chosen_faults(chosen: argparse.Namespace, world: World, clock: Clock) -> list[Fault]:
    requests, minutes = world.times(chosen.requests), chosen.minutes * chosen.scale
    every = [
        Fault("daemon killed", "sqlite", faults.kill_daemon),
        Fault("daemon killed", "postgresql", faults.kill_daemon),
        Fault("database gone", "postgresql", faults.stop_postgresql),
        Fault("database locked", "sqlite", faults.lock_sqlite),
        Fault("disk full", "sqlite", faults.fill_disk),
        Fault("clock jumps", "sqlite", faults.jumping(clock)),
        Fault("old replica", "postgresql", faults.upgrade_beside),
        Fault("slow clients", "sqlite", faults.trickle),
        Fault("half-open sockets", "sqlite", faults.half_open),
        Fault("malformed requests", "sqlite", faults.busy(requests, minutes)),
    ]
    found = [one for one in every if not chosen.only or any(part in one.name for part in chosen.only)]
    if not found:
        raise StackError(f"--only: no fault is named {' or '.join(chosen.only)}")
    return found


async def soak(world: World, chosen: argparse.Namespace) -> list[Row]:
    """Every fault; the table is kept as it grows, with what memory did if that was measured."""
    clock = Clock(world.folder)
    prompts = [json.loads(line)["prompt"] for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    rows: list[Row] = []
    for fault in chosen_faults(chosen, world, clock):
        print(f"{fault.name}, {fault.database} ...", file=sys.stderr, flush=True)
        environment = clock.environment if fault.name == "clock jumps" else {}
        await asyncio.to_thread(world.begin, fault.database, environment)
        spoilt = await malformed.known(world.proxy) if fault.name == "malformed requests" else []
        load = Load(world.proxy, [world.url], prompts, chosen.clients, spoilt)
        rows.append(await suffer(world, load, fault))
        save(chosen.out, rows, world.grown)
    return rows


async def suffer(world: World, load: Load, fault: Fault) -> Row:
    """One fault, from its beginning under load to the count of what is stored."""
    back: float | None = None
    async with load:
        await load.until_routed()
        done = await fault.strike(world, load)
        try:
            back = await load.until_routed()
        except TimeoutError:
            print(f"{fault.name}: nothing is routed any more", file=sys.stderr)
    stored = await asyncio.to_thread(world.stored)
    lost = load.tally.acknowledged - stored
    return Row(fault, done, load.tally, len(lost), max(len(stored) - load.tally.ratings, 0), back)


def save(path: Path, rows: list[Row], grown: Mapping[str, Grown]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        report(Console(file=file, width=200), rows, grown)


def report(console: Console, rows: list[Row], grown: Mapping[str, Grown]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in (
        "fault",
        "database",
        "requests",
        "failed",
        "routed",
        "fell back",
        "ratings",
        "lost",
        "again",
        "back",
    ):
        table.add_column(column, justify="left" if column in ("fault", "database") else "right", no_wrap=True)
    table.add_column("what was done")
    for row in rows:
        tally = row.tally
        counts = (
            tally.requests,
            tally.failures.total(),
            tally.routed,
            tally.fallbacks.total(),
            len(tally.acknowledged),
        )
        more = (row.lost, tally.repeated)
        back = "never" if row.back is None else f"{row.back:.1f} s"
        table.add_row(row.fault.name, row.fault.database, *(f"{n:,}" for n in (*counts, *more)), back, row.done)
    console.print(table, markup=False)
    why = sum((row.tally.fallbacks for row in rows), Counter())
    console.print("fell back for: " + ", ".join(f"{reason} ({n:,})" for reason, n in why.most_common()), markup=False)
    for row in rows:
        for failure, count in row.tally.failures.most_common(5):
            console.print(f"FAILED {row.fault.name}: {count} x {failure}", markup=False)
        for count, what in ((row.tally.unacknowledged, "never acknowledged"), (row.twice, "stored beyond those given")):
            if count:
                console.print(f"FAILED {row.fault.name}: {count} ratings {what}", markup=False)
    for name, one in grown.items():
        console.print(
            f"memory of the {name}: {one.start:.0f} MB at the start, {one.end:.0f} MB after {one.minutes:.1f} minutes; "
            f"in the second half {one.slope:+.0f} MB an hour",
            highlight=False,
        )


if __name__ == "__main__":
    sys.exit(main())
