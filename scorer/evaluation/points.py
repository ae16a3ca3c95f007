"""Points of routers measured elsewhere, to be drawn beside ours: a CSV."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scorer.evaluation.metrics import Floats
from scorer.tables import DataError, Table, read_table


@dataclass(frozen=True)
class Point:
    """One published setting of a router: share of strong calls and dollars a prompt, NaN if unknown; mean result.
    benchmark: its name, "" for all."""

    router: str
    benchmark: str
    share: float
    cost: float
    result: float


def read(path: Path) -> list[Point]:
    """Columns router and result; share (0 to 1), cost and benchmark if known. Raises DataError."""
    table = read_table(path)
    routers, results = table.texts("router"), table.numbers("result", -np.inf, np.inf)
    shares, costs = _numbers(table, "share", 1), _numbers(table, "cost", np.inf)
    if unplaced := np.flatnonzero(np.isnan(shares) & np.isnan(costs)).tolist():
        raise table.error(unplaced[0] + 1, "share", "neither a share nor a cost")
    benchmarks = table.names_or_blank("benchmark") if "benchmark" in table.names else [""] * len(table)
    return [
        Point(router, benchmark, float(share), float(cost), float(result))
        for router, benchmark, share, cost, result in zip(routers, benchmarks, shares, costs, results, strict=True)
    ]


def _numbers(table: Table, name: str, high: float) -> Floats:
    if name not in table.names:
        return np.full(len(table), np.nan)
    return table.numbers(name, 0, high, gaps=True)


def check(points: list[Point], benchmarks: list[str]) -> None:
    """Every point belongs to a benchmark that is evaluated; or a misspelt name would go unseen."""
    for point in points:
        if point.benchmark and point.benchmark not in benchmarks:
            raise DataError(f"{point.router}: no benchmark {point.benchmark!r}; there are {', '.join(benchmarks)}")
