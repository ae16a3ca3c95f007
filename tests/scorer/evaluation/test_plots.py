"""Plots show every method, label it, and keep labels apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scorer.evaluation import labels, plots, report
from scorer.evaluation.benchmarks import Benchmark
from scorer.evaluation.labels import Label
from scorer.evaluation.points import Point
from scorer.evaluation.report import Report
from tests.scorer.evaluation.conftest import made_up

Box = NDArray[np.float64]  # (2, 2): lower left and upper right, in pixels


def boxes(figure: Figure) -> dict[str, Box]:
    """Where each label is, as drawn."""
    figure.canvas.draw()
    return {text.get_text(): np.array(text.get_window_extent()) for text in figure.axes[0].texts}


def overlap(a: Box, b: Box) -> bool:
    return bool(((a[0] < b[1]) & (b[0] < a[1])).all())


def test_every_method_and_both_levels_are_labelled_once(two: Report) -> None:
    found = boxes(plots.by_share(two))
    apgr = next(row.measures["apgr"].value for row in two.rows if row.method == "knows")
    weak = two.benchmark.outcomes[:, 1].mean()
    expected = {"model-0 1", f"model-1 {weak:.3g}", f"knows, APGR {apgr:.3f}", "length", "random, expected", "oracle"}
    assert set(found) == expected


def test_a_priced_ladder_shows_its_models_and_published_points(priced: Report) -> None:
    found = boxes(plots.by_cost(priced))
    assert {"model-0", "model-1", "model-2", "Martian", "best mixture of models", "oracle"} <= set(found)
    assert plots.by_cost(priced).axes[0].get_xscale() == "log"


@pytest.mark.parametrize("kind", ["share", "cost"])
def test_labels_keep_apart_and_inside(kind: str, two: Report, priced: Report) -> None:
    figure = plots.by_share(two) if kind == "share" else plots.by_cost(priced)
    found = list(boxes(figure).values())
    frame = np.array(figure.axes[0].get_window_extent())
    for i, box in enumerate(found):
        assert (box[0] >= frame[0] - 4).all()
        assert (box[1] <= frame[1] + 4).all()
        assert not any(overlap(box, other) for other in found[i + 1 :])


def test_curves_are_drawn_at_their_numbers(two: Report) -> None:
    axes: Axes = plots.by_share(two).axes[0]
    drawn = [np.asarray(line.get_xydata()) for line in axes.get_lines()]
    curve = next(row.curve for row in two.rows if row.method == "knows")
    wanted = np.stack([100 * curve.share, curve.result], axis=1)
    assert any(line.shape == wanted.shape and np.allclose(line, wanted) for line in drawn)


def test_figures_are_saved_by_what_is_known(two: Report, priced: Report, tmp_path: Path) -> None:
    assert [path.name for path in plots.save(two, tmp_path)] == ["made up-share.png"]
    assert [path.name for path in plots.save(priced, tmp_path)] == ["made up-cost.png"]
    assert (tmp_path / "made up-cost.png").read_bytes().startswith(b"\x89PNG")


def test_a_longer_ladder_without_costs_is_drawn_by_share(tmp_path: Path) -> None:
    benchmark, win_rates = made_up(100, models=3)
    found = report.evaluate(benchmark, win_rates, ["knows"], draws=10)
    assert [path.name for path in plots.save(found, tmp_path)] == ["made up-share.png"]


def test_all_points_of_a_router_are_drawn_and_labelled_once() -> None:
    benchmark, win_rates = made_up(100, models=3, costs=True)
    points = [Point("Martian", "", 0.5, cost, result) for cost, result in ((0.002, 0.8), (0.006, 0.9))]
    points += [Point("Unify", "", 0.4, float("nan"), 0.9)]  # has no place on this axis
    figure = plots.by_cost(report.evaluate(benchmark, win_rates, ["knows"], points=points, draws=10))
    assert {"Martian", "Unify"} & set(boxes(figure)) == {"Martian"}
    drawn = [np.asarray(dots.get_offsets()).tolist() for dots in figure.axes[0].collections]
    assert [[2.0, 0.8], [6.0, 0.9]] in drawn


def test_what_is_free_is_drawn_at_the_left_end() -> None:
    benchmark, win_rates = made_up(100, models=3, costs=True)
    free = Benchmark("free", benchmark.prompts, benchmark.models, benchmark.outcomes, benchmark.dollars * [1, 1, 0])
    figure = plots.by_cost(report.evaluate(free, win_rates, ["knows"], draws=10))
    frame = np.array(figure.axes[0].get_window_extent())
    box = boxes(figure)["model-2"]
    assert (box[0] >= frame[0] - 4).all()
    assert box[0][0] < frame[0][0] + 100


def test_a_label_goes_where_its_curve_is_alone() -> None:
    """Two curves run together on the left and part on the right."""
    figure = Figure(figsize=(5, 4), dpi=100)
    axes = figure.add_subplot()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    x = np.linspace(0.02, 0.98, 50)
    upper, lower = 0.5 + np.maximum(0, x - 0.5) * 0.8, 0.5 - np.maximum(0, x - 0.5) * 0.8
    placed = [Label(name, np.stack([x, y], axis=1), "black") for name, y in (("upper", upper), ("lower", lower))]
    labels.place(axes, placed)
    at = {text.get_text(): text.get_position() for text in axes.texts}
    assert at["upper"][0] > 0.5
    assert at["lower"][0] > 0.5
    assert at["upper"][1] > 0.5 > at["lower"][1]
