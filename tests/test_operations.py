"""What operators load into Prometheus and Grafana speaks of metrics that there are, in queries that parse."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from feedback.plugins import EVENTS
from scorer.metrics import Finding, Metrics, State
from tests.demo.stack import ROOT
from tests.feedback.examples import a_decision

OPS = ROOT / "docs" / "ops"
NAME = re.compile(r"\b(?:routerd|process)_\w+")
LABELS = re.compile(r"(routerd_\w+)\{([^}]*)\}")
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: apt-get install prometheus")


@pytest.fixture(scope="module")
def exposed() -> str:
    """Everything that a daemon can show."""
    metrics = Metrics()
    metrics.built(1, "minilm")
    metrics.follow(lambda: State({"mf": 1}, 0, 0, 0, {"mf": "1"}, ["closed"], dict.fromkeys(EVENTS, 1)))
    metrics.decided(a_decision())
    metrics.took("decide", 0.002)
    metrics.batch("mf", 2)
    metrics.answered("/v1/route", 200, 0.003)
    metrics.rated("thumb", "human", "stored")
    metrics.reported("success")
    metrics.runs([("retrain", "published", 1, 1.0)])
    metrics.drift([Finding("scores", "mf", False, 0.5, 0.3, 0.3)], 0.001, 1.0)
    return generate_latest(metrics.registry).decode()


@pytest.fixture(scope="module")
def known(exposed: str) -> dict[str, set[str]]:
    """The labels of every series, by name."""
    series: dict[str, set[str]] = {}
    for line in exposed.splitlines():
        if not line.startswith("#"):
            name, _, rest = line.rpartition(" ")[0].partition("{")
            series.setdefault(name, set()).update(re.findall(r'(\w+)="', rest))
    return series


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((OPS / "alerts.yml").read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads((OPS / "grafana.json").read_text())
    return board


def queries() -> Iterator[str]:
    yield from (rule["expr"] for rule in alerts())
    yield from (target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ()))


@pytest.mark.parametrize("query", sorted(set(queries())))
def test_query_names_series_and_labels_that_there_are(query: str, known: dict[str, set[str]]) -> None:
    assert set(NAME.findall(query)) <= known.keys()
    for name, matchers in LABELS.findall(query):
        asked = set(re.findall(r"(\w+)=~?\"", matchers))
        assert asked <= known[name] | {"instance", "job"}


def test_document_lists_every_metric(known: dict[str, set[str]]) -> None:
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    ours = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in known if name.startswith("routerd_")}
    listed = set(re.findall(r"`(routerd_\w+)`", text))
    assert ours - {name for name in ours if f"{name}_total" in ours} == listed


def test_alerts_say_what_happened_and_what_to_do() -> None:
    for rule in alerts():
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def promtool(*arguments: str, given: str = "", at: Path = OPS) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL
    return subprocess.run([PROMTOOL, *arguments], input=given, capture_output=True, text=True, cwd=at, timeout=60)


@needs_promtool
def test_promtool_accepts_the_rules() -> None:
    done = promtool("check", "rules", "alerts.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_rules_fire_when_they_should() -> None:
    done = promtool("test", "rules", "alerts_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_finds_no_fault_in_our_metrics(exposed: str) -> None:
    ours = "".join(
        line + "\n" for line in exposed.splitlines() if re.search(r"\brouterd_\w+", line) and "_created" not in line
    )
    done = promtool("check", "metrics", given=ours)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_promtool
def test_queries_of_the_dashboard_parse(tmp_path: Path) -> None:
    found = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    rules = [
        {"record": f"panel:{place}", "expr": expr.replace("$__rate_interval", "5m")} for place, expr in enumerate(found)
    ]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", "panels.yml", at=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
