"""The report: a router that knows beats length and chance by what it should, and says how sure that is."""

from __future__ import annotations

import numpy as np
import pytest

from scorer.evaluation import report
from scorer.evaluation.report import ORACLE, RANDOM, Report
from tests.scorer.evaluation.conftest import made_up


def values(of: Report, method: str) -> dict[str, float]:
    return {name: found.value for row in of.rows if row.method == method for name, found in row.measures.items()}


def test_a_router_that_knows_has_its_triangle(two: Report) -> None:
    need = 1 - two.benchmark.outcomes[:, 1].mean()
    knows = values(two, "knows")
    assert knows["apgr"] == pytest.approx(1 - need / 2)
    assert [knows[f"cpt_{level}"] for level in (20, 50, 80)] == pytest.approx([0.2 * need, 0.5 * need, 0.8 * need])
    assert knows["apgr_code"] == pytest.approx(1 - need / 2, abs=0.03)
    assert values(two, ORACLE) == pytest.approx(knows, abs=0.05, nan_ok=True)


def test_quality_is_kept_at_the_share_that_closed_form_says(two: Report) -> None:
    """One call to the strong model mends one answer until all are right: share = target - weak."""
    weak = two.benchmark.outcomes[:, 1].mean()
    for quality in (90, 95, 99):
        assert values(two, "knows")[f"share_{quality}"] == pytest.approx(quality / 100 - weak, abs=1e-9)
        expected = (quality / 100 - weak) / (1 - weak)
        assert values(two, RANDOM)[f"share_{quality}"] == pytest.approx(expected, abs=1e-9)
        assert np.isnan(values(two, "knows")[f"cost_{quality}"])


def test_costs_at_a_quality_are_between_the_models(priced: Report) -> None:
    cheapest, strongest = priced.benchmark.dollars.mean(axis=0)[[-1, 0]]
    oracle, knows, chance = (values(priced, name) for name in (ORACLE, "knows", RANDOM))
    for quality in (90, 95, 99):
        assert cheapest <= oracle[f"cost_{quality}"] <= knows[f"cost_{quality}"] < chance[f"cost_{quality}"] < strongest


def test_intervals_contain_their_points_and_chance_has_none(two: Report) -> None:
    for row in two.rows:
        apgr = row.measures["apgr"]
        assert apgr.low <= apgr.value <= apgr.high
    chance = next(row.measures for row in two.rows if row.method == RANDOM)
    assert (chance["apgr"].low, chance["apgr"].high) == pytest.approx((0.5, 0.5))
    assert chance["over_shuffled"].value == pytest.approx(0)


def test_a_router_is_tested_against_every_baseline_but_not_the_oracle(two: Report) -> None:
    assert [(test.a, test.b) for test in two.tests] == [("knows", "length"), ("knows", RANDOM)]
    against_chance = two.tests[1]
    assert against_chance.difference.value == pytest.approx(values(two, "knows")["apgr"] - 0.5)
    assert against_chance.p < 1e-6
    assert against_chance.adjusted == pytest.approx(2 * against_chance.p)
    assert against_chance.power > 0.9


def test_routers_are_tested_against_each_other_once() -> None:
    benchmark, win_rates = made_up(100)
    found = report.evaluate(benchmark, win_rates, ["knows", "length"], draws=20)
    assert [(test.a, test.b) for test in found.tests] == [
        ("knows", "length"),
        ("knows", RANDOM),
        ("length", RANDOM),
    ]


def test_the_lead_over_the_shuffle_is_the_lead_over_chance_with_two_models(two: Report) -> None:
    for name in ("knows", "length", ORACLE):
        assert values(two, name)["over_shuffled"] == pytest.approx(values(two, name)["apgr"] - 0.5)


def test_models_on_their_own_are_always_strongest_and_always_cheapest(priced: Report) -> None:
    assert [single.model for single in priced.singles] == ["model-0", "model-1", "model-2"]
    for place, single in enumerate(priced.singles):
        column = priced.benchmark.outcomes[:, place]
        assert single.result.value == pytest.approx(column.mean())
        error = column.std() / len(column) ** 0.5
        assert single.result.high - single.result.low == pytest.approx(2 * 1.96 * error, rel=0.3, abs=1e-9)
        assert single.cost is not None
        assert single.cost.value == pytest.approx(priced.benchmark.dollars[:, place].mean())


def test_published_points_go_to_their_benchmark(priced: Report) -> None:
    assert [point.router for point in priced.points] == ["Martian"]


def test_the_codes_numbers_are_of_two_models(priced: Report) -> None:
    assert np.isnan(values(priced, "knows")["apgr_code"])
    assert np.isnan(values(priced, "knows")["cpt_code_50"])


def test_the_same_seed_gives_the_same_report() -> None:
    benchmark, win_rates = made_up(100)
    first, second = (report.evaluate(benchmark, win_rates, ["knows"], draws=30, seed=4) for _ in range(2))
    assert [repr(row.measures) for row in first.rows] == [repr(row.measures) for row in second.rows]
    assert first.tests == second.tests


def test_progress_reaches_the_whole() -> None:
    benchmark, win_rates = made_up(50)
    seen: list[tuple[int, int]] = []
    report.evaluate(benchmark, win_rates, ["knows"], draws=100, progress=lambda *done: seen.append(done))
    assert seen[-1] == (400, 400)  # two methods, chance and the oracle
    assert seen == sorted(seen)
