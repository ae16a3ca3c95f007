"""Versions that are fitted, published, followed and rolled back, by a real daemon on the static encoder."""

from __future__ import annotations

import hashlib
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import click.testing
import httpx
import msgspec
import numpy as np
import pytest
import yaml
from apscheduler.triggers.cron import CronTrigger

from feedback import retrain, schedule, versions
from feedback.records import Outcome, Rating
from feedback.store import Store
from feedback.trials import Trial
from gateway_plugin import ids
from scorer import catalogue, cli, daemon, hosting
from scorer.commands.shared import in_store
from scorer.config import Config, ConfigError
from scorer.decisions import Decision
from scorer.routers.base import Encodes
from scorer.sections import EncoderConfig, Retrain, Rollback, RouterConfig
from tests.conftest import Serve
from tests.scorer.conftest import EASY, TWO, route

MODELS = ("strong", "weak")
GOLDEN = 0.4  # a golden set from few ratings
WORDS = ("apple", "river", "proof", "integral", "poem", "stone", "lemma", "cloud", "kernel", "window")
T = TypeVar("T")


@cache
def static() -> Encodes:
    return catalogue.load_encoder("static")


def configuration(folder: Path, **changes: Any) -> Config:
    config = Config(
        ladder=TWO,
        data_dir=folder,
        encoder=EncoderConfig("static"),
        routers={"mf": RouterConfig(), "sw": RouterConfig()},
        default="router-mf-p50",
        retrain=Retrain(golden=GOLDEN),
        rollback=Rollback(holdback=0.0),
    )
    return msgspec.structs.replace(config, **changes)


def lived(config: Config, count: int, good: Callable[[str, str], float], seed: int = 0, strangers: int = 0) -> None:
    """Logs `count` decisions, drawn half and half, each served and rated: good(text, model) is P(thumbs-up).
    The first `strangers` were served by a model that is not on the ladder."""
    generator = np.random.default_rng(seed)
    texts = [" ".join(generator.choice(WORDS, 6)) for _ in range(count)]
    encoder = static()
    prompts = encoder.encode(texts)
    models = generator.choice(MODELS, count)
    start = time.time() - 3600
    decisions, outcomes, ratings = [], [], []
    for i, (text, model) in enumerate(zip(texts, models.tolist(), strict=True)):
        made = start + i
        stamp = f"{int(made * 1000):012x}"
        decision_id = f"{stamp[:8]}-{stamp[8:]}-{ids.mint()[14:]}"
        vectors = (row.astype("<f4").tobytes() for row in (prompts.embeddings[i], prompts.features[i]))
        embedding, features = vectors
        decisions.append(
            Decision(
                decision_id=decision_id,
                created_at=made,
                requested="router",
                router="mf",
                version="any",
                mode="route",
                threshold=0.5,
                win_rates=dict.fromkeys(MODELS, 0.5),
                quality=None,
                probabilities=dict.fromkeys(MODELS, 0.5),
                model=model,
                propensity=0.5,
                explored=False,
                reason="",
                unit=f"session {seed} {i}",  # golden or not, every time alike
                text_hash=hashlib.sha256(text.encode()).hexdigest(),
                encoder_id=encoder.id,
                embedding=embedding,
                features=features,
            )
        )
        served = "stranger" if i < strangers else model
        outcomes.append(Outcome(decision_id=decision_id, status="success", chosen=model, served=served))
        up = float(generator.random() < good(text, model))
        ratings.append(Rating(decision_id=decision_id, value=up, created_at=made + 1))

    async def write(store: Store) -> None:
        await store.add_decisions(decisions)
        await store.record_outcomes(outcomes)
        await store.take(ratings, [])

    in_store(config, write)


def weak_fails_at_proofs(text: str, model: str) -> float:
    return 0.1 if model == "weak" and "proof" in text else 0.9


def retrained(config: Config, scheduled_for: float = 1000.0) -> list[Trial] | None:
    async def work(store: Store) -> list[Trial] | None:
        encoder = hosting.load_encoder(config)
        plan = hosting.plan(config, encoder)
        return await retrain.run(store, plan, await hosting.subjects(config, encoder, store), scheduled_for, "test")

    return in_store(config, work)


def routerd(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli.cli, arguments, catch_exceptions=False)


