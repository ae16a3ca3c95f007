"""Benchmarks are read from RouteLLM's layouts and from response matrices; their faults are one line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from scorer.evaluation import benchmarks
from scorer.evaluation.benchmarks import Benchmark
from scorer.tables import DataError

MODELS = ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")
W, S = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"  # RouteLLM's columns


def write_csv(path: Path, header: list[str], rows: list[list[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def contaminated(path: Path, *prompts: str) -> Path:
    rows = [{"train_prompt": "t", "eval_prompt": text, "train_idx": 3, "eval_idx": i} for i, text in enumerate(prompts)]
    return write_jsonl(path / "contaminated_prompts.jsonl", rows)


@pytest.fixture
def mmlu(tmp_path: Path) -> Path:
    """routellm/evals/mmlu: responses/mmlu_<domain>.csv with prompts of many lines, and the contamination list."""
    anatomy = [["Which bone?\nA. Femur\nB. Ulna\nAnswer:", True, True], ['Name, "it"\nAnswer:', False, True]]
    write_csv(tmp_path / "mmlu/responses/mmlu_anatomy.csv", ["prompt", W, S], anatomy)
    virology = [["Which virus?\nAnswer:", False, True], ["Seen in training\nAnswer:", True, False]]
    write_csv(tmp_path / "mmlu/responses/mmlu_virology.csv", ["prompt", W, S], virology)
    contaminated(tmp_path / "mmlu", "Seen in training\nAnswer:")
    return tmp_path / "mmlu"


def test_mmlu_is_its_subjects_without_what_is_contaminated(mmlu: Path) -> None:
    benchmark = benchmarks.load("mmlu", mmlu, MODELS)
    assert benchmark.prompts == (
        "Which bone?\nA. Femur\nB. Ulna\nAnswer:",
        'Name, "it"\nAnswer:',
        "Which virus?\nAnswer:",
    )
    assert benchmark.outcomes.tolist() == [[1, 1], [1, 0], [1, 0]]
    assert (benchmark.left_out, benchmark.costs) == (1, None)


def test_mmlu_is_also_read_from_its_responses(mmlu: Path) -> None:
    """The list lies above them; files of their own have none."""
    inside = benchmarks.load("mmlu", mmlu / "responses", MODELS)
    assert inside.outcomes.tolist() == benchmarks.load("mmlu", mmlu, MODELS).outcomes.tolist()


def test_gsm8k_is_read_beside_the_models_answers(tmp_path: Path) -> None:
    header = ["prompt", W, S, f"{W}_response", f"{S}_response"]
    rows: list[list[object]] = [
        ["How many eggs?", False, True, "4\n#### 4", "#### 18"],
        ["How many hens?", True, True, "#### 2", "#### 2"],
        ["Known already", True, False, "#### 2", "#### 3"],
    ]
    path = write_csv(tmp_path / "gsm8k/gsm8k_responses.csv", header, rows)
    contaminated(tmp_path / "gsm8k", "Known already")
    for given in (path, path.parent):
        benchmark = benchmarks.load("gsm8k", given, MODELS)
        assert benchmark.prompts == ("How many eggs?", "How many hens?")
        assert benchmark.outcomes.tolist() == [[1, 0], [1, 1]]
        assert benchmark.left_out == 1


def judgement(question: int, model: str, turn: int, score: float) -> dict[str, object]:
    return {
        "question_id": question,
        "model": model,
        "judge": ["gpt-4", "single-v1"],
        "user_prompt": "[Question]\nwith the answer in it",
        "judgment": f"Rating: [[{score}]]",
        "score": score,
        "turn": turn,
        "tstamp": 1719000000.5,
    }


@pytest.fixture
def mt_bench(tmp_path: Path) -> Path:
    """routellm/evals/mt_bench: question.jsonl, judgements.jsonl, contaminated_prompts.jsonl."""
    questions: list[dict[str, object]] = [
        {"question_id": 81, "category": "writing", "turns": ["Compose a post", "Rewrite it"]},
        {
            "question_id": 111,
            "category": "math",
            "turns": ["Find the area", "And the circumference"],
            "reference": ["3"],
        },
        {
            "question_id": 121,
            "category": "coding",
            "turns": ["Write a program", "Make it parallel"],
            "reference": ["x"],
        },
    ]
    scores = {81: ((9, 8), (9, 9)), 111: ((10, 9), (4, 3)), 121: ((8, 9.5), (6, 5))}
    rows = [
        judgement(question, model, turn + 1, score)
        for question, of_models in scores.items()
        for model, turns in zip((S, W), of_models, strict=True)
        for turn, score in enumerate(turns)
    ]
    write_jsonl(tmp_path / "mt_bench/question.jsonl", questions)
    write_jsonl(tmp_path / "mt_bench/judgements.jsonl", rows)
    contaminated(tmp_path / "mt_bench", "Compose a post")
    return tmp_path / "mt_bench"


def test_mt_bench_scores_the_first_turn_and_credits_the_mean_of_both(mt_bench: Path) -> None:
    benchmark = benchmarks.load("mt_bench", mt_bench, MODELS)
    assert benchmark.prompts == ("Find the area", "Write a program")
    assert benchmark.outcomes.tolist() == [[9.5, 3.5], [8.75, 5.5]]
    assert benchmark.left_out == 1


def test_a_turn_that_the_judge_failed_on_is_left_out(mt_bench: Path) -> None:
    path = mt_bench / "judgements.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        if row["model"] == W and (row["question_id"], row["turn"]) in {(111, 2), (121, 1), (121, 2)}:
            row["score"] = -1
    write_jsonl(path, rows)
    benchmark = benchmarks.load("mt_bench", mt_bench, MODELS)
    assert benchmark.prompts == ("Find the area",)
    assert benchmark.outcomes.tolist() == [[9.5, 4]]
    assert benchmark.left_out == 2


def test_a_judgement_of_an_unknown_question_is_named(mt_bench: Path) -> None:
    path = mt_bench / "judgements.jsonl"
    path.write_text(path.read_text() + json.dumps(judgement(999, S, 1, 5)) + "\n")
    with pytest.raises(DataError, match=r"judgements.jsonl, line 13: question_id: 999 is not in question.jsonl"):
        benchmarks.load("mt_bench", mt_bench, MODELS)


def test_a_matrix_is_read_by_its_columns_and_costs(tmp_path: Path) -> None:
    header = ["sample_id", "prompt", "big|score", "big|cost", "small|score", "small|cost"]
    rows: list[list[object]] = [["a", "why", 1.0, 0.005, 0.25, 0.0], ["b", "how", 0.5, 0.004, 0, 2e-4]]
    path = write_csv(tmp_path / "matrix.csv", header, rows)
    benchmark = benchmarks.load("matrix", path, ["big", "small"])
    assert benchmark.outcomes.tolist() == [[1, 0.25], [0.5, 0]]
    assert benchmark.costs is not None
    assert benchmark.costs.tolist() == [[0.005, 0], [0.004, 2e-4]]


def test_prices_stand_in_for_costs_that_a_file_lacks(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "m.csv", ["prompt", "big", "small"], [["x" * 400, 1, 0], ["y" * 40, 1, 1]])
    prices = tmp_path / "prices.json"
    fields = ("model_api_name", "input_token_price", "output_token_price")
    prices.write_text(
        json.dumps([dict(zip(fields, row, strict=True)) for row in (("big", "10", "30"), ("small", 0.5, 1.5))])
    )
    benchmark = benchmarks.load("m", path, ["big", "small"], prices)
    assert benchmark.costs is not None
    # 100 tokens in at $10 and 264 out at $30 a million
    np.testing.assert_allclose(benchmark.costs[0], [(100 * 10 + 264 * 30) / 1e6, (100 * 0.5 + 264 * 1.5) / 1e6])
    with pytest.raises(DataError, match=r"prices.json: no price of 'other'"):
        benchmarks.load("m", write_csv(path, ["prompt", "big", "other"], [["x", 1, 0]]), ["big", "other"], prices)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "cannot be read as JSON"),
        ("{}", "expected a list of objects with model_api_name, input_token_price"),
        ('[{"model_api_name": "big", "input_token_price": "", "output_token_price": 1}]', "big: input_token_price: ''"),
    ],
)
def test_bad_prices_are_named(tmp_path: Path, content: str, fault: str) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(content)
    matrix = write_csv(tmp_path / "m.csv", ["prompt", "big", "small"], [["x", 1, 0]])
    with pytest.raises(DataError, match=fault):
        benchmarks.load("m", matrix, ["big", "small"], prices)


def test_a_model_without_a_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "m.csv", ["prompt", "big", "small"], [["x", 1, 0]])
    with pytest.raises(DataError, match="no column 'huge'; there are prompt, big, small"):
        benchmarks.load("m", path, ["huge", "small"])


def test_costs_of_some_models_only_are_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "m.csv", ["prompt", "big", "big|cost", "small"], [["x", 1, 0.1, 0]])
    with pytest.raises(DataError, match=r"no column 'small\|cost'"):
        benchmarks.load("m", path, ["big", "small"])


def test_a_result_out_of_range_is_named_by_row(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "m.csv", ["prompt", "big", "small"], [["x", 1, 0], ["y", 7, 0]])
    with pytest.raises(DataError, match=r"m.csv, line 3: big: '7' is not a number from 0 to 1"):
        benchmarks.load("m", path, ["big", "small"])


def test_an_empty_directory_says_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds none of judgements\.jsonl"):
        benchmarks.load("m", tmp_path, MODELS)


@pytest.mark.parametrize("strong", [1.0, 0.5])
def test_a_stronger_model_that_is_no_better_is_refused(strong: float) -> None:
    with pytest.raises(DataError, match=f"flat: a scores {strong:g}, no more than b with 1"):
        Benchmark("flat", ("x",), ("a", "b"), np.array([[strong, 1.0]]))


def test_a_ladder_whose_strongest_is_cheapest_is_refused() -> None:
    with pytest.raises(DataError, match="a costs no more than c"):
        Benchmark("odd", ("x",), ("a", "b", "c"), np.array([[1.0, 0.5, 0.0]]), np.array([[1.0, 1.0, 2.0]]))


def test_benchmarks_have_names_of_their_own(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "m.csv", ["prompt", "big", "small"], [["x", 1, 0]])
    with pytest.raises(DataError, match="'m' is given twice"):
        benchmarks.load_all([("m", path), ("m", path)], ["big", "small"], None)


def test_the_digest_is_of_prompts_models_and_results() -> None:
    of = Benchmark("a", ("x", "y"), ("s", "w"), np.array([[1.0, 0.0], [1.0, 1.0]]))
    assert of.digest == Benchmark("b", of.prompts, of.models, of.outcomes, of.outcomes).digest
    others = [
        Benchmark("a", ("x", "z"), of.models, of.outcomes),
        Benchmark("a", of.prompts, ("s", "v"), of.outcomes),
        Benchmark("a", of.prompts, of.models, of.outcomes[::-1]),
    ]
    assert len({of.digest, *(other.digest for other in others)}) == 4
