"""From the database to figures: what is counted, what is left out, and what a known truth comes out as."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from feedback import logged, report, rescoring
from feedback.logged import Log
from feedback.migrations import migrate
from feedback.ope import Floats
from feedback.records import Outcome, Rating
from feedback.store import Store
from gateway_plugin import ids
from scorer.calibration import PRETRAINED
from scorer.cli import cli
from scorer.decisions import Decision
from scorer.encoder import Encoder
from scorer.routers.base import Prompts, Scores
from tests.feedback.examples import a_decision, id_aged

MODELS = ("strong", "medium", "cheap")


async def put(store: Store, decision: Decision, *ratings: float | None, **outcome: Any) -> None:
    """A decision, its outcome if it has one, and ratings by as many people."""
    await store.add_decisions([decision])
    if outcome:
        await store.record_outcomes([answered(decision, **outcome)])
    for person, value in enumerate(ratings):
        await store.rate(Rating(decision_id=decision.decision_id, value=value, user=str(person)))


def answered(decision: Decision, **seen: Any) -> Outcome:
    return Outcome(
        **{
            "decision_id": decision.decision_id,
            "status": "success",
            "chosen": decision.model,
            "served": decision.model,
            **seen,
        }
    )


# What is counted


async def test_every_decision_that_estimates_cannot_use_is_counted_by_reason(store: Store) -> None:
    await put(store, a_decision(), 1.0, cost=0.001)
    await put(store, a_decision(), served="strong")
    await put(store, a_decision(), chosen="strong")
    await put(store, a_decision(), status="failure", served=None)
    await put(store, a_decision(propensity=1.0, probabilities={"strong": 0.0, "medium": 0.0, "cheap": 1.0}), cost=1.0)
    await put(store, a_decision(propensity=1.0, probabilities={"cheap": 1.0}), cost=1.0)
    await put(store, a_decision(mode="observe"), served="strong")
    await put(store, a_decision(win_rates={"strong": 0.5, "new": 0.4, "cheap": 0.3}), cost=1.0)
    await put(store, a_decision())
    await put(store, a_decision(decision_id=id_aged(7200), created_at=time.time() - 7200))
    await store.record_outcomes([Outcome(decision_id=ids.mint(), status="fallback", served="strong")])
    await store.expire(3600)
    found = report.happened(await logged.read(store, MODELS))
    assert found.requests == 11
    assert found.left_out == {
        "served by another model": 2,
        "pinned, or nothing explored": 2,
        "failed": 1,
        "observed only": 1,
        "another ladder": 1,
        "no outcome yet": 1,
        "expired": 1,
        "fallback": 1,
    }


async def test_what_happened_is_counted_by_model_and_version(store: Store) -> None:
    await put(store, a_decision(unit="a"), 1.0, cost=0.001)
    await put(store, a_decision(unit="b"), cost=0.003)
    await put(store, a_decision(unit="c", model="strong", propensity=0.025, version="2026-02-02"), 0.0, cost=0.02)
    await put(store, a_decision(unit="d", version="2026-02-02"), 0.0, 1.0, cost=0.004)
    found = report.happened(await logged.read(store, MODELS))
    groups = {group.name: group for group in found.groups}
    assert list(groups) == ["all", "strong", "medium", "cheap", "mf 2026-01-01", "mf 2026-02-02"]
    assert [group.requests for group in found.groups] == [4, 1, 0, 3, 2, 2]
    assert found.strong_share.value == 0.25
    assert groups["all"].cost.value == pytest.approx(0.007)
    assert groups["cheap"].cost.value == pytest.approx(0.008 / 3)
    assert groups["all"].rated.value == 0.75
    assert groups["cheap"].rating.value == 0.75  # 1 and, of two people who disagree, 1/2
    assert math.isnan(groups["medium"].rating.value)
    assert math.isnan(groups["all"].cost.low)
    assert groups["cheap"].rating.low < 0.4
    assert groups["cheap"].rating.high > 0.9
    assert "2.667 (not enough: 3)" in report.text(found)


async def test_only_what_people_say_now_is_a_rating(store: Store) -> None:
    decision = a_decision()
    await put(store, decision, 1.0, None, cost=0.001)
    await store.rate(Rating(decision_id=decision.decision_id, value=0.0, source="judge"))
    assert (await logged.read(store, MODELS)).reward.tolist() == [1.0]
    await store.rate(Rating(decision_id=decision.decision_id, value=None, user="0"))
    assert np.isnan((await logged.read(store, MODELS)).reward).all()


async def test_sessions_are_clusters_and_vectors_are_kept_where_they_are_of_use(store: Store) -> None:
    vector = np.arange(3, dtype="<f4").tobytes()
    for unit in ("a", "a", "b"):
        await put(store, a_decision(unit=unit, embedding=vector, features=vector), cost=1.0, tokens_in=7)
    await put(store, a_decision(unit="b", embedding=vector), status="failure")
    log = await logged.read(store, MODELS)
    assert log.cluster.tolist() == [0, 0, 1, 1]
    assert log.embeddings[0].tolist() == [0, 1, 2]
    assert np.isnan(log.embeddings[3]).all()
    assert log.tokens_in[0] == 7
    assert log.probabilities[0].tolist() == [0.025, 0.025, 0.95]
    assert len(log.usable()) == 3
    assert log.logged.propensity.tolist() == [0.95, 0.95, 0.95, 0.95]


async def test_empty_log_is_a_report(store: Store) -> None:
    log = await logged.read(store, MODELS)
    assert "0 requests" in report.text(report.happened(log))
    found = report.what_if(log.usable(), "router-mf-p20", np.zeros((0, 3)), 0.5, 0.05)
    assert "0 requests with a choice" in report.what_if_text(found)


# What would have been


def simulated(n: int = 4000, rated: float = 1.0, seed: int = 0) -> tuple[Log, Floats, Floats]:
    """A log of two models, the win rates of another router, and P(thumbs-up) of both models."""
    generator = np.random.default_rng(seed)
    hard, tokens = generator.random(n), generator.integers(10, 500, n).astype(float)
    good = np.stack([0.9 - 0.2 * hard, 0.9 - 0.7 * hard], axis=1)
    probabilities = np.where((generator.random(n) < 0.4)[:, None], [0.95, 0.05], [0.05, 0.95])
    chosen = (generator.random(n) > probabilities[:, 0]).astype(np.int64)
    up = generator.random(n) < good[np.arange(n), chosen]
    embeddings = np.stack([hard - 0.5, generator.normal(size=n)], axis=1).astype(np.float32)
    log = Log(
        models=("strong", "cheap"),
        left_out=np.full(n, ""),
        router=np.full(n, "mf"),
        version=np.where(np.arange(n) < n // 2, "1", "2"),
        encoder_id=np.full(n, "here"),
        text_hash=np.arange(n).astype(np.str_),
        chosen=chosen,
        served=chosen,
        probabilities=probabilities,
        win_rates=np.stack([np.full(n, 0.5), generator.uniform(0.4, 0.9, n)], axis=1),
        reward=np.where(generator.random(n) < rated, up, np.nan),
        cost=np.where(chosen == 0, 1e-5, 1e-6) * (tokens + generator.integers(100, 300, n)),
        tokens_in=tokens,
        cluster=np.arange(n),
        embeddings=embeddings,
        features=np.zeros((n, 1), np.float32),
    )
    return log, np.stack([np.full(n, 0.5), 0.5 + hard / 4], axis=1), good


@pytest.mark.parametrize("rated", [1.0, 0.3])
def test_what_if_finds_the_truth(rated: float) -> None:
    log, rates, good = simulated(rated=rated)
    found = report.what_if(log, "router-mf-p30", rates, 0.5 + 0.7 / 4, 0.1)
    lines = {line.policy: line for line in found.lines}
    hard = rates[:, 1] >= 0.5 + 0.7 / 4
    target = np.where(hard[:, None], [0.95, 0.05], [0.05, 0.95])
    price = np.array([1e-5, 1e-6]) * (log.tokens_in + 199.5)[:, None]
    for name, policy in (
        ("as it was", log.probabilities),
        ("router-mf-p30", target),
        ("always cheapest", np.tile([0.0, 1.0], (len(log), 1))),
        ("always strongest", np.tile([1.0, 0.0], (len(log), 1))),
    ):
        line, truth = lines[name], float((policy * good).sum(axis=1).mean())
        assert abs(line.dr.value - truth) < 3 * line.dr.error
        assert abs(line.everyone.value - truth) < 3 * line.everyone.error
        assert abs(line.snips.value - truth) < 3 * line.snips.error
        assert line.cost.value == pytest.approx(float((policy * price).sum(axis=1).mean()), rel=0.02)
        assert line.dr.error < line.ips.error
        assert line.bounds[1].low < line.bounds[0].low < truth < line.bounds[0].high < line.bounds[1].high
    shuffled = lines["router-mf-p30, shuffled"]
    assert shuffled.cost.value == pytest.approx(lines["router-mf-p30"].cost.value, rel=0.02)
    assert found.over_shuffled.value == pytest.approx(lines["router-mf-p30"].dr.value - shuffled.dr.value)
    assert found.over_shuffled.low > 0
    assert lines["router-mf-p30"].shares["strong"] == pytest.approx(target[:, 0].mean())
    assert np.array(list(found.rated.values())) == pytest.approx(np.full((2, 3), rated), abs=0.08)


def test_no_interval_where_few_are_rated() -> None:
    log, rates, _ = simulated(n=400, rated=0.2)
    found = report.what_if(log, "router-mf-p30", rates, 0.6, 0.05)
    strongest = found.lines[-1]
    assert not strongest.dr.enough
    assert strongest.bounds == ()
    assert "not enough overlap" in report.what_if_text(found)
    written = json.dumps(report.plain(found), allow_nan=False)
    assert json.loads(written)["lines"][-1]["dr"]["low"] is None


def test_requests_without_scores_are_left_out_of_every_line() -> None:
    log, rates, _ = simulated(n=1000)
    rates[:300] = np.nan
    found = report.what_if(log, "router-mf-p30", rates, 0.6, 0.05)
    assert (found.requests, found.unscored) == (700, 300)
    without = report.what_if(log.take(np.arange(300, 1000)), "router-mf-p30", rates[300:], 0.6, 0.05)
    assert found.lines == without.lines
    assert "300 more have no scores" in report.what_if_text(found)


class Halving:
    """Win rates are half the first coordinate of the embedding."""

    name = "mf"
    version = "2"

    def knows(self, model: str) -> bool:
        return True

    def score(self, prompts: Prompts, ladder: Sequence[str]) -> Scores:
        return Scores(np.tile(prompts.embeddings[:, :1].astype(float) / 2, (1, len(ladder))))


def test_scores_come_from_the_log_or_are_made_again() -> None:
    log, _, _ = simulated(n=10)
    found = rescoring.win_rates(log, Halving(), log.models, "here")
    assert (found[5:] == log.win_rates[5:]).all()  # version 2 gave them
    assert found[:5, 1] == pytest.approx(log.embeddings[:5, 0] / 2)
    assert np.isnan(rescoring.win_rates(log, Halving(), log.models, "elsewhere")[:5]).all()
    log.embeddings[0] = np.nan
    assert (
        np.isnan(rescoring.win_rates(log, Halving(), log.models, "here")).any(axis=1).tolist() == [True] + [False] * 9
    )


# The command


@pytest.fixture
def config(tmp_path: Path, encoder: Encoder) -> Path:
    """Of a daemon with the random router, and 300 decisions in its database."""
    path = tmp_path / "config.yaml"
    ladder = "ladder: [{model: big, like: gpt-4-1106-preview}, {model: small, like: mixtral-8x7b-instruct-v0.1}]\n"
    path.write_text(f"{ladder}data_dir: {tmp_path}\ndefault: router-random-p40\nrouters: {{random: {{}}}}\n")
    url = f"sqlite:///{tmp_path / 'routerd.sqlite'}"
    migrate(url)

    async def fill() -> None:
        store = Store(url)
        decisions = [
            a_decision(
                router="random",
                version="1",
                win_rates={"big": 0.0, "small": number / 300},
                probabilities={"big": 0.5, "small": 0.5},
                model="small" if number % 3 else "big",
                propensity=0.5,
                unit=str(number),
                embedding=None,
                features=None,
            )
            for number in range(300)
        ]
        await store.add_decisions(decisions)
        await store.record_outcomes([answered(one, cost={"big": 0.01, "small": 0.001}[one.model]) for one in decisions])
        await store.take([Rating(decision_id=one.decision_id, value=1.0) for one in decisions[1::2]], [])
        await store.close()

    asyncio.run(fill())
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["report", *map(str, arguments)])


def test_command_says_what_happened_and_what_would_have(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    result = run("--config", config, "--what-if", "router-random-p20", "--json", out)
    assert result.exit_code == 0, result.output
    assert "300 requests; to the strongest model: 33.3 (" in result.output
    assert "300 requests with a choice, 150 of them rated" in result.output
    for line in ("as it was", "router-random-p20, shuffled", "always cheapest", "always strongest"):
        assert line in result.output
    content = json.loads(out.read_text())
    lines = {line["policy"]: line for line in content["what_if"]["lines"]}
    assert lines["always strongest"]["cost"]["value"] == pytest.approx(0.01)
    assert lines["always cheapest"]["cost"]["value"] == pytest.approx(0.001)
    assert lines["router-random-p20"]["shares"]["big"] == pytest.approx(0.2, abs=0.04)
    assert content["happened"]["groups"][0]["requests"] == 300


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("gpt-4o", "--what-if: model 'gpt-4o': not a virtual model"),
        ("router-sw-p20", "--what-if router-sw-p20: the configuration lists random"),
    ],
)
def test_policy_that_cannot_be_asked_about_is_named(config: Path, asked: str, said: str) -> None:
    result = run("--config", config, "--what-if", asked)
    assert result.exit_code == 2
    assert f"routerd: {said}" in result.output


def test_another_version_can_be_asked_about(config: Path, tmp_path: Path) -> None:
    """mf never logged here and nothing was kept of the prompts, so no request can be scored: said, not guessed."""
    text = config.read_text().replace("routers: {random: {}}", "routers: {random: {}, mf: {}}")
    config.write_text(text)
    directory = tmp_path / "elsewhere"
    missing = run("--config", config, "--what-if", "router-mf-0.6", "--artifact", directory)
    assert missing.exit_code == 2
    assert f"{directory / 'artifact.json'}: No such file or directory" in missing.output
    shipped = PRETRAINED / "minilm" / "mf"
    result = run("--config", config, "--what-if", "router-mf-0.6", "--artifact", shipped)
    assert result.exit_code == 0, result.output
    assert "threshold 0.6000" in result.output
    assert "0 requests with a choice, 0 of them rated; 300 more have no scores" in result.output


def test_file_that_cannot_be_written_is_named(config: Path, tmp_path: Path) -> None:
    result = run("--config", config, "--json", tmp_path / "gone" / "report.json")
    assert result.exit_code == 2
    assert "report.json: No such file or directory" in result.output
