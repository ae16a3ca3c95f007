"""Erasing a user who has taught routers: by the command, the daemon, killed half way, on the static encoder."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import safetensors.numpy

from feedback import erasure, retrain, versions
from feedback.records import Activation, Erasure, Run
from feedback.retrain import Night
from feedback.store import Store
from scorer import artifacts, catalogue, chores, daemon, hosting
from scorer.battles import BAR, Battles
from scorer.commands.shared import in_store
from scorer.config import Config
from scorer.routers.base import Prompts
from scorer.routers.similarity import Similarity
from scorer.sections import RouterConfig
from scorer.shelf import Shelf
from tests.conftest import Serve
from tests.feedback.examples import execute, rows
from tests.scorer.lives import (
    configuration,
    lived,
    retrained,
    routerd,
    static,
    weak_fails_at_proofs,
    written,
)

ANN = "ann@example.org"
REQUESTS = 300
HERS = 20  # every so many requests
OTHERS = REQUESTS - REQUESTS // HERS


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with 300 rated requests whose texts are kept, some Ann's, and what was fitted on them."""
    folder: Path = tmp_path_factory.mktemp("taught")
    config = configuration(folder)
    lived(config, REQUESTS, weak_fails_at_proofs)
    url = config.database_url
    decision_ids = [one for (one,) in rows(url, "SELECT decision_id FROM decisions ORDER BY decision_id")]
    with_text = [
        f"UPDATE decisions SET text = 'prompt {i} of {user(i)}', \"user\" = '{user(i)}' WHERE decision_id = '{one}'"
        for i, one in enumerate(decision_ids)
    ]
    told = [
        f"UPDATE ratings SET \"user\" = '{user(i)}' WHERE decision_id = '{one}'" for i, one in enumerate(decision_ids)
    ]
    execute(url, *with_text, *told)
    trials = retrained(config)
    assert trials is not None
    assert [trial.published for trial in trials] == [True, True]
    return folder


def user(number: int) -> str:
    return f"user-{number % 37}" if number % HERS else ANN


@pytest.fixture
def config(taught: Path, tmp_path: Path) -> Config:
    """A copy to erase from, of MF alone, which is quicker; what lies there of SW is erased with it."""
    return copied(taught, tmp_path, routers={"mf": RouterConfig()})


def copied(taught: Path, tmp_path: Path, **changes: Any) -> Config:
    shutil.copytree(taught, tmp_path / "data")
    return configuration(tmp_path / "data", **changes)


def erased(config: Config) -> Night | None:
    """What is due, in this process."""

    async def work(store: Store) -> Night | None:
        return await erasure.run(store, hosting.erasing(config, store), "test")

    return in_store(config, work)


def ask(config: Config, user: str | None = ANN) -> Erasure:
    async def work(store: Store) -> Erasure:
        return await store.ask_erasure(user)

    return in_store(config, work)


def active(config: Config, router: str) -> Activation:
    async def work(store: Store) -> Activation | None:
        return await store.active(router)

    found = in_store(config, work)
    assert found is not None
    return found


def runs(config: Config) -> list[Run]:
    async def work(store: Store) -> list[Run]:
        return await store.runs(retrain.JOB)

    return in_store(config, work)


def vectors(config: Config, whose: str) -> Prompts:
    found = rows(config.database_url, f'SELECT text_hash, embedding, features FROM decisions WHERE "user" {whose}')
    columns = list(zip(*found, strict=True))
    embeddings, features = (np.array([np.frombuffer(one, "<f4") for one in column]) for column in columns[1:])
    return Prompts(list(columns[0]), embeddings, features)


def quantised(prompts: Prompts, scratch: Path) -> set[bytes]:
    """The int8 rows that SW makes of them."""
    router = catalogue.load("sw", "pretrained", static())
    assert isinstance(router, Similarity)
    battles = Battles.of(
        prompts.texts, ["gpt-4-1106-preview"] * len(prompts), [BAR] * len(prompts), [1.0] * len(prompts)
    )
    known = {row.tobytes() for row in rows_of(router.save(scratch / "before"))}
    return {row.tobytes() for row in rows_of(router.append(battles, prompts).save(scratch / "after"))} - known


def rows_of(directory: Path) -> Any:
    return safetensors.numpy.load_file(directory / artifacts.TENSORS)["rows"]


