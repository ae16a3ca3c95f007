"""What is hosted follows what is activated, by a night, a command or the clock, and drops nothing."""

from __future__ import annotations

import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click.testing
import httpx
import pytest
from apscheduler.triggers.cron import CronTrigger

from feedback import retrain, schedule
from scorer import catalogue, chores, cli, daemon
from scorer.commands.shared import in_store
from scorer.config import ConfigError
from scorer.sections import Retrain, RouterConfig
from tests.conftest import Serve
from tests.scorer.conftest import EASY, route
from tests.scorer.lives import configuration, lived, retrained, routerd, static, weak_fails_at_proofs, written


def test_a_running_daemon_follows_and_drops_nothing(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chores, "_POLL_SECONDS", 0.05)
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
    assert not (tmp_path / "artifacts" / "mf").exists()


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
