"""A report as text to read, JSON to keep and CSV to compute with."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from scorer.evaluation.bootstrap import Comparison, Interval
from scorer.evaluation.measures import LEVELS, QUALITIES
from scorer.evaluation.metrics import cpt
from scorer.evaluation.report import Report, Row

Json = str | int | float | bool | None | Sequence["Json"] | Mapping[str, "Json"]


def text(report: Report) -> str:
    """Tables: the models, the methods, the cost of quality, the tests."""
    parts = [_head(report), _models(report), _areas(report), _qualities(report)]
    if report.tests:
        parts.append(_tests(report))
    if report.points:
        parts.append(_points(report))
    return "\n\n".join(parts)


def save(reports: Sequence[Report], about: Mapping[str, str], directory: Path) -> list[Path]:
    """report.json and report.csv, with what was evaluated (`about`) and everything of every report."""
    directory.mkdir(parents=True, exist_ok=True)
    whole, flat = directory / "report.json", directory / "report.csv"
    content: Json = {"about": about, "benchmarks": [_plain(report) for report in reports]}
    whole.write_text(json.dumps(_finite(content), indent=1, allow_nan=False) + "\n")
    with flat.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["benchmark", "method", "measure", "value", "low", "high"])
        for report in reports:
            table.writerows(_flat(report))
    return [whole, flat]


def _plain(report: Report) -> Json:
    benchmark = report.benchmark
    return {
        "benchmark": benchmark.name,
        "prompts": len(benchmark.prompts),
        "left_out": benchmark.left_out,
        "digest": benchmark.digest,
        "models": [asdict(single) for single in report.singles],
        "methods": [_method(row, row.method in report.routers, benchmark.costs is not None) for row in report.rows],
        "tests": [asdict(test) for test in report.tests],
        "points": [asdict(point) for point in report.points],
    }


def _method(row: Row, is_router: bool, priced: bool) -> Json:
    curve = row.curve.thinned()
    return {
        "method": row.method,
        "router": is_router,
        "measures": {name: asdict(value) for name, value in row.measures.items()},
        "curve": {
            "mix": curve.mix.tolist(),
            "result": curve.result.tolist(),
            "cost": curve.cost.tolist() if priced else None,
        },
    }


def _finite(value: Json) -> Json:
    """JSON has no NaN: null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def _flat(report: Report) -> Iterator[tuple[str, str, str, float, float, float]]:
    name = report.benchmark.name
    for single in report.singles:
        for measure, value in (("result", single.result), ("cost", single.cost)):
            if value is not None:
                yield name, f"always {single.model}", measure, value.value, value.low, value.high
    for row in report.rows:
        for measure, value in row.measures.items():
            if not math.isnan(value.value):
                yield name, row.method, measure, value.value, value.low, value.high
    for test in report.tests:
        difference = test.difference
        yield name, f"{test.a} - {test.b}", "apgr", difference.value, difference.low, difference.high


def _head(report: Report) -> str:
    benchmark = report.benchmark
    left_out = f" ({benchmark.left_out} left out)" if benchmark.left_out else ""
    title = f"{benchmark.name}: {len(benchmark.prompts):,} prompts{left_out}; {' > '.join(benchmark.models)}"
    return f"{title}\n{'=' * len(title)}"


def _models(report: Report) -> str:
    lines = []
    for single in report.singles:
        cost = [] if single.cost is None else [_cell(single.cost, 3, 1000)]
        lines.append([f"always {single.model}", _cell(single.result, 4), *cost])
    costs = [] if report.benchmark.costs is None else ["$ / 1000 prompts"]
    return _table(["", "mean result", *costs], lines)


def _areas(report: Report) -> str:
    """Two models: also the code's numbers. More: what is counted is money."""
    two = len(report.benchmark.models) == 2
    columns = ["apgr", *(["apgr_code"] if two else []), *(f"cpt_{level}" for level in LEVELS)]
    columns += ["over_shuffled"]
    titles = {"apgr": "APGR", "apgr_code": "APGR, code's", "over_shuffled": "over shuffled"}
    titles |= {f"cpt_{level}": f"CPT({level}) %" for level in LEVELS}
    lines = []
    for row in report.rows:
        cells = [_cell(row.measures[c], 1, 100) if "cpt" in c else _cell(row.measures[c], 3) for c in columns]
        lines.append([row.method, *cells])
    counted = "" if two or report.benchmark.costs is None else "\nAPGR and CPT count the money between all-cheapest's"
    return _table(["", *(titles[c] for c in columns)], lines) + (counted and f"{counted} cost and all-strongest's.")


def _qualities(report: Report) -> str:
    priced = report.benchmark.costs is not None
    titles = [f"{quality} %: strong %" for quality in QUALITIES]
    lines = []
    for row in report.rows:
        cells = []
        for quality in QUALITIES:
            cells.append(_cell(row.measures[f"share_{quality}"], 1, 100))
            if priced:
                cells.append(_cell(row.measures[f"cost_{quality}"], 3, 1000))
        lines.append([row.method, *cells])
    heads = [part for title in titles for part in ([title, "$ / 1000"] if priced else [title])]
    return _table(["to keep of the strongest's result", *heads], lines)


def _tests(report: Report) -> str:
    lines = [[f"{test.a} - {test.b}", *_test(test)] for test in report.tests]
    effect = report.tests[0].effect
    heads = ["", "difference in APGR", "p", "p (Holm)", "detectable", f"power at {effect:g}"]
    return _table(heads, lines)


def _test(test: Comparison) -> list[str]:
    return [
        _cell(test.difference, 3),
        _small(test.p),
        _small(test.adjusted),
        f"{test.detectable:.3f}",
        f"{test.power:.2f}",
    ]


def _points(report: Report) -> str:
    """Where our methods reach what was published."""
    strongest, cheapest = report.singles[0].result.value, report.singles[-1].result.value
    heads = ["published", "result", "strong %", *(f"{name} needs %" for name in report.routers)]
    curves = {row.method: row.curve for row in report.rows}
    lines = []
    for point in report.points:
        level = (point.result - cheapest) / (strongest - cheapest)
        needed = [cpt(curves[name].share, curves[name].pgr, level) for name in report.routers]
        shares = [f"{100 * share:.1f}" if share == share else "-" for share in (point.share, *needed)]
        lines.append([point.router, f"{point.result:g}", *shares])
    return _table(heads, lines)


def _small(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _cell(number: Interval, digits: int, scale: float = 1) -> str:
    if math.isnan(number.value):
        return "-"
    parts = (number.low, number.value, number.high)
    low, value, high = (f"{round(scale * part, digits) + 0.0:.{digits}f}" for part in parts)  # + 0.0: no minus zero
    return f"{value} ({low}, {high})"


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, the first to the left."""
    rows = [list(heads), *map(list, lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  "
        + "  ".join(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    )
