"""Benchmarks: a router that knows beats length and chance by what it should, and says how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from scorer.evaluation import benchmarks
from scorer.evaluation.benchmarks import Benchmark
from scorer.routers.base import Prompts, Scores
from scorer.tables import DataError

MODELS = ("strong", "weak")


class Oracle:
    """Reads the gain off the only feature."""

    name, version = "oracle", "1"

    def knows(self, model: str) -> bool:
        return True

    def score(self, prompts: Prompts, ladder: Sequence[str]) -> Scores:
        gain = prompts.features[:, 0].astype(np.float64)
        return Scores(np.stack([np.full(len(gain), 0.5), gain], axis=1))


def made_up(n: int = 800) -> tuple[Benchmark, Prompts]:
    """A quarter of the prompts, the longest among them, need the strong model; the weak one answers the rest."""
    generator = np.random.default_rng(0)
    needs = generator.random(n) < 0.25
    texts = tuple("x" * (10 + int(40 * generator.random() + 20 * need)) for need in needs)
    outcomes = np.stack([np.ones(n), ~needs], axis=1).astype(np.float64)
    features = (0.2 + 0.6 * needs + 0.01 * generator.random(n)).astype(np.float32)[:, None]
    return Benchmark("made up", texts, MODELS, outcomes), Prompts(texts, np.zeros((n, 2), np.float32), features)


def test_an_oracle_has_its_triangle_and_leads_the_baselines() -> None:
    benchmark, prompts = made_up()
    share = 1 - benchmark.outcomes[:, 1].mean()
    oracle, length, chance = benchmarks.evaluate(Oracle(), prompts, benchmark, draws=200)
    assert [row.method for row in (oracle, length, chance)] == ["oracle", "prompt length", "random"]
    assert oracle.apgr.value == pytest.approx(1 - share / 2, abs=0.02)
    assert oracle.cpt50.value == pytest.approx(share / 2, abs=0.02)
    assert 0.55 < length.apgr.low < length.apgr.value < length.apgr.high < oracle.apgr.low
    assert (chance.apgr.value, chance.cpt50.value, chance.cpt80.value) == pytest.approx((0.5, 0.5, 0.8))
    assert chance.lead.value == pytest.approx(oracle.apgr.value - 0.5)
    assert length.lead.low > 0
    assert (oracle.lead.low, oracle.lead.high) == (0, 0)


def test_the_same_seed_gives_the_same_intervals() -> None:
    benchmark, prompts = made_up(200)
    assert benchmarks.evaluate(Oracle(), prompts, benchmark, draws=50) == benchmarks.evaluate(
        Oracle(), prompts, benchmark, draws=50
    )


def test_models_that_score_the_same_cannot_be_routed_between() -> None:
    benchmark, prompts = made_up(50)
    same = Benchmark("flat", benchmark.prompts, MODELS, np.ones((50, 2)))
    with pytest.raises(DataError, match="flat: strong and weak score the same"):
        benchmarks.evaluate(Oracle(), prompts, same)


def test_a_file_is_loaded_by_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "exam.csv"
    path.write_text("prompt,weak,strong,subject\nwhy,false,true,x\nhow,true,true,y\n")
    benchmark = benchmarks.load(path, MODELS)
    assert (benchmark.name, benchmark.prompts, benchmark.models) == ("exam", ("why", "how"), MODELS)
    assert benchmark.outcomes.tolist() == [[1, 0], [1, 1]]
    with pytest.raises(DataError, match="no column 'gpt'"):
        benchmarks.load(path, ["gpt", "weak"])


def test_the_table_has_a_line_a_row() -> None:
    benchmark, prompts = made_up(200)
    lines = benchmarks.table(benchmarks.evaluate(Oracle(), prompts, benchmark, draws=50)).splitlines()
    assert len(lines) == 4
    assert lines[3].split()[:3] == ["made", "up", "random"]
    assert "50.0 (50.0, 50.0)" in lines[3]
