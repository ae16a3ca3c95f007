"""Drift: no more false alarms than stated, and the drifts that are found, by their size."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from feedback import calibrations, drift, report
from feedback.drift import DAY, Check, Drift, Terms, Window
from feedback.migrations import migrate
from feedback.records import Rating
from feedback.store import Store
from feedback.traffic import Day
from gateway_plugin import ids
from scorer.calibration import Calibration
from scorer.cli import cli
from scorer.decisions import Decision
from scorer.routers.random import Random
from scorer.scoring import Hosted
from tests.feedback.examples import a_decision

MODELS = ("strong", "cheap")
TODAY = 20_000 * DAY
TERMS = Terms(MODELS, "router-random-p30", "e" * 64, days=1, false_alarms=1.0, recalibrate=False)
LEVEL = 1 / (365 * 4)


def traffic(rng: np.random.Generator, sessions: int, harder: float = 0.0) -> Window:
    """Sessions of four requests in the mean that are alike, and harder the longer they are; log odds."""
    sizes = rng.geometric(0.25, size=sessions)
    unit = np.repeat(np.arange(sessions), sizes)
    own = rng.normal(size=sessions) + 0.5 * (np.log(sizes) - 1)
    odds = np.sqrt(0.3) * own[unit] + np.sqrt(0.7) * rng.normal(size=len(unit)) + harder
    return Window(1 / (1 + np.exp(-odds)), unit, ["router"] * len(unit))


def hosted(lowest: NDArray[np.float64], sample: str = calibrations.TRAFFIC) -> Hosted:
    return Hosted(Random(), MODELS, Calibration(sample, lowest))


# What is stated


def test_scores_and_share_of_clustered_sessions_raise_no_more_false_alarms_than_stated() -> None:
    """600 evaluations of 500 sessions each, the calibration's own sample clustered too. One request of each session,
    the plainer way, would alarm in two thirds of them at 5 %: longer sessions are harder."""
    rng = np.random.default_rng(1)
    p = []
    for _ in range(600):
        checks = drift.scores("random", hosted(traffic(rng, 500).lowest), traffic(rng, 500), TERMS)
        p.append([check.p for check in checks])
    for level in (0.05, 0.01):
        most = level + 3 * np.sqrt(level * (1 - level) / 600)
        assert ((np.array(p) < level).mean(axis=0) < most).all()


def test_whole_evaluations_raise_the_false_alarms_that_are_stated() -> None:
    """400 evaluations of all four checks, at a rate so high that it can be counted: 40 alarms are expected at most."""
    rng = np.random.default_rng(2)
    level, alarms = 0.1 / 4, 0
    for day in range(400):
        checks = drift.scores("random", hosted(traffic(rng, 300).lowest), traffic(rng, 300), TERMS)
        rate = 1 / (1 + np.exp(-rng.normal(-2.4, 0.25, size=29)))
        days = [Day(made, rng.binomial(made, odds)) for made, odds in zip(rng.poisson(800, 29), rate, strict=True)]
        checks += [drift.rated(days[:-1], days[-1]) or pytest.fail("too little to tell")]
        checks.append(drift.unlike(rng.normal(size=(60, 8)), rng.normal(size=(60, 8)), level, day))
        alarms += sum(check.p < level for check in checks)
    assert alarms < 40 + 3 * np.sqrt(40)


@pytest.mark.parametrize(("harder", "found"), [(0.0, 0.0), (0.2, 0.55), (0.3, 0.95)])
def test_harder_traffic_is_found_at_the_level_of_one_alarm_a_year(harder: float, found: float) -> None:
    """600 sessions a day, about 2,400 requests, against 2,000 clustered ones: shares of 30 %, 37 % and 41 %."""
    rng = np.random.default_rng(3)
    checks = [
        drift.scores("random", hosted(traffic(rng, 500).lowest), traffic(rng, 600, harder), TERMS) for _ in range(60)
    ]
    power = np.mean([any(check.p < LEVEL for check in both) for both in checks])
    assert power == pytest.approx(found, abs=0.2 if 0 < found < 0.9 else 0.06)


def test_rating_rate_of_a_quarter_is_found_and_one_within_the_ordinary_is_not() -> None:
    rng = np.random.default_rng(4)
    rates = np.clip(rng.normal(0.08, 0.008, size=28), 0, 1)
    usual = [Day(1000, rng.binomial(1000, rate)) for rate in rates]
    fallen, ordinary = drift.rated(usual, Day(1000, 20)), drift.rated(usual, Day(1000, 70))
    assert fallen is not None
    assert ordinary is not None
    assert fallen.p < LEVEL
    assert ordinary.p > 0.05
    assert fallen.says.startswith("2.0% of the decisions were rated by the end of the day where 8.0% is usual")


def test_too_few_days_or_no_rating_at_all_tell_nothing() -> None:
    assert drift.rated([Day(1000, 80)] * 6, Day(1000, 80)) is None
    assert drift.rated([Day(1000, 0)] * 28, Day(1000, 0)) is None
    assert drift.rated([Day(1000, 80)] * 28, Day(20, 2)) is None


# What is compared


def test_share_is_the_one_that_most_requests_asked_of_the_router() -> None:
    asked = ["router-random-p50"] * 3 + ["router", "router-random", "router-random-0.3", "gpt-4o", "router-sw-p10"]
    assert drift._asked(asked[:3] + asked[3:5], "random", "router-random-p30") == 0.5
    assert drift._asked(asked[3:], "random", "router-random-p30") == 0.3
    assert drift._asked(["router-random-0.3"], "random", "router-random-p30") is None
    assert drift._asked(["router"], "random", None) is None


def test_shares_are_said_in_plain_words() -> None:
    rng = np.random.default_rng(5)
    flat = np.linspace(0, 1, 2000)
    recent = Window(np.sqrt(rng.random(1000)), np.arange(1000), ["router"] * 1000)  # P(above 0.7) = 1 - 0.49
    _, share = drift.scores("mf", hosted(flat, "prompts.csv"), recent, TERMS)
    assert share.value == pytest.approx(0.51, abs=0.03)
    assert share.says == f"strong share of mf: {share.value:.1%} where 30.0% was asked for"
    assert share.p < LEVEL


# From the database


def made(rng: np.random.Generator, at: float, win_rate: float, topic: float = 0.0) -> Decision:
    decision_id = f"{(stamp := f'{int(at * 1000):012x}')[:8]}-{stamp[8:]}-{ids.mint()[14:]}"
    return a_decision(
        decision_id=decision_id,
        created_at=at,
        requested="router",
        router="random",
        version="1",
        win_rates={"strong": 0.5, "cheap": win_rate},
        unit=decision_id,
        encoder_id="e" * 64,
        embedding=(rng.normal(size=16) + topic).astype("<f4").tobytes(),
    )


async def log(store: Store, days: range, a_day: int = 300, topic: float = 0.0, harder: float = 0.0) -> None:
    """Days before today, each with decisions of which 8 % are rated."""
    rng = np.random.default_rng(days.start)
    for back in days:
        start = TODAY - back * DAY
        decisions = [
            made(rng, start + second, min(rng.random() + harder, 1.0), topic)
            for second in np.sort(rng.uniform(0, DAY - 60, size=a_day))
        ]
        await store.add_decisions(decisions)
        rated = [
            Rating(decision_id=one.decision_id, value=1.0, created_at=one.created_at + 30)
            for one in decisions[: rng.binomial(a_day, 0.08)]
        ]
        await store.take(rated, [])


def uniform() -> dict[str, Hosted]:
    return {"random": hosted(np.linspace(0, 1, 2001)[:-1], "shipped")}


def of(found: Drift) -> Iterator[tuple[str, Check]]:
    return ((check.check, check) for check in found.checks)


async def test_steady_traffic_raises_no_alarm_in_four_checks(store: Store) -> None:
    await log(store, range(1, 10))
    found = await drift.evaluate(store, uniform(), TERMS, TODAY)
    assert [check.check for check in found.checks] == ["scores", "strong_share", "ratings", "prompts"]
    assert found.level == pytest.approx(LEVEL)
    assert found.verdict == "no drift in 4 checks"
    checks = dict(of(found))
    assert checks["strong_share"].value == pytest.approx(0.3, abs=0.1)
    assert checks["ratings"].expected == pytest.approx(0.08, abs=0.02)


async def test_harder_prompts_on_another_topic_are_found(store: Store) -> None:
    await log(store, range(2, 10))
    await log(store, range(1, 2), topic=0.3, harder=0.2)
    found = await drift.evaluate(store, uniform(), TERMS, TODAY)
    assert [check.check for check in found.alarms] == ["scores", "strong_share", "prompts"]
    share = dict(of(found))["strong_share"]
    assert share.value == pytest.approx(0.5, abs=0.08)
    assert f"{share.value:.1%} where 30.0% was asked for" in found.verdict


async def test_what_cannot_be_told_is_said(store: Store) -> None:
    await log(store, range(1, 2), a_day=40)
    found = await drift.evaluate(store, uniform(), TERMS, TODAY)
    assert (found.checks, found.verdict) == ([], "too little traffic to tell")
    assert found.skipped["scores of random"] == "40 sessions on 1, 100 are needed"
    assert set(found.skipped) == {"scores of random", "prompts", "ratings"}


async def test_busy_days_are_sampled_at_random(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await log(store, range(1, 3), a_day=600)
    monkeypatch.setattr(drift, "_MOST", 150)
    assert await store.traffic_count(TODAY - DAY, TODAY) == 600
    rows = await store.traffic_scored(TODAY - DAY, TODAY, 0.25)
    assert len(rows) == pytest.approx(150, abs=45)
    found = await drift.evaluate(store, uniform(), TERMS, TODAY)
    assert [check.check for check in found.checks] == ["scores", "strong_share", "prompts"]
    assert not found.alarms


async def test_drifted_router_is_calibrated_on_the_traffic_that_drifted_if_told_to(store: Store) -> None:
    await log(store, range(1, 10), harder=0.2)
    terms = Terms(MODELS, TERMS.default, TERMS.encoder_id, days=1, false_alarms=1.0, recalibrate=True)
    found = await drift.evaluate(store, uniform(), terms, TODAY)
    assert found.recalibrated == ["random"]
    stored = await store.calibration("random", "1", MODELS)
    assert stored
    fitted = calibrations.restored(stored)
    assert fitted.sample == calibrations.TRAFFIC
    assert fitted.threshold(0.3) == pytest.approx(0.9, abs=0.06)
    again = await drift.evaluate(store, {"random": Hosted(Random(), MODELS, fitted)}, terms, TODAY - DAY)
    assert (again.alarms, again.recalibrated) == ([], [])


async def test_replicas_evaluate_a_day_once_and_all_show_it(store: Store) -> None:
    await log(store, range(1, 2), harder=0.2)
    shown: list[Drift] = []
    now = TODAY + 3600
    for _ in range(2):
        both = (drift.keep(store, uniform(), TERMS, shown.append, lambda: now) for _ in range(2))
        await asyncio.gather(*both)
    (run,) = await store.runs(drift.JOB)
    assert (run.scheduled_for, run.status) == (TODAY, "drift")
    assert run.verdict
    assert "where 30.0% was asked for" in run.verdict
    assert shown[-1] == shown[-2] == await drift.newest(store)
    assert [check.check for check in shown[-1].alarms] == ["scores", "strong_share"]
    await drift.keep(store, uniform(), TERMS, shown.append, lambda: now + DAY)
    assert [run.scheduled_for for run in await store.runs(drift.JOB)] == [TODAY + DAY, TODAY]


async def test_evaluation_that_fails_is_on_record(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await log(store, range(1, 2), a_day=10)
    monkeypatch.setattr(drift, "evaluate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await drift.keep(store, uniform(), TERMS, lambda found: None, lambda: TODAY + 3600)
    (run,) = await store.runs(drift.JOB)
    assert (run.status, run.verdict) == ("failed", "ZeroDivisionError")


# In the report


def evaluation(day: int, *checks: Check) -> Drift:
    return Drift(
        after=(day - 1) * DAY,
        before=day * DAY,
        level=0.0005,
        false_alarms=1.0,
        checks=list(checks),
        skipped={"prompts": "why"},
    )


def test_report_says_what_drifted_now_and_before() -> None:
    share = Check(check="strong_share", router="mf", p=0.00012, value=0.412, expected=0.3, says="41 %", alarm=True)
    steady = Check(check="ratings", p=0.5, value=0.08, expected=0.08, says="steady")
    lines = report.drift_text([evaluation(20_000, share, steady), evaluation(19_999), evaluation(19_998, share)])
    assert lines.splitlines() == [
        "drift up to 2024-10-04: 41 %",
        "                  seen  expected       p       ",
        "strong share mf  0.412     0.300  0.0001  DRIFT",
        "ratings          0.080     0.080     0.5       ",
        "not checked: prompts: why",
        "a check alarms at p < 0.0005: 1 false alarms a year in the mean",
        "alarms before:",
        "2024-10-02: 41 %",
    ]
    assert report.drift_text([]) == "drift: not evaluated yet; a daemon does so once a day"


def test_command_reports_what_is_on_record(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/routerd.sqlite"
    migrate(url)

    async def put() -> None:
        store = Store(url)
        await log(store, range(1, 2), a_day=120, harder=0.5)
        await drift.keep(store, uniform(), TERMS, lambda found: None, lambda: TODAY + 3600)
        await store.close()

    asyncio.run(put())
    config = tmp_path / "config.yaml"
    config.write_text(f"ladder: [{{model: strong}}, {{model: cheap}}]\ndata_dir: {tmp_path}\n")
    done = CliRunner().invoke(cli, ["report", "--config", str(config), "--json", str(tmp_path / "out.json")])
    assert done.exit_code == 0, done.output
    assert "drift up to 2024-10-04: half of the win rates of random are below" in done.output
    (found,) = json.loads((tmp_path / "out.json").read_text())["drift"]
    assert [check["check"] for check in found["checks"] if check["alarm"]] == ["scores", "strong_share"]
