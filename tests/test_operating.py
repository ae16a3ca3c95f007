"""Everything that docs/operating.md names is there: headers, metrics, commands, keys, variables, calls, documents."""

from __future__ import annotations

import importlib.util
import re

import click
import pytest
from prometheus_client import generate_latest

from gateway_plugin.routing import Routing
from gateway_plugin.settings import Settings
from scorer.cli import cli
from scorer.metrics import Metrics, State
from tests.demo.stack import ROOT
from tests.tools import configuration

DOCS = ROOT / "docs"
PAGE = (DOCS / "operating.md").read_text(encoding="utf-8")
TROUBLE = PAGE.partition("## When something is wrong")[2].partition("\n## ")[0]


def named(pattern: str, text: str = PAGE) -> list[str]:
    found = sorted(set(re.findall(pattern, text)))
    assert found
    return found


@pytest.mark.parametrize("header", named(r"`x-routerd-([\w-]+)`"))
def test_header_is_sent(header: str) -> None:
    decided = Routing("0", "router")
    decided.decide(
        {"win_rates": {"a": 0.5}, "threshold": 0.5, "router": "mf", "version": "1", "reason": "cheap"}, "a", ["a"]
    )
    assert f"x-routerd-{header}" in decided.headers()


@pytest.mark.parametrize("metric", named(r"`(routerd_\w+)"))
def test_metric_is_declared(metric: str) -> None:
    metrics = Metrics()
    metrics.built(1, "static")
    metrics.follow(lambda: State({"mf": 1}, 0, 0, 0, {"mf": "1"}, ["closed"], {"fallbacks": 1}))
    declared = re.findall(r"^# TYPE (\w+) ", generate_latest(metrics.registry).decode(), re.MULTILINE)
    assert metric in declared


@pytest.mark.parametrize("line", named(r"`routerd ([a-z][a-z -]*)`"))
def test_command_is_there(line: str) -> None:
    command: click.Command = cli
    for word in line.split():
        assert isinstance(command, click.Group)
        assert word in command.commands
        command = command.commands[word]


@pytest.mark.parametrize("key", named(r"`([a-z_]+\.[a-z_]+)`", TROUBLE))
def test_key_is_accepted(key: str) -> None:
    section, _, field = key.partition(".")
    (part,) = (part for part in configuration.parts() if part.path == section)
    assert field in [row.key for row in part.rows]


@pytest.mark.parametrize("variable", named(r"`ROUTERD_(\w+)`"))
def test_plugin_reads_the_variable(variable: str) -> None:
    assert variable.lower() in Settings._fields


@pytest.mark.parametrize("module", named(r"`python -m ([\w.]+)`"))
def test_program_is_there(module: str) -> None:
    assert importlib.util.find_spec(module)


@pytest.mark.parametrize("page", ["operating.md", "contributing.md", "configuration.md"])
def test_documents_that_it_names_are_there(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (DOCS / page).read_text(encoding="utf-8"))
    assert [link for link in links if not (DOCS / link).exists()] == []
