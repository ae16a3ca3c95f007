"""Explanations: what would have been chosen at other levels, against the policy itself."""

from __future__ import annotations

import math
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from feedback.explaining import Evidence
from scorer import hosting
from scorer.cli import cli
from scorer.config import Config
from scorer.explanation import Step, explain
from scorer.policy import Facts, Priced, Target, Threshold
from scorer.routers.factorization import Factorization
from scorer.sections import EncoderConfig, RouterConfig
from tests.feedback.examples import a_decision
from tests.scorer.conftest import HARD, THREE, TWO, Start, route
from tests.scorer.test_deciding import logged

LADDER = ("strong", "medium", "cheap")


def test_steps_of_a_threshold_lie_at_the_win_rates() -> None:
    """Medium's win rate is 0.35, cheap's 0.2: medium is never the cheapest that is below."""
    told = explain(a_decision(policy="threshold"))
    assert told["level"] == "threshold"
    assert [Step(**step) for step in told["steps"]] == [Step(None, 0.2, "strong"), Step(0.2, None, "cheap")]
    assert told["otherwise"] == ["threshold up to 0.2: strong"]


def test_only_candidates_are_considered() -> None:
    told = explain(a_decision(probabilities={"medium": 1.0}, model="medium"))
    assert told["steps"] == [{"above": None, "up_to": None, "model": "medium"}]
    assert told["otherwise"] == []


def test_decisions_of_earlier_versions_are_explained_by_their_threshold() -> None:
    assert explain(a_decision())["level"] == "threshold"


@given(
    quality=st.tuples(*[st.floats(0, 1)] * 3),
    policy=st.sampled_from([Threshold, Priced, Target]),
    level=st.floats(0, 1),
)
def test_the_step_that_holds_a_level_is_what_the_policy_chooses_there(
    quality: tuple[float, ...], policy: type[Threshold] | type[Priced] | type[Target], level: float
) -> None:
    known = dict(zip(LADDER, quality, strict=True))
    rates = {model: 0.5 + (quality[0] - one) / 2 for model, one in known.items()}
    costs = {"strong": 0.01, "medium": 0.002, "cheap": 0.0005}
    at = level * (100 if policy is Priced else 1)
    name = {Threshold: "threshold", Priced: "lambda", Target: "quality target"}[policy]
    probabilities = dict.fromkeys(LADDER, 1 / 3)
    decision = a_decision(win_rates=rates, quality=known, costs=costs, policy=name, probabilities=probabilities)
    steps = [Step(**step) for step in explain(decision)["steps"]]
    ends = [end for step in steps for end in (step.above, step.up_to) if end is not None]
    if any(abs(end - at) < 1e-9 * max(1, at) for end in ends):
        return  # at a border rounding decides
    (holding,) = [s for s in steps if (s.above is None or s.above < at) and (s.up_to is None or at <= s.up_to)]
    assert holding.model == policy(at).choose(Facts(LADDER, rates, known, costs)).model


@pytest.mark.parametrize(
    ("router", "models"),
    [("mf", ["strong", "middle", "small"]), ("sw", ["strong", "small"]), ("boosted", ["small"])],
)  # middle is of nobody's battles: its scores are made of those beside it
def test_the_endpoint_tells_it_and_what_the_scores_rest_on(start: Start, router: str, models: list[str]) -> None:
    client = start(
        THREE, encoder=EncoderConfig("static"), routers={router: RouterConfig()}, default=f"router-{router}-0.3"
    )
    made: Any = logged(client, route(client)["decision_id"])
    told = made["explanation"]
    assert told["level"] == "threshold"
    assert told["evidence"]["why_none"] is None
    known = made["quality"] or made["win_rates"]
    assert [score["model"] for score in told["evidence"]["scores"]] == models
    for score in told["evidence"]["scores"]:
        near = sum(one["value"] for one in score["neighbours"])
        assert sum(score["parts"].values()) + near == pytest.approx(score["total"], abs=1e-6)
        assert score["score"] == pytest.approx(known[score["model"]], abs=1e-6)


def test_a_decision_of_a_version_that_is_gone_says_so(start: Start, tmp_path: Path) -> None:
    client = start(TWO, encoder=EncoderConfig("static"))
    made: Any = logged(client, route(client)["decision_id"])
    deadline = time.monotonic() + 10
    with sqlite3.connect(tmp_path / "routerd.sqlite", isolation_level=None) as database:  # which locks for no longer
        while database.execute("UPDATE decisions SET version = 'of old'").rowcount == 0:
            assert time.monotonic() < deadline, "it was not written"
            time.sleep(0.05)
    told: Any = logged(client, made["decision_id"])["explanation"]
    assert told["evidence"]["why_none"] == "mf of old, which decided, is no longer kept"
    assert told["steps"] == made["explanation"]["steps"]


async def test_a_version_that_serves_no_longer_explains_what_it_decided(tmp_path: Path) -> None:
    config = Config(ladder=TWO, data_dir=tmp_path, encoder=EncoderConfig("static"))
    scoring, store = hosting.load_scoring(config), hosting.open_store(config)
    serves, ladder = scoring.hosted["mf"].router, scoring.hosted["mf"].ladder
    assert isinstance(serves, Factorization)
    halved = {**serves._factors, "w": serves._factors["w"] / 2}
    older = Factorization(serves.players, halved, {**serves._about, "version": "20260101-000000-0123abcd"})
    older.save(tmp_path / "artifacts" / "mf" / older.version)
    prompt = scoring.encoder.encode([HARD])
    decision = a_decision(
        version=older.version,
        win_rates={"strong": 0.5, "weak": 0.3},
        probabilities={"strong": 0.5, "weak": 0.5},
        model="weak",
        encoder_id=scoring.encoder.id,
        embedding=prompt.embeddings[0].tobytes(),
        features=prompt.features[0].tobytes(),
    )
    evidence: Evidence = (await hosting.explainer(config, store, scoring).explain(decision))["evidence"]
    await store.close()
    totals = [grounds.total for grounds in older.explain(prompt, ladder)]
    assert [score.total for score in evidence.scores] == totals
    assert totals == pytest.approx([grounds.total / 2 for grounds in serves.explain(prompt, ladder)])


@pytest.mark.parametrize("router", ["mf", "sw"])
def test_the_command_prints_a_sum_that_is_the_score(tmp_path: Path, router: str) -> None:
    path = tmp_path / "config.yaml"
    ladder = ", ".join(f"{{model: {rung.model}, like: {rung.like}}}" for rung in TWO)
    path.write_text(
        f"ladder: [{ladder}]\ndata_dir: {tmp_path}\nencoder: static\nrouters: {{{router}: {{}}}}\n"
        f"default: router-{router}-0.5\nkeep: hash\n"
    )
    said = CliRunner(env={"COLUMNS": "200"}).invoke(cli, ["route", HARD, "--config", str(path), "--explain"]).output
    quality, sums = (row(said, name) for name in ("strong", "sum"))
    assert float(quality[1]) == pytest.approx(1 / (1 + math.exp(-float(sums[0]))), abs=0.001)
    assert ("a pretrained battle from" in said) == (router == "sw")
    with sqlite3.connect(tmp_path / "routerd.sqlite") as database:
        assert database.execute("SELECT count(*) FROM decisions").fetchone() == (0,)


def row(table: str, name: str) -> list[str]:
    """The cells beside a name."""
    split = [line.split("│") for line in table.splitlines() if "│" in line]
    line = next(cells for cells in split if cells[1].strip() == name)
    return [cell.strip() for cell in line[2:-1]]
