"""`routerd evaluate`: from files to a report, plots and kept scores; faults are one line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from scorer.cli import cli
from scorer.encoder import Encoder

MODELS = ("gpt-4-1106-preview", "yi-34b-chat", "mixtral-8x7b-instruct-v0.1")
PAIR = ["--strong", MODELS[0], "--weak", MODELS[2], "--draws", "20"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["evaluate", *map(str, arguments)])


def fault(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    (line,) = result.output.strip().splitlines()
    return str(line)


@pytest.fixture
def matrix(tmp_path: Path, encoder: Encoder) -> Path:
    """Three models with costs on thirty questions."""
    path, generator = tmp_path / "exam.csv", np.random.default_rng(0)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["prompt", *(column for model in MODELS for column in (f"{model}|score", f"{model}|cost"))])
        for number in range(30):
            right = generator.random(3) < [0.95, 0.7, 0.4]
            cells = [cell for i in range(3) for cell in (int(right[i]), round(0.01 / 10**i, 6))]
            table.writerow([f"Question {number}: what follows from axiom {number * 7 % 11}?", *cells])
    return path


def test_a_ladder_is_evaluated_into_report_table_and_plot(matrix: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("--benchmark", f"exam={matrix}", "--ladder", ",".join(MODELS), "--draws", 20, "--out", out)
    assert done.exit_code == 0, done.output
    assert f"exam: 30 prompts; {' > '.join(MODELS)}" in done.output
    assert {path.name for path in out.iterdir()} == {"report.json", "report.csv", "exam-cost.png", "scores"}
    (benchmark,) = json.loads((out / "report.json").read_text())["benchmarks"]
    names = [method["method"] for method in benchmark["methods"]]
    assert names == [
        "mf",
        "random",
        "prompt length",
        "LiteLLM heuristic",
        "LiteLLM heuristic_v2",
        "kNN, own labels",
        "random, expected",
        "oracle",
    ]
    assert [method["router"] for method in benchmark["methods"]] == [True, *[False] * 7]
    assert [model["cost"]["value"] for model in benchmark["models"]] == pytest.approx([0.01, 0.001, 0.0001])


def test_a_second_run_uses_the_kept_scores_and_says_the_same(matrix: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run("--benchmark", matrix, *PAIR, "--out", out)
    kept = {path: path.stat().st_mtime_ns for path in (out / "scores").iterdir()}
    second = run("--benchmark", matrix, *PAIR, "--out", out)
    assert first.output.strip() == second.output.strip()  # without the empty line of a progress bar
    assert {path: path.stat().st_mtime_ns for path in (out / "scores").iterdir()} == kept
    assert len(kept) == 6


def test_names_that_routers_know_stand_in_for_others(matrix: Path, tmp_path: Path) -> None:
    """The same models under names that no router knows: scored like those they are said to be like."""
    renamed = tmp_path / "renamed.csv"
    renamed.write_text(matrix.read_text().replace(MODELS[0], "big").replace(MODELS[2], "small"))
    like = ["--strong", f"big={MODELS[0]}", "--weak", f"small={MODELS[2]}", "--draws", "20"]
    first = run("--benchmark", f"exam={matrix}", *PAIR, "--out", tmp_path / "a").output
    second = run("--benchmark", f"exam={renamed}", *like, "--out", tmp_path / "b").output
    row = next(line for line in first.splitlines() if line.startswith("mf "))
    assert row in second.splitlines()


def test_known_labels_and_published_points_are_used(matrix: Path, tmp_path: Path) -> None:
    published = tmp_path / "points.csv"
    published.write_text("router,benchmark,share,cost,result\nMartian,exam,0.5,0.004,0.8\n")
    options = ["--neighbours", matrix, "--points", published]
    done = run("--benchmark", f"exam={matrix}", *PAIR, *options, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert any(line.startswith("kNN on labels ") for line in done.output.splitlines())
    assert any(line.startswith("Martian ") for line in done.output.splitlines())


def test_faults_are_one_line(matrix: Path, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "out"]
    assert "no column 'gpt-9'" in fault("--benchmark", matrix, "--strong", "gpt-9", *out)
    assert "a ladder takes at least two models" in fault("--benchmark", matrix, "--ladder", MODELS[0], *out)
    assert "router 'nonsense': not in this version" in fault(
        "--benchmark", matrix, *PAIR, "--routers", "nonsense", *out
    )
    assert "'exam' is given twice" in fault("--benchmark", matrix, "--benchmark", matrix, *PAIR, *out)
    unknown = ["--strong", f"{MODELS[0]}=nobody", "--weak", f"{MODELS[2]}=nothing"]
    assert "exam: router mf" in fault("--benchmark", matrix, *unknown, *out)
