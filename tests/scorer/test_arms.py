"""Arms: a version held back serves its share, is steered with the other, and ends or comes back by itself."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

import click.testing
import msgspec
import numpy as np
import pytest
import yaml

from feedback.records import Holdback, Outcome, Rating
from feedback.store import Store
from scorer import arms, budget, chores, cli, hosting, steering
from scorer.commands.shared import in_store
from scorer.config import Config
from scorer.scoring import Earlier, Job, Scored
from scorer.sections import Budget, PolicyConfig
from tests.conftest import Serve
from tests.scorer.arming import (
    SESSIONS,
    STARTS,
    calibration,
    configuration,
    published,
    started,
    until,
    version,
    versions_of,
)
from tests.scorer.conftest import EASY, TWO, route


def test_an_arm_has_its_share_and_is_drawn_apart_from_every_other() -> None:
    """4,000 units: shares within four standard deviations, and no more overlap than chance."""
    names = [f"unit-{number}" for number in range(4000)]
    held = np.array([arms.held_back(one, "mf", 1, 0.2) for one in names])
    again = np.array([arms.held_back(one, "mf", 2, 0.2) for one in names])
    other = np.array([arms.held_back(one, "sw", 1, 0.2) for one in names])
    canary = np.array([arms.canary(one, 0.2) for one in names])
    for arm in (held, again, other, canary):
        assert arm.mean() == pytest.approx(0.2, abs=4 * (0.16 / 4000) ** 0.5)
    for arm in (again, other, canary):
        assert (held & arm).mean() == pytest.approx(0.04, abs=4 * (0.04 / 4000) ** 0.5)
    wider = np.array([arms.canary(one, 0.3) for one in names])
    assert (canary <= wider).all()


def test_held_back_sessions_stay_with_the_version_before_on_every_replica(serve: Serve, tmp_path: Path) -> None:
    config = configuration(tmp_path)
    active = published(config, share=0.3)
    replicas = [started(serve, config) for _ in range(2)]
    first, second = (versions_of(client) for client in replicas)
    assert first == second == versions_of(replicas[0])
    expected = {one: "v1" if arms.held_back(one, "mf", active.number, 0.3) else "v2" for one in SESSIONS}
    assert first == expected
    assert set(first.values()) == {"v1", "v2"}
    shown = replicas[0].get("/v1/routers").json()["routers"]["mf"]
    assert shown["version"] == "v2"


def test_a_share_is_by_the_calibration_of_the_arm_and_probabilities_are_the_arms_own(
    serve: Serve, tmp_path: Path
) -> None:
    config = configuration(tmp_path, exploration=0.1)
    published(config, share=0.3)
    client = started(serve, config)
    thresholds: dict[str, set[float]] = {"v1": set(), "v2": set()}
    for session in SESSIONS:
        answer = route(client, EASY, session_id=session, model="router-mf-p30")
        thresholds[str(answer["version"])].add(round(float(str(answer["threshold"])), 5))
        assert sorted(answer["probabilities"].values()) == pytest.approx([0.05, 0.95])  # type: ignore[attr-defined]
    expected = {name: {round(calibration(start).threshold(0.3), 5)} for name, start in STARTS.items()}
    assert thresholds == expected
    assert expected["v1"] != expected["v2"]


def test_jobs_of_both_arms_that_meet_in_a_batch_are_each_scored_by_their_own(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    scoring = hosting.load_scoring(config)
    random = scoring.hosted["random"]
    scoring.hosted["mf"] = replace(scoring.hosted["mf"], earlier=Earlier(random, 7, 0.5))
    jobs = [Job("mf", f"What is {number}?", unit=f"unit-{number}") for number in range(20)]
    scored = scoring.score([*jobs, Job("mf", "What is 0?"), Job("random", "What is 0?")])
    expected = ["random" if arms.held_back(f"unit-{number}", "mf", 7, 0.5) else "mf" for number in range(20)]
    assert [one.hosted.router.name for one in scored if isinstance(one, Scored)] == [*expected, "mf", "random"]
    alone = [scoring.score([job])[0] for job in jobs]
    assert [one.win_rates for one in alone if isinstance(one, Scored)] == [
        one.win_rates for one in scored[:20] if isinstance(one, Scored)
    ]


def test_a_budget_steers_both_arms(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the calls to the strongest, by thresholds of either version's own."""
    monkeypatch.setattr(steering, "SECONDS", 0.05)
    monkeypatch.setattr(budget, "LEAST_SAMPLE", 10)
    prices = tuple(msgspec.structs.replace(rung, price=(1.0, 1.0)) for rung in TWO)
    config = configuration(tmp_path, ladder=prices, policy=PolicyConfig(budget=Budget(strong_share=0.5)))
    published(config, share=0.5)
    client = started(serve, config)
    numbers = count()
    planned: dict[str, set[str]] = {"v1": set(), "v2": set()}

    def steered() -> bool:
        number = next(numbers)
        answer = route(client, f"What is {number} times {number * 7 % 13}?", session_id=f"asks-{number}")
        kept = client.get(f"/v1/decisions/{answer['decision_id']}").json()
        planned[str(answer["version"])].add(kept["policy"])
        return all("budget" in policies for policies in planned.values())

    until(steered, 60)


def test_the_configured_artifact_is_held_back_where_nothing_came_before(serve: Serve, tmp_path: Path) -> None:
    config = configuration(tmp_path)
    directory = str(version(tmp_path, "v1").resolve())
    in_store(config, lambda store: store.activate("mf", "v1", directory, [], "test", holdback=Holdback(0.3, 1)))
    shipped = hosting.configured(config)["mf"].manifest.version
    assert set(versions_of(started(serve, config)).values()) == {"v1", shipped}


