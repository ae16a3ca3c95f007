"""The judge in a whole daemon: from the answer to /v1/route to a comparison in the report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from click.testing import CliRunner

from feedback.migrations import migrate
from gateway_plugin import ids
from scorer import chores
from scorer.cli import cli
from scorer.config import ConfigError, load
from tests.conftest import Serve
from tests.feedback.examples import rows
from tests.feedback.judging import JUDGE, Endpoint, settings
from tests.scorer.conftest import Start, route

PRICES = {JUDGE: (1.0, 2.0), "strong": (1.0, 2.0), "weak": (1.0, 2.0)}
QUESTION = {"role": "user", "content": "What is the capital of France?"}


def _report(client: httpx.Client, decision_id: object, answer: str) -> None:
    sample = {"messages": [QUESTION], "answer": answer}
    outcome = {"decision_id": decision_id, "status": "success", "served": "weak", "sample": sample}
    assert client.post("/v1/outcomes", json=[outcome]).json() == {"recorded": 1}


def test_an_answer_that_was_asked_for_is_judged_and_its_text_forgotten(
    start: Start, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chores, "_JUDGE_SECONDS", 0.1)
    endpoint = Endpoint()
    client = start(judge=settings(serve(endpoint.app), prices=PRICES))
    asked = route(client, QUESTION["content"])
    assert asked["sample_answer"] is True
    _report(client, asked["decision_id"], "0.5 Paris, a secret")
    url, deadline = f"sqlite:///{tmp_path}/routerd.sqlite", time.monotonic() + 20
    while not (found := rows(url, "SELECT decision_id, model_a, model_b, source FROM comparisons")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert found == [(asked["decision_id"], "weak", "strong", "judge")]
    assert rows(url, "SELECT messages, answer_a, answer_b, status FROM judgements") == [(None, None, None, "judged")]
    decision = client.get(f"/v1/decisions/{asked['decision_id']}")
    assert "secret" not in decision.text
    assert decision.json()["outcome"]["served"] == "weak"


@pytest.mark.parametrize("changes", [{"keep": "hash"}, {"judge": None}])
def test_where_nothing_is_judged_no_answer_is_asked_for_and_none_kept(
    start: Start, tmp_path: Path, changes: dict[str, Any]
) -> None:
    client = start(**{"judge": settings("http://127.0.0.1:9", prices=PRICES), **changes})
    asked = route(client)
    assert "sample_answer" not in asked
    _report(client, asked["decision_id"], "0.5 Paris")
    assert rows(f"sqlite:///{tmp_path}/routerd.sqlite", "SELECT count(*) FROM judgements") == [(0,)]


@pytest.mark.parametrize(
    ("sample", "field"),
    [
        ({"messages": []}, "[0].sample.messages"),
        ({"answer": ""}, "[0].sample.answer"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "[0].sample.messages[0].role"),
    ],
)
def test_a_bad_sample_is_a_400_that_names_the_field(start: Start, sample: dict[str, Any], field: str) -> None:
    outcome = {
        "decision_id": ids.mint(),
        "status": "success",
        "sample": {"messages": [QUESTION], "answer": "x"} | sample,
    }
    answer = start().post("/v1/outcomes", json=[outcome])
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


def _config(tmp_path: Path, **judge: Any) -> Path:
    content = {
        "ladder": [{"model": "strong"}, {"model": "weak"}],
        "data_dir": str(tmp_path),
        "judge": {"model": JUDGE, "daily_dollars": 1, "prices": {m: [1, 2] for m in PRICES}, **judge},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "config.yaml"


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ({"model": "router-mf"}, "judge.model: 'router-mf' is a virtual model"),
        ({"prices": {"strong": [1, 2], JUDGE: [1, 2]}}, "judge.prices: no price of 'weak'"),
        ({"prices": {"strong": [1, -2]}}, "judge.prices"),
        ({"share": 2}, "judge.share"),
        ({"url": "here"}, "judge: 'here' is no http"),
        ({"cap": 2}, "accepted: model, daily_dollars, prices, share"),
    ],
)
def test_a_mistake_in_the_configuration_is_one_line(tmp_path: Path, judge: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(_config(tmp_path, **judge))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_report_says_how_far_the_judge_agrees_with_itself(tmp_path: Path) -> None:
    path = _config(tmp_path)
    migrate(load(path).database_url)
    done = CliRunner().invoke(cli, ["report", "--config", str(path), "--json", str(tmp_path / "report.json")])
    assert done.exit_code == 0, done.output
    assert "the judge: no verdicts, 0 given up, 0 waiting; $0.00 today" in done.output
    assert "a verdict weighs 0.50" in done.output
    assert '"judged": 0' in (tmp_path / "report.json").read_text()
