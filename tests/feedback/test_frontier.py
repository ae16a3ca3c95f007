"""The frontier: levels of two policies on a log whose truth is known."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from feedback import frontier, logged
from feedback.logged import Log
from feedback.migrations import migrate
from feedback.records import Outcome, Rating
from feedback.store import Store
from scorer import catalogue
from scorer.cli import cli
from tests.feedback.examples import a_decision

MODELS = ("strong", "cheap")
COSTS = {"strong": 0.010, "cheap": 0.001}


@pytest.fixture
async def log(store: Store) -> Log:
    await fill(store)
    return (await logged.read(store, MODELS)).usable()


async def fill(store: Store, version: str = "1") -> None:
    """800 requests, half of them dealt to each model; win rates rise evenly from 1/2 to 1; strong answers are good."""
    decisions, outcomes = [], []
    for number in range(800):
        model = MODELS[number % 2]
        rate = 0.5 + (number // 2) / 800
        decision = a_decision(
            win_rates={"strong": 0.5, "cheap": rate},
            quality=None,
            probabilities=dict.fromkeys(MODELS, 0.5),
            model=model,
            propensity=0.5,
            version=version,
            unit=f"unit-{number}",
            session_id=None,
        )
        decisions.append(decision)
        outcomes.append(
            Outcome(decision_id=decision.decision_id, status="success", served=model, cost=COSTS[model], tokens_in=100)
        )
    await store.add_decisions(decisions)
    await store.record_outcomes(outcomes)
    rated = decisions[::4] + decisions[1::4]
    await store.take([Rating(decision_id=one.decision_id, value=float(one.model == "strong")) for one in rated], [])


async def test_levels_cost_their_share_of_strong_calls_and_are_rated_by_it(log: Log) -> None:
    """A share s costs s * 0.010 + (1 - s) * 0.001 a call, and s of the answers are good."""
    points = frontier.frontier(log, log.win_rates, exploration=0.0)
    assert {point.policy for point in points} == {"threshold", "lambda"}
    for point in points:
        assert point.cost.value == pytest.approx(0.001 + 0.009 * point.share, abs=1e-9)
        assert point.rating.value == pytest.approx(point.share, abs=0.03)
    for kind in ("threshold", "lambda"):
        shares = [point.share for point in points if point.policy == kind]
        assert shares == sorted(shares, reverse=True)
        assert [max(shares), min(shares)] == pytest.approx([1, 0], abs=0.03)


async def test_targets_are_met_by_the_nearest_level(log: Log) -> None:
    points = frontier.frontier(log, log.win_rates, exploration=0.0)
    by_share = frontier.for_share(points, 0.3)
    by_cost = frontier.for_dollars(points, 0.0055)
    by_rating = frontier.for_rating(points, 0.8)
    assert by_share is not None
    assert by_cost is not None
    assert by_rating is not None
    assert by_share.share == pytest.approx(0.3, abs=0.015)
    assert by_cost.share == pytest.approx(0.5, abs=0.03)
    assert by_cost.cost.value <= 0.0055
    assert 0.8 <= by_rating.rating.value < 0.86
    assert frontier.for_dollars(points, 0.0005) is None
    assert frontier.for_rating(points, 1.1) is None


async def test_requests_without_scores_are_left_out(log: Log) -> None:
    assert frontier.frontier(log, np.full_like(log.win_rates, np.nan), exploration=0.0) == []


def written(directory: Path) -> str:
    path = directory / "config.yaml"
    path.write_text(
        "ladder:\n- {model: strong, like: gpt-4-1106-preview}\n- {model: cheap, like: mixtral-8x7b-instruct-v0.1}\n"
        f"encoder: static\ndata_dir: {directory}\nexploration: 0\n"
    )
    return str(path)


def test_the_command_wants_one_target_and_something_to_go_by(tmp_path: Path) -> None:
    config = written(tmp_path)
    both = CliRunner().invoke(cli, ["tune", "--config", config, "--rating", "0.9", "--strong-share", "0.3"])
    assert (both.exit_code, both.stderr.startswith("routerd: say one target")) == (2, True)
    empty = CliRunner().invoke(cli, ["tune", "--config", config, "--strong-share", "0.3"])
    assert (empty.exit_code, empty.stderr.startswith("routerd: nothing is logged")) == (2, True)


def test_the_command_prints_lines_to_paste(tmp_path: Path) -> None:
    """The log's 800 calls are a day's: $4.4 are $0.0055 a call, and half of them strong."""
    url = f"sqlite:///{tmp_path}/routerd.sqlite"
    migrate(url)
    version = catalogue.load("mf", "pretrained", catalogue.load_encoder("static")).version

    async def filled() -> None:
        store = Store(url)
        await fill(store, version)
        await store.close()

    asyncio.run(filled())
    told = CliRunner().invoke(cli, ["tune", "--config", written(tmp_path), "--dollars-a-day", "4.4"])
    assert told.exit_code == 0, told.output
    threshold, price = told.stdout.splitlines()[-2:]
    matched = re.fullmatch(r"default: router-mf-(0\.\d{4})    # (\d+) % strong", threshold)
    assert matched
    assert float(matched[1]) == pytest.approx(0.75, abs=0.02)
    assert int(matched[2]) == pytest.approx(50, abs=4)
    assert re.fullmatch(r"policy: \{lambda: 5\d\.\d+\}    # \d+ % strong", price)  # a loss of 1/2 for $0.009 saved
