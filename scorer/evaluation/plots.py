"""Plots of a report: quality against the share of strong calls, and quality against cost. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from scorer.evaluation.baselines import best_mixture
from scorer.evaluation.labels import Label, place
from scorer.evaluation.metrics import Floats
from scorer.evaluation.points import Point
from scorer.evaluation.report import ORACLE, RANDOM, Report, Row
from scorer.evaluation.routing import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by the colour-blind; darkest first, for print.
_ROUTERS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_BASELINE, _INK, _FAINT = "#8A8A8A", "#222222", "#BBBBBB"
_DASHES = ((0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2)))
Style = TypeVar("Style")
_SIZE, _DPI = (6.8, 4.4), 200


def save(report: Report, directory: Path) -> list[Path]:
    """<benchmark>-share.png for two models or where no costs are known, <benchmark>-cost.png where they are."""
    figures = {}
    if len(report.benchmark.models) == 2 or report.benchmark.costs is None:
        figures["share"] = by_share(report)
    if report.benchmark.costs is not None:
        figures["cost"] = by_cost(report)
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind, figure in figures.items():
        path = directory / f"{report.benchmark.name}-{kind}.png"
        figure.savefig(path, dpi=_DPI)
        paths.append(path)
    return paths


def require() -> None:
    """Raises ModuleNotFoundError where matplotlib is missing: to be called before hours of work, not after."""
    import_module("matplotlib")


def by_share(report: Report) -> Figure:
    """Mean result against the share of calls to the strongest model, between both models' levels."""
    figure, axes = _figure(report, "calls to the strongest model, %")
    strongest, cheapest = report.singles[0], report.singles[-1]
    curves = {row.method: np.stack([100 * row.curve.share, row.curve.result], axis=1) for row in _drawn(report)}
    points = _published(report, lambda point: 100 * point.share)
    axes.set_xlim(0, 100)
    _limit(axes, [*curves.values(), *points.values()])
    levels = []
    for single in (strongest, cheapest):
        axes.axhline(single.result.value, color=_FAINT, linewidth=0.8, zorder=1)
        line = np.array([[3, single.result.value], [97, single.result.value]])
        levels.append(Label(f"{_short(single.model)} {single.result.value:.3g}", line, _INK))
    _draw(axes, report, curves, points, levels)
    return figure


def by_cost(report: Report) -> Figure:
    """Mean result against mean cost on a log axis, every model a point; what no look at the prompt can beat, dashed."""
    figure, axes = _figure(report, "dollars per 1,000 prompts")
    axes.set_xscale("log")
    curves = {
        row.method: _between(np.stack([1000 * row.curve.cost, row.curve.result], axis=1))
        for row in _drawn(report)
        if row.method != ORACLE
    }
    if report.efficient is not None:
        curves[ORACLE] = _rising(report.efficient)
    models = np.array([[1000 * s.cost.value, s.result.value] for s in report.singles if s.cost is not None])
    points = _published(report, lambda point: 1000 * point.cost)
    everything = np.concatenate([*curves.values(), models, *points.values()])
    low, high = everything[everything[:, 0] > 0, 0].min(), everything[:, 0].max()
    for drawn in (*curves.values(), models, *points.values()):
        drawn[:, 0] = np.maximum(drawn[:, 0], low / 1.2)  # a log axis has no place for what is free but its left end
    axes.set_xlim(low / 1.25, high * 1.35)
    _limit(axes, [everything])
    _dollars(axes)
    if len(models) > 2:  # of two it is random's
        curves["best mixture of models"] = _between(models[best_mixture(*models.T)])
    axes.scatter(models[:, 0], models[:, 1], s=26, color=_INK, zorder=5)
    names = [
        Label(_short(single.model), point[None], _INK) for single, point in zip(report.singles, models, strict=True)
    ]
    _draw(axes, report, curves, points, names)
    return figure