def disk(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """All files, hidden ones included."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()


def found_on(folder: Path, needles: set[bytes]) -> set[str]:
    """Files that have any of the byte strings."""
    return {path.name for path, blob in disk(folder) if any(one in blob for one in needles)}


def test_nothing_of_a_user_is_left_in_the_database_or_any_artifact(taught: Path, tmp_path: Path) -> None:
    config = copied(taught, tmp_path)
    hers, others = vectors(config, f"= '{ANN}'"), vectors(config, f"<> '{ANN}'")
    exact = {row.astype("<f4").tobytes() for row in hers.embeddings}
    coarse, kept = quantised(hers, tmp_path / "hers"), quantised(others, tmp_path / "others")
    hashes = {bytes.fromhex(one) for one in hers.texts}
    texts = {f"prompt {i} of {ANN}".encode() for i in range(0, REQUESTS, HERS)}
    assert len(exact) == len(texts) == 15
    assert found_on(config.data_dir, exact) == {"routerd.sqlite"}
    assert found_on(config.data_dir, texts) == {"routerd.sqlite"}
    assert found_on(config.data_dir, coarse) == {artifacts.TENSORS}
    before = {router: active(config, router).version for router in ("mf", "sw")}

    told = routerd("erase", "--user", ANN, "--config", written(config))
    assert told.exit_code == 0, told.output
    assert "15 outcomes, 15 ratings, 15 decisions" in told.output
    assert "2 versions deleted" in told.output
    assert found_on(config.data_dir, exact | texts | coarse | hashes) == set()

    after = {router: active(config, router) for router in ("mf", "sw")}
    assert {one.changed_by for one in after.values()} == {"erase"}
    for router, one in after.items():
        assert one.version != before[router]
        assert [
            version.manifest.version for version in versions.installed(Shelf(config.data_dir / "artifacts"), router)
        ] == [one.version]
    assert found_on(config.data_dir, {min(kept)}) <= {artifacts.TENSORS}
    learned = set(map(bytes, rows_of(config.data_dir / "artifacts" / "sw" / after["sw"].version)))
    assert len(learned & kept) > 100
    assert rows(config.database_url, "SELECT count(*), count(text), count(embedding) FROM decisions") == [
        (OTHERS, OTHERS, OTHERS)
    ]
    assert rows(config.database_url, "SELECT count(*) FROM ratings") == [(OTHERS,)]


def test_the_id_itself_is_forgotten_once_nothing_can_come_late(config: Config) -> None:
    """An hour later the daemon, or who runs the command again, looks once more and is done."""
    path = written(config)
    routerd("erase", "--user", ANN, "--config", path)
    serving = active(config, "mf")
    assert routerd("erase", "--config", path).output == "nothing waits to be erased\n"
    execute(config.database_url, "UPDATE erasures SET asked_at = asked_at - 4000")
    late = rows(config.database_url, "SELECT decision_id FROM decisions LIMIT 1")[0][0]
    execute(
        config.database_url, f"UPDATE decisions SET \"user\" = '{ANN}', created_at = 1 WHERE decision_id = '{late}'"
    )
    execute(config.database_url, f"DELETE FROM ratings WHERE decision_id = '{late}'")
    told = routerd("erase", "--config", path)
    assert "deleted: 1 outcomes, 1 decisions; 0 versions deleted" in told.output
    assert active(config, "mf") == serving
    assert found_on(config.data_dir, {ANN.encode()}) == set()
    assert [run.status for run in runs(config)] == ["erased", "erased", "published"]
    assert ANN not in repr(runs(config))


def test_who_is_erased_twice_costs_nothing_the_second_time(config: Config) -> None:
    path = written(config)
    routerd("erase", "--user", ANN, "--config", path)
    serving = active(config, "mf")
    again = routerd("erase", "--user", ANN, "--config", path)
    assert "deleted: nothing; 0 versions deleted" in again.output
    assert active(config, "mf") == serving


@pytest.mark.parametrize("step", ["note_erasure", "activate", "erase_versions"])
def test_what_is_killed_half_way_is_carried_to_its_end_by_the_next(
    config: Config, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the step was first taken."""
    ask(config)
    tainted = active(config, "mf").version
    real = getattr(Store, step)

    async def killed(store: Store, *arguments: Any, **named: Any) -> Any:
        await real(store, *arguments, **named)
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(Store, step, killed)
        with pytest.raises(RuntimeError, match="killed"):
            erased(config)
    erased(config)
    assert rows(config.database_url, "SELECT count(*) FROM decisions") == [(OTHERS,)]
    assert rows(config.database_url, f"SELECT count(*) FROM ratings WHERE \"user\" = '{ANN}'") == [(0,)]
    (state,) = rows(config.database_url, "SELECT removed_at IS NULL, rebuilt_at IS NULL FROM erasures")
    assert list(map(bool, state)) == [False, False]
    shelf = Shelf(config.data_dir / "artifacts")
    serving = active(config, "mf").version
    assert serving != tainted
    assert list(versions.lying(shelf, "mf")) == [serving]
    assert versions.lying(shelf, "sw") == {}


KILLED = """
import asyncio, os, signal, sys
from feedback.store import Store
from scorer import cli
remove = Store.remove
async def killed(store, *arguments):
    await remove(store, *arguments)
    os.kill(os.getpid(), signal.SIGKILL)
Store.remove = killed
cli.cli(["erase", "--user", sys.argv[1], "--config", sys.argv[2]])
"""


def test_kill_9_after_the_first_page_leaves_it_to_whoever_comes_next(config: Config) -> None:
    tainted = active(config, "mf").version
    ended = subprocess.run([sys.executable, "-c", KILLED, ANN, written(config)], timeout=120, check=False)
    assert ended.returncode == -9
    assert rows(config.database_url, "SELECT count(*) FROM decisions") == [(OTHERS,)]
    assert active(config, "mf").version == tainted
    execute(config.database_url, "UPDATE runs SET heartbeat_at = 0 WHERE finished_at IS NULL")  # ten minutes later
    night = erased(config)
    assert night is not None
    assert active(config, "mf").version != tainted
    assert tainted not in versions.lying(Shelf(config.data_dir / "artifacts"), "mf")
    assert [run.status for run in runs(config)][:2] == ["erased", "abandoned"]


def few_raters(config: Config) -> Config:
    return msgspec.structs.replace(config, retrain=msgspec.structs.replace(config.retrain, least_raters=1000.0))


def test_where_a_refit_is_refused_the_configured_artifact_serves(config: Config) -> None:
    """Of a few ratings no router is fitted."""
    few = few_raters(config)
    ask(few)
    night = erased(few)
    assert night is not None
    begin = hosting.configured(few)
    now = active(few, "mf")
    assert (now.version, now.changed_by) == (begin["mf"].manifest.version, "erase")
    assert f"mf: the configured artifact, {now.version}, serves: few raters: " in night.verdict
    assert "sw: nothing serves, since the configuration has no such router" in night.verdict
    for router in ("mf", "sw"):
        assert versions.lying(Shelf(few.data_dir / "artifacts"), router) == {}


def test_no_rollback_brings_an_erased_version_back(config: Config) -> None:
    path = written(config)
    routerd("erase", "--user", ANN, "--config", path)
    told = routerd("artifacts", "rollback", "mf", "--config", path)
    assert told.exit_code == 0, told.output
    assert active(config, "mf").version == hosting.configured(config)["mf"].manifest.version


def test_a_user_who_said_nothing_costs_no_version(config: Config) -> None:
    execute(config.database_url, f"DELETE FROM ratings WHERE \"user\" = '{ANN}'")
    serving = active(config, "mf")
    told = routerd("erase", "--user", ANN, "--config", written(config))
    assert "deleted: 15 outcomes, 15 decisions; 0 versions deleted" in told.output
    assert active(config, "mf") == serving


def test_a_dry_run_says_what_would_go_and_leaves_it(config: Config) -> None:
    told = routerd("erase", "--user", ANN, "--dry-run", "--config", written(config))
    assert told.output.startswith("would delete: 15 outcomes, 15 ratings, 15 decisions; versions that may know them: ")
    assert rows(config.database_url, "SELECT count(*) FROM decisions") == [(REQUESTS,)]
    assert rows(config.database_url, "SELECT count(*) FROM erasures") == [(0,)]
    assert routerd("erase", "--dry-run", "--config", written(config)).exit_code == 2


def test_versions_that_hold_prompts_for_too_long_are_replaced(taught: Path, tmp_path: Path) -> None:
    """Retention's, without any user: SW is, MF serves on."""
    config = few_raters(copied(taught, tmp_path))
    mf, sw = active(config, "mf"), active(config, "sw")
    made = time.time() + 5
    execute(config.database_url, f"UPDATE decisions SET created_at = {made}")
    told = routerd("purge", "--before", f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(made - 1))}", "--config", written(config))  # fmt: skip  # noqa: E501
    assert told.exit_code == 0, told.output
    assert told.output.startswith("deleted: nothing; requests and their prompts from before ")
    night = erased(config)
    assert night is not None
    assert night.record["versions"] == {"sw": [sw.version]}
    assert active(config, "mf") == mf
    assert active(config, "sw").version != sw.version


