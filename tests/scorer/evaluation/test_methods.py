"""Win rates are computed once for each artifact, benchmark and ladder, and kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from scorer.artifacts import ArtifactError
from scorer.config import ConfigError
from scorer.encoder import Encoder
from scorer.evaluation import methods
from scorer.evaluation.benchmarks import Benchmark
from scorer.routers.base import Prompts, Scores, UnknownModel
from scorer.tables import DataError

TEXTS = ("short", "a longer prompt", "the longest prompt of them all")
BENCHMARK = Benchmark("made up", TEXTS, ("strong", "weak"), np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]))


class Counting:
    """Counts how often it is asked; win rates are lengths."""

    name, version = "counting", "1"

    def __init__(self) -> None:
        self.ladders: list[tuple[str, ...]] = []

    def knows(self, model: str) -> bool:
        return True

    def score(self, prompts: Prompts, ladder: Sequence[str]) -> Scores:
        self.ladders.append(tuple(ladder))
        if "nobody" in ladder:
            raise UnknownModel("counting 1", ladder, ["mixtral"])
        length = np.array([len(text) / 100 for text in prompts.texts])
        return Scores(np.stack([np.full(len(length), 0.5), length], axis=1))


def encoded() -> Prompts:
    return Prompts(TEXTS, np.eye(3, dtype=np.float32), np.zeros((3, 1), np.float32))


def test_scores_are_kept_by_artifact_benchmark_and_ladder(tmp_path: Path) -> None:
    router = Counting()
    method = methods.routed("mine", router, "digest", ["gpt", "mixtral"])
    first = methods.score(method, BENCHMARK, encoded, tmp_path)
    np.testing.assert_allclose(first[:, 1], [0.05, 0.15, 0.30])
    np.testing.assert_array_equal(methods.score(method, BENCHMARK, encoded, tmp_path), first)
    assert router.ladders == [("gpt", "mixtral")]
    other = Benchmark("made up", TEXTS, ("strong", "weak"), BENCHMARK.outcomes[::-1])
    methods.score(method, other, encoded, tmp_path)
    methods.score(methods.routed("mine", router, "digest", ["gpt", "llama"]), BENCHMARK, encoded, tmp_path)
    methods.score(methods.routed("mine", router, "refitted", ["gpt", "mixtral"]), BENCHMARK, encoded, tmp_path)
    assert len(router.ladders) == 4


def test_a_slow_router_says_how_far_it_is(tmp_path: Path) -> None:
    prompts = Prompts(TEXTS * 50, np.zeros((150, 3), np.float32), np.zeros((150, 1), np.float32))
    many = Benchmark("many", TEXTS * 50, ("strong", "weak"), np.tile(BENCHMARK.outcomes, (50, 1)))
    method = methods.routed("mine", Counting(), "digest", ["gpt", "mixtral"])
    seen: list[tuple[int, int]] = []
    rates = methods.score(method, many, lambda: prompts, tmp_path, lambda done, total: seen.append((done, total)))
    assert seen == [(0, 150), (64, 150), (128, 150)]
    assert rates.shape == (150, 2)


def test_kept_scores_need_no_encoding(tmp_path: Path) -> None:
    def refuse() -> Prompts:
        raise AssertionError("encoded again")

    method = methods.routed("mine", Counting(), "digest", ["gpt", "mixtral"])
    methods.score(method, BENCHMARK, encoded, tmp_path)
    assert methods.score(method, BENCHMARK, refuse, tmp_path).shape == (3, 2)


def test_a_damaged_file_is_computed_again(tmp_path: Path) -> None:
    method = methods.routed("mine", Counting(), "digest", ["gpt", "mixtral"])
    first = methods.score(method, BENCHMARK, encoded, tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:20])
    np.testing.assert_array_equal(methods.score(method, BENCHMARK, encoded, tmp_path), first)


def test_a_ladder_that_a_router_does_not_know_is_one_line(tmp_path: Path) -> None:
    method = methods.routed("mine", Counting(), "digest", ["nobody", "mixtral"])
    with pytest.raises(DataError, match="made up: router counting 1 knows no model of the ladder"):
        methods.score(method, BENCHMARK, encoded, tmp_path)


def test_routers_are_those_of_the_catalogue_or_ones_own(encoder: Encoder, tmp_path: Path) -> None:
    from scorer.calibration import PRETRAINED

    ladder = ["gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1"]
    shipped, own, chance = methods.routers(["mf", f"mf={PRETRAINED / 'minilm' / 'mf'}", "random"], ladder, encoder)
    assert [shipped.name, own.name, chance.name] == ["mf", "mf (mf)", "random"]
    assert shipped.identity == own.identity  # the same artifact under another name
    with pytest.raises(ConfigError, match="router 'oracle': not in this version"):
        methods.routers(["oracle"], ladder, encoder)
    with pytest.raises(DataError, match="router 'mf' is given twice"):
        methods.routers(["mf", "mf"], ladder, encoder)
    with pytest.raises(ArtifactError, match="No such file"):
        methods.routers([f"mf={tmp_path}"], ladder, encoder)


def test_baselines_score_every_prompt(tmp_path: Path) -> None:
    known = Benchmark("exam", TEXTS, ("strong", "weak"), BENCHMARK.outcomes)
    baselines = [
        methods.prompt_length(),
        *methods.litellm(),
        methods.neighbours(None, None, "encoder"),
        methods.neighbours(known, encoded, "encoder"),
    ]
    names = ["prompt length", "LiteLLM heuristic", "LiteLLM heuristic_v2", "kNN, own labels", "kNN on exam"]
    assert [method.name for method in baselines] == names
    for method in baselines:
        assert methods.score(method, BENCHMARK, encoded, tmp_path).shape == (3, 2)
    assert methods.score(baselines[0], BENCHMARK, encoded, tmp_path)[:, 1].argmax() == 2


def test_xgb_is_another_name_for_boosted(encoder: Encoder) -> None:
    (found,) = methods.loaded(["xgb"], encoder)
    assert (found.label, found.router.name) == ("boosted", "boosted")
    with pytest.raises(DataError, match="router 'boosted' is given twice"):
        methods.loaded(["xgb", "boosted"], encoder)
