"""From exec to ready: how long `routerd serve` takes until /readyz answers 200, and what the time goes to.

    python -m tests.benchmarks.coldstart [--starts 5]

Of each encoder the first start, which makes the database, and then starts on what is there. Processor seconds say more
than the clock on a machine that does other things. The second table has the imports, by package, without what a package
imports in turn.
"""

from __future__ import annotations

import argparse
import collections
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from scorer.sections import ENCODERS
from tests.benchmarks.capacity import LADDER, processor_seconds
from tests.demo.stack import ROOT, StackError, free_port

PROGRAM = "import scorer.cli, scorer.daemon, feedback.dashboard.commands, uvicorn"  # what `serve` needs
LONGEST = 120.0  # seconds
SHOWN = 12  # packages
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \| \s*(\S+)")
console = Console(highlight=False)


class Start(NamedTuple):
    """Seconds from exec to ready: by the clock, and of the processor."""

    clock: float
    processor: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=5, help="on an existing database")
    starts = parser.parse_args().starts
    table = Table(title="routerd serve, from exec to /readyz 200; seconds", title_justify="left", box=None)
    for column in ("encoder", "database", "starts", "clock, median", "least", "processor, median"):
        table.add_column(column, justify="left" if column in ("encoder", "database") else "right")
    for name in ENCODERS:
        with tempfile.TemporaryDirectory(prefix="routerd-cold-") as folder:
            config, port = written(Path(folder), name)
            first = [started(config, port)]
            again = [started(config, port) for _ in range(starts)]
        for database, found in (("new", first), ("there", again)):
            clocks = [each.clock for each in found]
            figures = (np.median(clocks), min(clocks), np.median([each.processor for each in found]))
            table.add_row(name, database, str(len(found)), *(f"{figure:.2f}" for figure in figures))
    console.print(table)
    console.print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    show_imports()


def written(folder: Path, encoder: str) -> tuple[Path, int]:
    """An ordinary configuration, and its port."""
    port = free_port()
    settings = {"ladder": LADDER, "encoder": encoder, "listen": f"127.0.0.1:{port}", "data_dir": str(folder / "data")}
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    return config, port


def started(config: Path, port: int) -> Start:
    """One start, and the end of it. Raises StackError."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "scorer", "serve", "--config", str(config)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while not ready(port):
            if process.poll() is not None or time.perf_counter() > began + LONGEST:
                raise StackError("the daemon did not start")
            time.sleep(0.005)
        return Start(time.perf_counter() - began, processor_seconds(process.pid))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def show_imports() -> None:
    by_package = collections.Counter(imported(PROGRAM))
    table = Table(title="imports; milliseconds by the clock", title_justify="left", box=None)
    table.add_column("package")
    table.add_column("of its own", justify="right")
    for package, microseconds in by_package.most_common(SHOWN):
        table.add_row(package, f"{microseconds / 1000:.0f}")
    table.add_row("all", f"{by_package.total() / 1000:.0f}", style="bold")
    console.print(table)


def imported(program: str) -> Mapping[str, int]:
    """Microseconds of their modules, by package; of the interpreter's own under `python`."""
    said = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program], cwd=ROOT, capture_output=True, check=True
    )
    found: collections.Counter[str] = collections.Counter()
    for own, package in _imports(said.stderr.decode()):
        found["python" if package in sys.stdlib_module_names else package] += own
    return found


def _imports(said: str) -> Iterator[tuple[int, str]]:
    for line in said.splitlines():
        if found := _IMPORT.match(line):
            yield int(found[1]), found[2].split(".")[0]


if __name__ == "__main__":
    main()