def test_a_purge_needs_to_be_told_what_is_old(config: Config) -> None:
    told = routerd("purge", "--config", written(config))
    assert told.exit_code == 2
    assert told.output == (
        "routerd: retention: nothing says what is old; set days or prompt_days there, or say --before DATE\n"
    )


def test_a_daemon_carries_out_what_it_is_asked_for(
    config: Config, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chores, "_NIGHT_SECONDS", 0.2)
    monkeypatch.setattr(chores, "_POLL_SECONDS", 0.2)
    command = [sys.executable, "-m", "scorer", "erase", "--config", written(config)]
    tainted = active(config, "mf").version
    with httpx.Client(base_url=serve(daemon.build(config, erase=command)), timeout=30) as client:
        asked_for = client.post("/v1/erasures", json={"user": ANN}).json()
        assert asked_for["status"] == "asked"
        deadline = time.monotonic() + 90
        while (state := client.get(f"/v1/erasures/{asked_for['erasure_id']}").json())["status"] != "rebuilt":
            assert time.monotonic() < deadline
            time.sleep(0.3)
        assert state["removed"] == {"decisions": 15, "outcomes": 15, "ratings": 15}
        assert state["versions"]["mf"] == [tainted]
        while client.get("/v1/routers").json()["routers"]["mf"]["version"] == tainted:
            assert time.monotonic() < deadline
            time.sleep(0.1)
