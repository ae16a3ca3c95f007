"""Benchmarks: prompts with every model's result on them, and what a router makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scorer.evaluation import baselines
from scorer.evaluation.metrics import Curve, Interval, harness_curve, interval, resample, resampled_curves
from scorer.routers.base import Prompts, Router
from scorer.tables import DataError, read_table


@dataclass(frozen=True)
class Benchmark:
    """prompts: n texts; outcomes (n, m): result of each model, 0 to 1; models: m names."""

    name: str
    prompts: tuple[str, ...]
    models: tuple[str, ...]
    outcomes: NDArray[np.float64]


def load(path: Path, models: Sequence[str]) -> Benchmark:
    """A table with a column `prompt` and one a model. Raises DataError."""
    table = read_table(path)
    outcomes = np.stack([table.numbers(model, 0, 1) for model in models], axis=1)
    return Benchmark(path.stem, tuple(table.texts("prompt")), tuple(models), outcomes)


@dataclass(frozen=True)
class Row:
    """One method on one benchmark. Points are upstream's harness's; intervals are 95 % over resampled prompts."""

    benchmark: str
    method: str
    apgr: Interval
    cpt50: Interval
    cpt80: Interval
    lead: Interval  # the router's APGR minus this method's, on the same resamples


def evaluate(router: Router, prompts: Prompts, benchmark: Benchmark, *, draws: int = 1000, seed: int = 0) -> list[Row]:
    """The router between the benchmark's two models, strong first, beside prompt length and random's expectation.

    `prompts` are the benchmark's, encoded: several routers can share one pass of the encoder.
    """
    strong, weak = benchmark.outcomes.T
    if strong.mean() == weak.mean():
        raise DataError(f"{benchmark.name}: {' and '.join(benchmark.models)} score the same; nothing to route for")
    counts = resample(len(prompts), draws, seed)
    scores = {
        router.name: router.score(prompts, benchmark.models).win_rates[:, 1],
        "prompt length": baselines.prompt_length(benchmark.prompts),
    }
    points = {method: harness_curve(score, weak, strong) for method, score in scores.items()}
    samples = {method: resampled_curves(score, weak, strong, counts) for method, score in scores.items()}
    points["random"] = baselines.random_curve(weak, strong)
    samples["random"] = [points["random"]] * draws
    return [_row(benchmark.name, method, points, samples, router.name) for method in points]


def _row(benchmark: str, method: str, points: dict[str, Curve], samples: dict[str, list[Curve]], router: str) -> Row:
    point, drawn = points[method], samples[method]
    areas = {name: np.array([curve.apgr for curve in samples[name]]) for name in (method, router)}
    return Row(
        benchmark,
        method,
        interval(point.apgr, areas[method]),
        interval(point.cpt_harness(0.5), np.array([curve.cpt_harness(0.5) for curve in drawn])),
        interval(point.cpt_harness(0.8), np.array([curve.cpt_harness(0.8) for curve in drawn])),
        interval(points[router].apgr - point.apgr, areas[router] - areas[method]),
    )


def table(rows: Sequence[Row]) -> str:
    """Plain text, a line a row; shares of strong calls in percent."""
    lines = [f"{'benchmark':<12} {'method':<14} {'APGR':>21} {'CPT50 %':>18} {'CPT80 %':>18} {'router leads by':>23}"]
    for row in rows:
        cells = [_cell(row.apgr, 3), _cell(row.cpt50, 1, 100), _cell(row.cpt80, 1, 100), _cell(row.lead, 3)]
        widths = (21, 18, 18, 23)
        lines.append(
            f"{row.benchmark:<12} {row.method:<14} "
            + " ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        )
    return "\n".join(lines)


def _cell(number: Interval, digits: int, scale: float = 1) -> str:
    low, value, high = (f"{scale * part:.{digits}f}" for part in (number.low, number.value, number.high))
    return f"{value} ({low}, {high})"
