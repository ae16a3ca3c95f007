"""Two daemons, one PostgreSQL and one object store: real processes on real sockets, each with a data directory of its
own. What one is told, the other knows."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import yaml

from feedback import retrain
from feedback.records import Activation, Run
from gateway_plugin import ids
from scorer import hosting
from scorer.commands.shared import in_store
from scorer.config import Config, load
from tests.conftest import free_port
from tests.demo.stack import Service
from tests.postgres import Postgres
from tests.scorer.conftest import EASY, HARD, route
from tests.scorer.lives import GOLDEN, lived, weak_fails_at_proofs

POLL_SECONDS = 5.0  # the daemon's
LATE_SECONDS = 5.0  # for loading, and a busy machine


@dataclass
class Replica:
    config: Config
    path: Path
    client: httpx.Client

    @property
    def version(self) -> str:
        """Of mf, that serves."""
        version: str = self.client.get("/v1/routers").json()["routers"]["mf"]["version"]
        return version

    def decision(self, decision_id: str) -> httpx.Response:
        return self.client.get(f"/v1/decisions/{decision_id}")

    def rate(self, decision_id: str, **more: object) -> int:
        return self.client.post("/v1/feedback", json={"decision_id": decision_id, "rating": "up", **more}).status_code


@pytest.fixture(scope="module")
def replicas(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Replica, Replica]]:
    """Their nightly run has been due for a minute: both clocks ask for it as soon as they start."""
    folder = tmp_path_factory.mktemp("replicas")
    due = datetime.now(UTC) - timedelta(minutes=1)
    shared = {
        "ladder": [
            {"model": "strong", "like": "gpt-4-1106-preview"},
            {"model": "weak", "like": "mixtral-8x7b-instruct-v0.1"},
        ],
        "database": postgres.create(),
        "artifacts": f"local://{folder}/store",
        "encoder": "static",
        "routers": {"mf": {}},
        "default": "router-mf-p50",
        "exploration": 0,
        "retrain": {"golden": GOLDEN, "cron": f"{due.minute} {due.hour} * * *"},
        "rollback": {"holdback": 0},
    }
    with ExitStack() as running:
        made = [_replica(running, folder, name, shared) for name in ("a", "b")]
        lived(made[0][0].config, 300, weak_fails_at_proofs)
        with ThreadPoolExecutor() as together:
            list(together.map(lambda one: one[1].start(), made))
        yield made[0][0], made[1][0]


def _replica(running: ExitStack, folder: Path, name: str, shared: dict[str, object]) -> tuple[Replica, Service]:
    """Not yet started."""
    port = free_port()
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**shared, "listen": f"127.0.0.1:{port}", "data_dir": str(folder / name)}))
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "scorer", "serve", "--config", str(path)]
    service = Service(f"replica {name}", command, f"{url}/readyz", folder / f"{name}.log")
    running.callback(service.stop)
    return Replica(load(path), path, running.enter_context(httpx.Client(base_url=url, timeout=30))), service


def until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)


def active(one: Replica) -> Activation | None:
    return in_store(one.config, lambda store: store.active("mf"))


def test_one_of_them_makes_the_nightly_run_and_both_follow_and_go_back(replicas: tuple[Replica, Replica]) -> None:
    shipped = hosting.configured(replicas[0].config)["mf"].manifest.version
    until(lambda: active(replicas[0]) is not None, 60, "the run publishes")
    published = active(replicas[0])
    assert published is not None
    for each in replicas:
        left = published.changed_at + POLL_SECONDS + LATE_SECONDS - time.time()
        until(lambda: each.version == published.version, left, "a replica follows")  # noqa: B023
        assert (each.config.data_dir / "copies" / "mf" / published.version).is_dir()
        assert route(each.client, EASY)["version"] == published.version
    until(lambda: all(run.finished_at for run in runs(replicas[0])), 10, "the run ends")
    assert [(run.status, run.attempt) for run in runs(replicas[0])] == [("published", 1)]

    command = [sys.executable, "-m", "scorer", "artifacts", "rollback", "mf", "--config", str(replicas[1].path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    rolled_back = active(replicas[0])
    assert rolled_back is not None
    assert rolled_back.version == shipped
    for each in replicas:
        left = rolled_back.changed_at + POLL_SECONDS + LATE_SECONDS - time.time()
        until(lambda: each.version == shipped, left, "a replica goes back")  # noqa: B023


def runs(one: Replica) -> list[Run]:
    return in_store(one.config, lambda store: store.runs(retrain.JOB))


def test_a_pin_made_by_one_holds_on_the_other(replicas: tuple[Replica, Replica]) -> None:
    rates = replicas[0].client.post("/v1/score", json={"router": "mf", "prompts": [EASY, HARD]}).json()["win_rates"]
    easy, hard = (rate["weak"] for rate in rates)
    assert easy + 0.01 < hard
    name = f"router-mf-{(easy + hard) / 2:.4f}"
    for number, (first, second) in enumerate((replicas, replicas[::-1])):
        assert route(second.client, EASY, model=name)["model"] == "weak"
        begun = route(first.client, HARD, model=name, session_id=f"s{number}")
        assert begun["model"] == "strong"
        goes_on = route(second.client, EASY, model=name, session_id=f"s{number}")
        assert (goes_on["model"], goes_on["pinned"]) == ("strong", "session")


def test_a_decision_can_be_rated_through_either(replicas: tuple[Replica, Replica]) -> None:
    for first, second in (replicas, replicas[::-1]):
        decision_id = str(route(first.client, EASY)["decision_id"])
        until(lambda: second.decision(decision_id).status_code == 200, 5, "the decision reaches the other")  # noqa: B023
        assert second.rate(decision_id, user="ann") == 201
        assert first.rate(decision_id, user="bob") == 201
        said = [[one["user"] for one in each.decision(decision_id).json()["ratings"]] for each in (first, second)]
        assert said == [["ann", "bob"], ["ann", "bob"]]


def test_a_rating_that_comes_first_joins_a_decision_of_the_other(replicas: tuple[Replica, Replica]) -> None:
    first, second = replicas
    decision_id = ids.mint()
    assert first.rate(decision_id) == 202
    assert route(second.client, EASY, decision_id=decision_id)["decision_id"] == decision_id

    def joined() -> bool:
        told = first.decision(decision_id).json()
        return told.get("router") == "mf" and len(told["ratings"]) == 1

    until(joined, 5, "the rating joins")
