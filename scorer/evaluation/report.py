"""The report on one benchmark: every method's measures with intervals, tests between them, and curves to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scorer.evaluation import baselines, bootstrap, metrics
from scorer.evaluation.benchmarks import Benchmark
from scorer.evaluation.bootstrap import Comparison, Interval
from scorer.evaluation.measures import LEVELS, Progress, drawn, measure
from scorer.evaluation.metrics import Floats
from scorer.evaluation.points import Point
from scorer.evaluation.routing import Counts, Curve, Path, harness_points, ladder_sweep, oracle_sweep

RANDOM, ORACLE = "random, expected", "oracle"
EFFECT = 0.05  # of APGR: the true difference whose power is reported


@dataclass(frozen=True)
class Single:
    """A model on its own: always-strongest and always-cheapest are the first and the last. Cost: dollars a prompt."""

    model: str
    result: Interval
    cost: Interval | None


@dataclass(frozen=True)
class Row:
    """One method's measures (scorer.evaluation.measures) with 95 % intervals, and its curve."""

    method: str
    measures: dict[str, Interval]
    curve: Curve


@dataclass(frozen=True)
class Report:
    """routers: which of the rows are routers. efficient: the oracle on the axis of cost, if costs are known."""

    benchmark: Benchmark
    routers: tuple[str, ...]
    singles: tuple[Single, ...]
    rows: tuple[Row, ...]
    tests: tuple[Comparison, ...]
    efficient: Curve | None
    points: tuple[Point, ...]


def evaluate(
    benchmark: Benchmark,
    win_rates: Mapping[str, Floats],
    routers: Sequence[str],
    *,
    points: Sequence[Point] = (),
    draws: int = 1000,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> Report:
    """win_rates: (n, m) of each method; `routers` are those of them that the tests are about.

    Random's expectation and the oracle are added. Intervals are over the prompts, which are resampled for all methods
    together. Seeded: the same input gives the same report.
    """
    outcomes, costs = benchmark.outcomes, benchmark.dollars
    paths: dict[str, Path] = {name: ladder_sweep(scores, outcomes, costs) for name, scores in win_rates.items()}
    paths[RANDOM] = baselines.random(outcomes, costs)
    paths[ORACLE] = oracle_sweep(outcomes, costs)
    counts = bootstrap.resample(len(outcomes), draws, seed)
    once = np.ones(len(outcomes), np.int64)
    rows, samples = [], {}
    for number, (name, path) in enumerate(paths.items()):
        curve = path.curve(once)
        samples[name] = drawn(path, counts, _part(progress, number, len(paths)))
        found = measure(curve) | (_harness(win_rates[name], outcomes) if name in win_rates else {})
        between = {key: bootstrap.interval(value, samples[name][key]) for key, value in found.items()}
        rows.append(Row(name, between, curve))
    areas = {row.method: row.measures["apgr"].value for row in rows}
    tested = [(a, b, areas[a] - areas[b], samples[a]["apgr"] - samples[b]["apgr"]) for a, b in _pairs(routers, areas)]
    return Report(
        benchmark,
        tuple(routers),
        tuple(_single(benchmark, place, counts) for place in range(len(benchmark.models))),
        tuple(rows),
        tuple(bootstrap.compare(tested, EFFECT)),
        None if benchmark.costs is None else oracle_sweep(outcomes, costs, costs).curve(once),
        tuple(point for point in points if point.benchmark in ("", benchmark.name)),
    )


def _pairs(routers: Sequence[str], methods: Mapping[str, float]) -> list[tuple[str, str]]:
    """Routers against each other, each once, then against every baseline."""
    between = [(a, b) for i, a in enumerate(routers) for b in routers[i + 1 :]]
    others = [name for name in methods if name not in routers and name != ORACLE]
    return between + [(a, b) for a in routers for b in others]


def _harness(win_rates: Floats, outcomes: Floats) -> dict[str, float]:
    """The code's numbers at its own 11 thresholds, of two models."""
    if outcomes.shape[1] > 2:
        return {}
    share, result = harness_points(win_rates[:, 1], outcomes[:, 1], outcomes[:, 0])
    gap = metrics.pgr(result, result[0], result[-1])
    cpts = {f"cpt_code_{level}": metrics.cpt_code(share, gap, level / 100) for level in LEVELS}
    return {"apgr_code": metrics.apgr(share, gap), **cpts}


def _single(benchmark: Benchmark, place: int, counts: Counts) -> Single:
    def mean(column: Floats) -> Interval:
        return bootstrap.interval(float(column.mean()), counts @ column / len(column))

    cost = None if benchmark.costs is None else mean(benchmark.costs[:, place])
    return Single(benchmark.models[place], mean(benchmark.outcomes[:, place]), cost)


def _part(progress: Progress, number: int, parts: int) -> Progress:
    return lambda done, total: progress(number * total + done, parts * total)
