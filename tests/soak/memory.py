"""What processes hold of the machine's memory, and whether that grows."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import linear_regression
from typing import NamedTuple

MEGABYTE = 2**20
LEAST_SECONDS = 4.0
_EVERY_SECONDS = 1.0


class Grown(NamedTuple):
    """Megabytes resident at the start and at the end; slope: of the second half, in megabytes an hour."""

    minutes: float
    start: float
    end: float
    slope: float


def resident(pid: int) -> float:
    """Megabytes of the process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


async def watch(pids: Mapping[str, int]) -> dict[str, Grown]:
    """How the processes grow until this is cancelled, after LEAST_SECONDS at least."""
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in pids}
    began = time.monotonic()
    try:
        while True:
            for name, pid in pids.items():
                samples[name].append((time.monotonic() - began, resident(pid)))
            await asyncio.sleep(_EVERY_SECONDS)
    except asyncio.CancelledError:
        return {name: grown(taken) for name, taken in samples.items()}


def grown(samples: Sequence[tuple[float, float]]) -> Grown:
    """Of (seconds, megabytes), at least four."""
    seconds, megabytes = zip(*samples, strict=True)
    half = len(samples) // 2
    slope = linear_regression(seconds[half:], megabytes[half:]).slope
    return Grown((seconds[-1] - seconds[0]) / 60, megabytes[0], megabytes[-1], slope * 3600)
