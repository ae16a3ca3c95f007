"""Kill -9 at a few points of a run and of a swap (tests/benchmarks/crashes.py); what killed writers leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from feedback import versions
from scorer import artifacts
from scorer.artifacts import ArtifactError
from scorer.shelf import opened
from tests.benchmarks import killing


def test_what_is_killed_leaves_the_champion_or_the_challenger_whole(store_url: str) -> None:
    """In a process of its own, which forks: threads of other tests would not survive that."""
    url = store_url.replace("timeout=0.1", "timeout=10")
    command = [sys.executable, "-m", "tests.benchmarks.crashes", "--points", "6", "--url", url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "6 kills survived" in ended.stdout
    assert "5 in a run, 1 in a swap" in ended.stdout
    assert "acknowledged, none lost" in ended.stdout


def write(folder: Path, version: str) -> Path:
    where = folder / "artifacts" / "mf" / version
    return artifacts.write(where, {"x": np.ones(1)}, router="mf", version=version, encoder_id="e")


@pytest.mark.parametrize("step", ["start: before fsync", "start: after fsync", "start: before rename"])
def test_a_writer_that_is_killed_leaves_no_version(tmp_path: Path, step: str) -> None:
    write(tmp_path, "20260101-000000-aaaaaaaa")
    script = (
        "import sys; from pathlib import Path; from tests.feedback.test_crashes import write\n"
        "from tests.benchmarks.killing import Point, Watch\n"
        "watch = Watch(); watch.arm(); watch.follow({}, Point(sys.argv[2], 1))\n"
        "write(Path(sys.argv[1]), '20260102-000000-bbbbbbbb')"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path), step], timeout=60)
    assert ended.returncode == -9
    (whole,) = versions.installed(opened(None, tmp_path), "mf")
    assert whole.manifest.version == "20260101-000000-aaaaaaaa"
    (unfinished,) = (tmp_path / "artifacts" / "mf").glob(".*")
    assert unfinished.name.startswith(".20260102-000000-bbbbbbbb.")
    with pytest.raises(ArtifactError):
        artifacts.read(tmp_path / "artifacts" / "mf" / "20260102-000000-bbbbbbbb", router="mf", encoder_id="e")


def test_what_a_killed_writer_left_is_removed_once_it_is_old(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts" / "mf"
    for name in (".v1.abc.unfinished", ".v2.abc.unfinished", ".other"):
        (folder / name).mkdir(parents=True)
        (folder / name / artifacts.TENSORS).write_bytes(b"half")
    old = time.time() - 7200
    for name in (".v1.abc.unfinished", ".other"):
        os.utime(folder / name, (old, old))
    write(tmp_path, "v3")
    assert sorted(path.name for path in folder.iterdir()) == [".other", ".v2.abc.unfinished", "v3"]


def test_points_are_told_apart_by_how_often_a_step_was_taken(tmp_path: Path) -> None:
    journal = tmp_path / "steps"
    journal.write_text("save: before fsync\nsave: after fsync\nsave: before fsync\n")
    assert killing.points(journal) == [("save: before fsync", 1), ("save: after fsync", 1), ("save: before fsync", 2)]