def test_a_version_before_that_cannot_be_loaded_is_not_held_back(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = configuration(tmp_path)
    published(config, share=0.3)
    (tmp_path / "artifacts" / "mf" / "v1" / "tensors.safetensors").write_bytes(b"cut short")
    assert set(versions_of(started(serve, config)).values()) == {"v2"}
    assert "mf: nothing is held back, since the version before cannot: " in caplog.text


def test_the_holdback_ends_by_itself(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chores, "_POLL_SECONDS", 0.05)
    config = configuration(tmp_path)
    published(config, share=0.3, days=3 / 86400)
    client = started(serve, config)
    assert set(versions_of(client).values()) == {"v1", "v2"}
    until(lambda: set(versions_of(client).values()) == {"v2"})


def test_a_worse_version_goes_back_by_itself_while_daemons_serve(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ratings come over HTTP: v1 pleases, v2 does not. Both replicas are back on v1 soon after."""
    monkeypatch.setattr(chores, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(chores, "_WATCH_SECONDS", 0.1)
    config = configuration(tmp_path)
    published(config, share=0.5)
    replicas = [started(serve, config) for _ in range(2)]

    def one_more(number: int) -> None:
        client = replicas[number % 2]
        answer = route(client, EASY, session_id=f"rated-{number}")
        decision, model = answer["decision_id"], answer["model"]
        outcome = {"decision_id": decision, "status": "success", "chosen": model, "served": model}
        assert client.post("/v1/outcomes", json=[outcome]).status_code == 200
        rating = "up" if answer["version"] == "v1" else "down"
        assert client.post("/v1/feedback", json={"decision_id": decision, "rating": rating}).status_code < 300

    numbers = count()

    def back() -> bool:
        one_more(next(numbers))
        shown = replicas[0].get("/v1/routers").json()["routers"]["mf"]
        return bool(shown["version"] == "v1")

    until(back, 30)
    until(lambda: all(set(versions_of(client).values()) == {"v1"} for client in replicas))
    active, judged, _ = in_store(config, lambda store: store.activations("mf"))
    assert (active.undoes, active.previous) == (judged.number, "v2")
    assert active.changed_by.startswith("rollback: rated ")


def test_commands_show_the_holdback_and_roll_back(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    published(config, share=0.5)
    path = written(config)
    listed = routerd("artifacts", "list", path).splitlines()
    assert [line.split()[:3] for line in listed[:2]] == [["*", "mf", "v2"], ["-", "mf", "v1"]]
    assert "nothing to compare yet: 0 sessions rated it, 0 the version before" in listed[-1]
    assert "UTC 50 % stay with v1" in routerd("artifacts", "show", "mf", "v2", path)
    in_store(config, _rate_v1_up_and_v2_down)
    assert "mf: rolled back: rated 0.000 by " in routerd("artifacts", "watch", path)
    listed = routerd("artifacts", "list", path).splitlines()
    assert [line.split()[:3] for line in listed[:2]] == [["x", "mf", "v2"], ["*", "mf", "v1"]]
    assert "UTC by rollback: rated 0.000 by " in routerd("artifacts", "show", "mf", "v1", path)
    assert routerd("artifacts", "watch", path) == "no router has a holdback\n"


def test_by_hand_a_holdback_is_asked_for(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    published(config, share=0.5)
    path = written(config)
    routerd("artifacts", "activate", "mf", "v1", path)
    plain = in_store(config, lambda store: store.active("mf"))
    routerd("artifacts", "activate", "--holdback", "0.1", "mf", "v2", path)
    held = in_store(config, lambda store: store.active("mf"))
    assert plain is not None
    assert held is not None
    assert (plain.holdback, held.holdback, held.previous) == (0.0, 0.1, "v1")


def test_after_a_run_the_oldest_versions_are_deleted(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    published(config, share=0.5)
    for name in ("v3", "v4", "v5"):
        version(tmp_path, name)
    told = routerd("retrain", written(config, retrain={"keep_versions": 1}))
    assert "mf: 2 old versions deleted\n" in told
    assert sorted(path.name for path in (tmp_path / "artifacts" / "mf").iterdir()) == ["v1", "v2", "v5"]


def written(config: Config, **settings: object) -> str:
    """The configuration as a file's path."""
    ladder = [{"model": rung.model, "like": rung.like} for rung in TWO]
    content = {"ladder": ladder, "data_dir": str(config.data_dir), "encoder": "static", "routers": {"mf": {}}}
    path = config.data_dir / "config.yaml"
    path.write_text(yaml.safe_dump({**content, "default": config.default, **settings}))
    return str(path)


def routerd(*arguments: str) -> str:
    """What a command prints; the last argument is the configuration."""
    *words, path = arguments
    told = click.testing.CliRunner().invoke(cli.cli, [*words, "--config", path])
    assert told.exit_code == 0, told.output
    return told.output


async def _rate_v1_up_and_v2_down(store: Store) -> None:
    from tests.feedback.examples import a_decision

    active = await store.active("mf")
    assert active is not None
    for number in range(80):
        unit = f"unit-{number}"
        held = arms.held_back(unit, "mf", active.number, active.holdback)
        decision = a_decision(unit=unit, version="v1" if held else "v2")
        await store.add_decisions([decision])
        outcome = Outcome(decision_id=decision.decision_id, status="success", chosen="cheap", served="cheap")
        await store.record_outcomes([outcome])
        await store.rate(Rating(decision_id=decision.decision_id, value=float(held)))
