"""`routerd evaluate` on a feedback database: rated, explored decisions to ratings at every share of strong calls."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from feedback.migrations import migrate
from feedback.records import Outcome, Rating
from feedback.store import Store
from gateway_plugin import ids
from scorer import features
from scorer.cli import cli
from scorer.decisions import Decision
from scorer.encoder import Encoder

PAIR = ["--strong", "big=gpt-4-1106-preview", "--weak", "small=mixtral-8x7b-instruct-v0.1", "--draws", "50"]


async def fill(url: str, encoder_id: str, n: int) -> None:
    """Decisions that explored all the time, every one rated: long prompts are only answered well by `big`."""
    generator = np.random.default_rng(0)
    decisions, outcomes, ratings = [], [], []
    for number in range(n):
        chosen, long = ("big", "small")[int(generator.integers(2))], generator.random() < 0.5
        vector = generator.normal(size=384).astype("<f4")
        raw = np.zeros(len(features.NAMES), "<f4")
        raw[features.NAMES.index("log_chars")] = (7 if long else 4) + generator.normal()
        decision_id = ids.mint()
        decision = Decision(
            decision_id=decision_id,
            created_at=1.0 + number,
            requested="router",
            router="random",
            version="0",
            mode="route",
            threshold=0.5,
            win_rates={"big": 0.5, "small": 0.4},
            quality=None,
            probabilities={"big": 0.5, "small": 0.5},
            model=chosen,
            propensity=0.5,
            explored=False,
            reason="",
            unit=decision_id,
            text_hash=f"{number:064x}",
            encoder_id=encoder_id,
            embedding=(vector / np.linalg.norm(vector)).tobytes(),
            features=raw.tobytes(),
        )
        decisions.append(decision)
        outcomes.append(Outcome(decision_id=decision_id, status="success", chosen=chosen, served=chosen, cost=0.01))
        good = generator.random() < (0.9 if chosen == "big" or not long else 0.1)
        ratings.append(Rating(decision_id=decision_id, value=float(good)))
    store = Store(url)
    await store.add_decisions(decisions)
    await store.record_outcomes(outcomes)
    await store.take(ratings, [])
    await store.close()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["evaluate", *map(str, arguments)])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> str:
    found = f"sqlite:///{tmp_path_factory.mktemp('data')}/routerd.sqlite"
    migrate(found)
    asyncio.run(fill(found, encoder.id, 500))
    return found


def test_a_database_gives_ratings_at_every_share(url: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("--benchmark", f"own={url}", "--routers", "mf,random", *PAIR, "--out", out)
    assert done.exit_code == 0, done.output
    assert "own: 500 requests; big > small" in done.output
    assert "left out: none" in done.output
    assert {path.name for path in out.iterdir()} == {"own-feedback.json", "own-feedback.csv"}
    curves = {one["method"]: one for one in json.loads((out / "own-feedback.json").read_text())}
    assert list(curves) == ["mf", "random", "prompt length"]
    length, random = curves["prompt length"]["apgr"], curves["random"]["apgr"]
    assert length["low"] > 0.6  # length tells here who is needed
    assert random["low"] < 0.5 < random["high"]
    rows = list(csv.DictReader((out / "own-feedback.csv").open()))
    assert len(rows) == 33
    ends = {(row["router"], row["share"]): row["result"] for row in rows}
    assert ends["mf", "1.0"] == ends["prompt length", "1.0"]  # all to one model is the same for everybody
    assert float(ends["mf", "1.0"]) == pytest.approx(0.9, abs=0.06)
    assert float(ends["mf", "0.0"]) == pytest.approx(0.5, abs=0.09)


def test_a_configuration_names_database_and_ladder(url: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "ladder: [{model: big, like: gpt-4-1106-preview}, {model: small, like: mixtral-8x7b-instruct-v0.1}]\n"
        f"database: {url}\n"
    )
    done = run("--benchmark", f"own={path}", "--routers", "random", "--draws", "20", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "own: 500 requests; big > small" in done.output


def test_another_ladder_leaves_nothing_to_go_by(url: str, tmp_path: Path) -> None:
    given = ["--strong", "huge=gpt-4-1106-preview", "--weak", "small", "--routers", "random"]
    done = run("--benchmark", url, *given, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "left out: 500 (another ladder)" in done.output
    assert done.output.strip().splitlines()[-1] == (
        "routerd: feedback: not enough overlap: the rated decisions that a router would have made alike are worth "
        "0 sessions, 100 are needed; more ratings or more exploration give more"
    )
    assert not (tmp_path / "out").exists()


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path, encoder: Encoder) -> None:
    done = run("--benchmark", f"own=sqlite:///{tmp_path}/none.sqlite", *PAIR, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert done.output.strip() == f"routerd: own: {tmp_path}/none.sqlite: no such database"
    assert list(tmp_path.iterdir()) == []