def _figure(report: Report, axis: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # not pyplot: nothing global, no display

    figure = Figure(figsize=_SIZE, dpi=100, layout=None)
    axes = figure.add_axes((0.085, 0.12, 0.885, 0.78))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_BASELINE)
    axes.tick_params(labelsize=8, color=_BASELINE, labelcolor=_INK)
    axes.set_xlabel(axis, size=9, color=_INK)
    axes.set_title(
        f"{report.benchmark.name}: mean result of {len(report.benchmark.prompts):,} prompts",
        size=10,
        color=_INK,
        loc="left",
        pad=10,
    )
    return figure, axes


def _draw(
    axes: Axes, report: Report, curves: dict[str, Floats], points: dict[str, Floats], labels: list[Label]
) -> None:
    """Routers in colour and on top, baselines in grey dashes, the oracle in black; labelled in that order."""
    baselines = [name for name in curves if name not in (*report.routers, ORACLE)]
    for name, style in zip(baselines, _cycle(_DASHES, len(baselines)), strict=True):
        chance = name == RANDOM
        axes.plot(*curves[name].T, color=_BASELINE, linewidth=0.9, linestyle="solid" if chance else style, zorder=2)
    axes.plot(*curves[ORACLE].T, color=_INK, linewidth=1.0, linestyle=_DASHES[1], zorder=2)
    colours = dict(zip(report.routers, _cycle(_ROUTERS, len(report.routers)), strict=True))
    for name, colour in colours.items():
        axes.plot(*curves[name].T, color=colour, linewidth=2.0, zorder=3, solid_capstyle="round")
    for point in points.values():
        axes.plot(*point.T, color=_INK, linewidth=0.6, zorder=4)
        axes.scatter(
            point[:, 0], point[:, 1], s=34, marker="D", facecolor="white", edgecolor=_INK, linewidth=1.1, zorder=5
        )
    wanted = [
        *labels,
        *(Label(name, points[name], _INK) for name in points),
        *(Label(_titled(report, name), curves[name], colours[name], 9, True) for name in report.routers),
        Label(ORACLE, curves[ORACLE], _INK),
        *(Label(name, curves[name], "#5F5F5F") for name in reversed(baselines)),
    ]
    place(axes, wanted)


def _titled(report: Report, name: str) -> str:
    value = next(row.measures["apgr"].value for row in report.rows if row.method == name)
    return f"{name}, APGR {value:.3f}"


def _drawn(report: Report) -> Sequence[Row]:
    """Every method but the random router, whose expectation is drawn."""
    rows = [row for row in report.rows if row.method != "random" or row.method in report.routers]
    return [Row(row.method, row.measures, row.curve.thinned(401)) for row in rows]


def _published(report: Report, at: Callable[[Point], float]) -> dict[str, Floats]:
    """(k, 2) for each router measured elsewhere, of its points that have a place on this axis."""
    placed = [(point.router, at(point), point.result) for point in report.points if not np.isnan(at(point))]
    routers = dict.fromkeys(router for router, _, _ in placed)
    return {name: np.array(sorted((x, y) for router, x, y in placed if router == name)) for name in routers}


def _rising(curve: Curve) -> Floats:
    """The oracle's curve without what it may waste at the end."""
    best = int(curve.result.argmax()) + 1
    kept = np.unique(np.linspace(0, best - 1, 401).round().astype(int))
    return np.stack([1000 * curve.cost[kept], curve.result[kept]], axis=1)


def _between(corners: Floats) -> Floats:
    """Points along straight lines, which a log axis bends."""
    steps = np.linspace(0, len(corners) - 1, max(2, (len(corners) - 1) * max(2, 400 // len(corners)) + 1))
    return np.stack([np.interp(steps, np.arange(len(corners)), column) for column in corners.T], axis=1)


def _limit(axes: Axes, drawn: Sequence[Floats]) -> None:
    results = np.concatenate([curve[:, 1] for curve in drawn])
    low, high = results.min(), results.max()
    axes.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))


def _dollars(axes: Axes) -> None:
    """Ticks at 1, 2 and 5 of each decade, as money."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda dollars, _: f"${dollars:.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _cycle(items: Sequence[Style], n: int) -> list[Style]:
    return [items[i % len(items)] for i in range(n)]


def _short(model: str) -> str:
    return model.rpartition("/")[2]