def written(config: Config) -> str:
    """The configuration as a file's path."""
    content = {
        "ladder": [{"model": rung.model, "like": rung.like} for rung in config.ladder],
        "data_dir": str(config.data_dir),
        "encoder": "static",
        "routers": {name: {} for name in config.routers},
        "default": config.default,
        "retrain": {"golden": GOLDEN},
        "rollback": {"holdback": 0},
    }
    path = config.data_dir / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_ratings_become_versions_that_know_the_ladder_and_what_was_said(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    lived(config, 600, weak_fails_at_proofs)
    trials = retrained(config)
    assert trials is not None
    assert [(trial.name, trial.published) for trial in trials] == [("mf", True), ("sw", True)]
    encoder = static()
    prompts = encoder.encode(["river proof stone", "river cloud stone"])
    for trial in trials:
        directory = versions.folder(tmp_path, trial.name) / trial.challenger
        router = catalogue.load(trial.name, str(directory), encoder)
        assert router.version == trial.challenger
        assert router.knows("strong")
        assert router.knows("weak")
        proof, cloud = router.score(prompts, MODELS).win_rates[:, 1]
        assert proof > cloud + 0.02
        assert trial.ruling is not None
        assert trial.ruling.newest.ratings == 120  # the newest fifth
        assert 90 < trial.ruling.champion.ratings < 150  # of the older half, four tenths
        assert trial.ruling.champion.difference < 0  # it predicts them better than the prior


def test_a_run_leaves_its_record_and_is_made_once(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    lived(config, 300, weak_fails_at_proofs)
    assert retrained(config, 5000.0) is not None
    assert retrained(config, 5000.0) is None
    (run,) = in_store(config, lambda store: store.runs(retrain.JOB))
    assert (run.status, run.scheduled_for, run.attempt) == ("published", 5000.0, 1)
    assert run.record is not None
    data = run.record["data"]
    assert 30 < data["golden"] < 90  # of the older half, four tenths
    assert 110 < data["learned_from"] < 180  # of the older four fifths, six tenths
    assert data["held_out"] == 60
    assert run.record["rate"]["run"] == 1
    assert run.record["rate"]["passed_on"] == run.record["rate"]["level"] == pytest.approx(0.05 / 2.6123753486854883)
    assert set(run.record["routers"]) == {"mf", "sw"}
    assert 0 < run.record["routers"]["mf"]["thresholds"]["p30"] < 1


def test_ratings_of_a_model_that_is_not_on_the_ladder_are_counted_and_left_out(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    lived(config, 300, weak_fails_at_proofs, strangers=40)
    trials = retrained(config)
    assert trials is not None
    assert [trial.published for trial in trials] == [True, True]
    (run,) = in_store(config, lambda store: store.runs(retrain.JOB))
    assert run.record is not None
    data = run.record["data"]
    left_out = data["dropped"]["of a model that is not on the ladder"]
    assert 15 < left_out < 40  # what is not golden of them
    assert 110 < data["learned_from"] + left_out < 180


def test_what_is_published_leaves_a_share_to_the_version_before(tmp_path: Path) -> None:
    config = configuration(tmp_path, rollback=Rollback(holdback=0.05, days=2), routers={"mf": RouterConfig()})
    lived(config, 300, weak_fails_at_proofs)
    retrained(config)
    active = in_store(config, lambda store: store.active("mf"))
    assert active is not None
    assert (active.holdback, active.holdback_since) == (0.05, 1)
    assert active.holdback_until == active.changed_at + 2 * 24 * 3600


def test_version_and_calibration_are_there_together(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    lived(config, 300, weak_fails_at_proofs)
    retrained(config)
    active = in_store(config, lambda store: store.active("mf"))
    assert active is not None
    stored = in_store(config, lambda store: store.calibration("mf", active.version, MODELS))
    assert stored is not None
    assert stored.sample == "logged traffic"
    assert len(stored.lowest) == 4 * 300


def test_what_the_newest_ratings_contradict_is_refused_and_leaves_the_champion(tmp_path: Path) -> None:
    """The old ratings say that both always fail, the newest that both never do: learning from the old ones harms."""
    config = configuration(tmp_path)
    seen = iter(range(10_000))
    lived(config, 600, lambda text, model: 0.02 if next(seen) < 480 else 0.98)
    trials = retrained(config)
    assert trials is not None
    assert [trial.published for trial in trials] == [False, False]
    assert trials[0].verdict.startswith(f"mf {trials[0].challenger} refused, worse on the newest ratings; loss ")
    assert in_store(config, lambda store: store.active("mf")) is None
    assert not versions.folder(tmp_path, "mf").exists()


def test_a_night_with_nothing_new_is_skipped_and_spends_nothing(tmp_path: Path) -> None:
    config = configuration(tmp_path, routers={"mf": RouterConfig()})
    lived(config, 300, weak_fails_at_proofs)
    first = retrained(config, 1000.0)
    assert first is not None
    assert retrained(config, 2000.0) == []
    lived(config, 1, weak_fails_at_proofs, seed=1)
    again = retrained(config, 3000.0)
    assert again is not None
    third, second, _ = in_store(config, lambda store: store.runs(retrain.JOB))
    assert (second.status, second.verdict) == ("skipped", "nothing was said since the last run")
    assert third.record is not None
    assert third.record["rate"]["run"] == 2
    installed = {one.manifest.version for one in versions.installed(tmp_path, "mf")}
    assert installed == {trial.challenger for trial in (*first, *again) if trial.published}


def test_other_settings_are_reason_enough_to_look_again(tmp_path: Path) -> None:
    config = configuration(tmp_path, routers={"mf": RouterConfig()})
    lived(config, 150, weak_fails_at_proofs)
    retrained(config, 1000.0)
    again = retrained(msgspec.structs.replace(config, retrain=Retrain(golden=GOLDEN, effect=0.02)), 2000.0)
    assert again is not None
    assert [(trial.tested, trial.objection) for trial in again] == [(False, "it is what serves, to the last bit")]


def test_a_night_is_refused_for_what_was_said_with_the_reason_on_record(tmp_path: Path) -> None:
    config = configuration(tmp_path, routers={"mf": RouterConfig()})
    lived(config, 100, lambda text, model: 1.0)
    assert retrained(config) == []
    (run,) = in_store(config, lambda store: store.runs(retrain.JOB))
    assert run.status == "refused"
    assert re.fullmatch(r"one class only: all \d+ ratings to learn from say the same", run.verdict or "")
    assert run.record is not None
    assert "rate" not in run.record
    assert in_store(config, lambda store: store.active("mf")) is None


def test_too_few_ratings_publish_nothing(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    trials = retrained(config)
    assert trials is not None
    assert trials[0].verdict.endswith("refused, too little to tell by: 0 golden sessions, 30 are needed")
    (run,) = in_store(config, lambda store: store.runs(retrain.JOB))
    assert run.status == "refused"
    assert run.record is not None
    assert "rate" not in run.record  # nothing was tested, so nothing is spent


def test_a_running_daemon_follows_and_drops_nothing(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "_POLL_SECONDS", 0.05)
    config = configuration(tmp_path)
    lived(config, 300, weak_fails_at_proofs)
    client = httpx.Client(base_url=serve(daemon.build(config)), timeout=30)
    before = str(route(client, EASY)["version"])
    retrained(config)
    after = in_store(config, lambda store: store.active("mf"))
    assert after is not None
    seen: list[str] = []
    deadline = time.monotonic() + 20
    while after.version not in seen and time.monotonic() < deadline:
        seen.append(str(route(client, EASY)["version"]))  # every request is answered, by one or the other
    assert set(seen) <= {before, after.version}
    assert seen[-1] == after.version
    decision = client.get("/v1/routers").json()["routers"]["mf"]
    assert decision["calibrated_on"] == "logged traffic"


def test_a_daemon_starts_with_the_active_version(serve: Serve, tmp_path: Path) -> None:
    config = configuration(tmp_path)
    lived(config, 300, weak_fails_at_proofs)
    retrained(config)
    active = in_store(config, lambda store: store.active("sw"))
    assert active is not None
    client = httpx.Client(base_url=serve(daemon.build(config)), timeout=30)
    assert route(client, EASY, model="router-sw-p50")["version"] == active.version


def test_a_version_that_cannot_be_loaded_leaves_the_configured_one(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = configuration(tmp_path)
    lived(config, 300, weak_fails_at_proofs)
    retrained(config)
    active = in_store(config, lambda store: store.active("mf"))
    assert active is not None
    (Path(active.directory) / "tensors.safetensors").write_bytes(b"cut short")
    client = httpx.Client(base_url=serve(daemon.build(config)), timeout=30)
    shipped = catalogue.load("mf", "pretrained", static())
    assert route(client, EASY)["version"] == shipped.version
    assert caplog.text.count(f"mf {shipped.version} goes on serving, since {active.version} cannot") == 1
    lived(config, 1, weak_fails_at_proofs)
    again = retrained(config, 2000.0)
    assert again is not None
    assert [(trial.champion, trial.published) for trial in again if trial.name == "mf"] == [(shipped.version, True)]


def test_commands_list_show_roll_back_and_activate(tmp_path: Path) -> None:
    config = configuration(tmp_path, routers={"mf": RouterConfig()})
    lived(config, 300, weak_fails_at_proofs)
    path = written(config)
    told = routerd("retrain", "--config", path)
    assert told.exit_code == 0
    counts = re.search(r"^(\d+) ratings and comparisons to learn from, (\d+) golden ones and 60 newer", told.output)
    assert counts
    assert int(counts[1]) + int(counts[2]) < 240
    active = in_store(config, lambda store: store.active("mf"))
    assert active is not None
    shipped = catalogue.load("mf", "pretrained", static()).version
    listed = routerd("artifacts", "list", "--config", path).output.splitlines()
    assert [line.split()[:3] for line in listed if line.startswith("*")] == [["*", "mf", active.version]]
    assert any(line.split()[1] == shipped for line in listed if line.startswith(" "))
    shown = routerd("artifacts", "show", "--config", path, "mf", active.version).output
    assert f'"parent": "{shipped}"' in shown
    assert "UTC by retrain" in shown
    assert routerd("artifacts", "rollback", "--config", path, "mf").exit_code == 0
    back = in_store(config, lambda store: store.active("mf"))
    assert back is not None
    assert (back.version, back.previous, back.changed_by) == (shipped, active.version, "routerd artifacts rollback")
    assert routerd("artifacts", "activate", "--config", path, "mf", active.version).exit_code == 0
    again = in_store(config, lambda store: store.active("mf"))
    assert again is not None
    assert again.version == active.version


def test_a_dry_run_publishes_nothing_and_leaves_no_record(tmp_path: Path) -> None:
    config = configuration(tmp_path, routers={"mf": RouterConfig()})
    lived(config, 300, weak_fails_at_proofs)
    told = routerd("retrain", "--dry-run", "--config", written(config))
    assert re.search(r"mf \S+ would be published, (better|no worse); ", told.output)
    assert in_store(config, lambda store: store.active("mf")) is None
    assert in_store(config, lambda store: store.runs(retrain.JOB)) == []
    assert not versions.folder(tmp_path, "mf").exists()


def test_the_clock_of_a_daemon_starts_the_command_with_the_time(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_second = schedule.Cron(CronTrigger(second="*", timezone=UTC), UTC)
    monkeypatch.setattr(schedule, "parse", lambda cron, timezone: every_second)
    told = tmp_path / "told"
    script = f"import sys; open({str(told)!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10))"
    config = configuration(tmp_path, routers={"mf": RouterConfig()})
    lived(config, 1, weak_fails_at_proofs)
    serve(daemon.build(config, [sys.executable, "-c", script]))
    deadline = time.monotonic() + 20
    while not (told.exists() and told.read_text().endswith("\n")) and time.monotonic() < deadline:
        time.sleep(0.05)
    flag, due = told.read_text().splitlines()[0].split()
    assert flag == "--scheduled-for"
    assert abs(datetime.fromisoformat(due).timestamp() - time.time()) < 20


def test_a_cron_line_that_names_no_time_is_refused_at_start(tmp_path: Path) -> None:
    config = configuration(tmp_path, retrain=Retrain(cron="0 0 30 2 *"))
    with pytest.raises(ConfigError, match=r"^retrain\.cron: '0 0 30 2 \*' names no time$"):
        daemon.build(config, ["routerd", "retrain"])


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("artifacts", "rollback", "mf"), "mf: the configured artifact serves, and nothing came before it"),
        (("artifacts", "activate", "mf", "nope"), "mf: no version 'nope'; there are "),
        (("artifacts", "list", "--router", "bert"), "bert: no such router in the configuration, which lists mf"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: tuple[str, ...], fault: str) -> None:
    config = configuration(tmp_path, routers={"mf": RouterConfig()})
    told = click.testing.CliRunner().invoke(cli.cli, [*arguments, "--config", written(config)])
    assert told.exit_code == 2
    assert told.output.startswith(f"routerd: {fault}")
    assert told.output.count("\n") == 1
