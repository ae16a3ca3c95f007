"""What is printed and saved says what was found."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from scorer.evaluation import output
from scorer.evaluation.report import Report


def line(text: str, beginning: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(beginning))


def test_the_text_names_models_methods_and_tests(two: Report) -> None:
    text = output.text(two)
    assert text.splitlines()[0] == "made up: 400 prompts; model-0 > model-1"
    assert "always model-0  1.0000 (1.0000, 1.0000)" in text
    apgr = next(row.measures["apgr"] for row in two.rows if row.method == "knows")
    assert f"{apgr.value:.3f} ({apgr.low:.3f}, {apgr.high:.3f})" in line(text, "knows ")
    assert line(text, "random, expected").split()[2:5] == ["0.500", "(0.500,", "0.500)"]
    assert "<0.001" in line(text, "knows - random, expected")
    assert "$" not in text


def test_the_text_of_a_priced_ladder_has_dollars_and_published_points(priced: Report) -> None:
    text = output.text(priced)
    assert "APGR and CPT count the money between all-cheapest's cost and all-strongest's." in text
    strongest = priced.singles[0].cost
    assert strongest is not None
    assert f"{1000 * strongest.value:.3f}" in line(text, "always model-0")
    assert line(text, "Martian").split()[:3] == ["Martian", "0.9", "40.0"]
    assert "code's" not in text


def test_saved_json_and_csv_hold_the_same_numbers(two: Report, priced: Report, tmp_path: Path) -> None:
    whole, flat = output.save([two, priced], {"knows": "by design"}, tmp_path)
    saved = json.loads(whole.read_text())
    assert saved["about"] == {"knows": "by design"}
    assert [benchmark["prompts"] for benchmark in saved["benchmarks"]] == [400, 400]
    with flat.open() as file:
        rows = {(row["method"], row["measure"]): row for row in csv.DictReader(file)}
    for method in saved["benchmarks"][1]["methods"]:
        for measure, found in method["measures"].items():
            if found["value"] is None:  # measures that a ladder of three does not have
                assert (method["method"], measure) not in rows or "code" in measure or "ten" in measure
            else:
                assert float(rows[method["method"], measure]["value"]) == pytest.approx(found["value"])
    assert float(rows["always model-2", "cost"]["value"]) == pytest.approx(priced.benchmark.dollars[:, 2].mean())
    assert ("knows - random, expected", "apgr") in rows


def test_saved_curves_run_from_all_cheapest_to_all_strongest(priced: Report, tmp_path: Path) -> None:
    whole, _ = output.save([priced], {}, tmp_path)
    methods = json.loads(whole.read_text())["benchmarks"][0]["methods"]
    knows = next(method for method in methods if method["method"] == "knows")
    assert knows["router"]
    assert len(knows["curve"]["result"]) == len(knows["curve"]["cost"]) == len(knows["curve"]["mix"])
    assert knows["curve"]["mix"][0] == pytest.approx([0, 0, 1])
    assert knows["curve"]["mix"][-1] == pytest.approx([1, 0, 0])
