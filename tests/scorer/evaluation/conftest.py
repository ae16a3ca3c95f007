"""A made-up benchmark whose answers are known, and reports on it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from scorer.evaluation import baselines, report
from scorer.evaluation.benchmarks import Benchmark
from scorer.evaluation.points import Point
from scorer.evaluation.report import Report

Floats = NDArray[np.float64]


def made_up(n: int = 400, models: int = 2, *, costs: bool = False) -> tuple[Benchmark, dict[str, Floats]]:
    """A quarter of the prompts, the longest among them, need more than the cheapest model. A router that knows which,
    and prompt length, which guesses."""
    generator = np.random.default_rng(0)
    need = (generator.random(n) < 0.25) * generator.random(n)  # 0: anybody can
    texts = tuple("x" * (10 + int(40 * generator.random() + 20 * (hard > 0))) for hard in need)
    able = np.linspace(1, 0, models)  # of each model
    outcomes = (need[:, None] <= able).astype(np.float64)
    dollars = np.geomspace(0.01, 0.0001, models) * generator.uniform(0.8, 1.2, (n, 1)) if costs else None
    names = tuple(f"model-{i}" for i in range(models))
    benchmark = Benchmark("made up", texts, names, outcomes, dollars)
    knows = baselines.on_ladder(need + 0.001 * generator.random(n), models)
    return benchmark, {"knows": knows, "length": baselines.on_ladder(baselines.prompt_length(texts), models)}


@pytest.fixture(scope="session")
def two() -> Report:
    """Two models without costs."""
    benchmark, win_rates = made_up()
    return report.evaluate(benchmark, win_rates, ["knows"], draws=100)


@pytest.fixture(scope="session")
def priced() -> Report:
    """Three models with costs, and a published point."""
    benchmark, win_rates = made_up(models=3, costs=True)
    points = [Point("Martian", "made up", 0.4, 0.004, 0.9), Point("Unify", "elsewhere", 0.4, 0.004, 0.9)]
    return report.evaluate(benchmark, win_rates, ["knows"], points=points, draws=100)
