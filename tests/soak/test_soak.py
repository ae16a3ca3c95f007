"""One percent of `make soak`, as an ordinary test: every fault strikes once, and nothing is lost."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scorer.encoder import Encoder
from tests.demo.stack import ROOT
from tests.soak import memory

FAULTS = {
    "daemon killed",
    "database gone",
    "database locked",
    "disk full",
    "clock jumps",
    "old replica",
    "slow clients",
    "half-open sockets",
    "malformed requests",
}
ROW = re.compile(
    r"^(?P<fault>.*?) +(?:sqlite|postgresql) +(?P<numbers>(?:[\d,]+ +){7})(?P<back>[\d.]+) s ", re.MULTILINE
)
COLUMNS = ("requests", "failed", "routed", "fell_back", "ratings", "lost", "again")


def test_faults_are_survived_at_one_percent(encoder: Encoder, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.soak",
        "--scale",
        "0.01",
        "--minutes",
        "1",
        "--out",
        str(tmp_path / "table"),
    ]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (tmp_path / "table").read_text() == ended.stdout
    found: dict[str, dict[str, int]] = {}
    for row in ROW.finditer(ended.stdout):
        counts = [int(number.replace(",", "")) for number in row["numbers"].split()]
        found[row["fault"]] = dict(zip(COLUMNS, counts, strict=True))
    assert set(found) == FAULTS
    assert all((one["failed"], one["lost"]) == (0, 0) for one in found.values())
    assert all(one["ratings"] > 0 for one in found.values())
    assert found["daemon killed"]["fell_back"] > 0
    assert all(found[fault]["again"] > 0 for fault in ("daemon killed", "database gone", "disk full", "old replica"))
    assert found["malformed requests"]["requests"] >= 1000


def test_growth_is_the_slope_of_the_second_half() -> None:
    """Three megabytes a minute until half an hour, then one a minute: 60 an hour."""
    samples = [(60.0 * minute, 100.0 + min(minute, 30) * 3 + max(minute - 30, 0)) for minute in range(61)]
    assert memory.grown(samples) == pytest.approx((60.0, 100.0, 220.0, 60.0))


def test_memory_that_is_taken_is_resident() -> None:
    """In a process of its own: threads of other tests take and give back memory, too."""
    program = (
        "import os; from tests.soak import memory; before = memory.resident(os.getpid()); "
        "taken = b'1' * (64 * memory.MEGABYTE); print(memory.resident(os.getpid()) - before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert 60 < float(done.stdout) < 80
