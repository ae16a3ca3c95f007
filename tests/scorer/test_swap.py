"""Versions that change under load, by a real daemon: nothing fails, and every answer is of one version, whole."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from scorer import chores, daemon
from scorer.calibration import Calibration
from scorer.config import load
from tests.benchmarks import swap
from tests.conftest import Serve


def test_versions_change_under_load(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(chores, "_POLL_SECONDS", 0.1)
    config = load(swap.configuration(tmp_path))
    fitted = swap.prepare(config, 3)
    url = serve(daemon.build(config))
    steps, answers = asyncio.run(swap.drive(config, url, fitted, clients=6, seconds=1.0))
    assert swap.faults(steps, answers, fitted, most_seconds=1.0) == []
    versions = [one.router.version for one in fitted]
    assert [step.version for step in steps] == [*versions, swap.BROKEN, versions[1]]
    assert len({one.calibration.threshold(0.5) for one in fitted}) == 3
    assert len(answers) > 100
    assert f"mf {versions[2]} goes on serving, since broken cannot" in caplog.text


def fitted(version: str, threshold: float) -> swap.Fitted:
    router = SimpleNamespace(version=version)
    return swap.Fitted(router, Path(version), Calibration("made up", np.array([0.0, 2 * threshold])))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("later", "fault"),
    [
        ([("a", 3.0, 0.3), ("b", 4.0, 0.4)], None),
        ([("a", 3.0, 0.3), ("", 3.5, 0.0), ("b", 4.0, 0.4)], "1 requests failed"),
        ([("a", 3.0, 0.3), ("b", 4.0, 0.3)], "b answered with threshold 0.3"),
        ([("c", 3.0, 0.3), ("b", 4.0, 0.4)], "c answered with threshold 0.3"),
        ([("a", 3.0, 0.3)], "client 0 was answered by ['a'], in this order"),
        ([("a", 9.0, 0.3), ("b", 9.5, 0.4)], "b answered 7.6 s after it was activated"),
        (
            [("b", 3.0, 0.4), ("a", 3.5, 0.3), ("b", 4.0, 0.4)],
            "1 requests were sent after b had answered, and met another",
        ),
    ],
)
def test_faults_are_told(later: list[tuple[str, float, float]], fault: str | None) -> None:
    """b is activated at 2 s; every answer takes a tenth of a second."""
    answers = [
        swap.Answer(0, began, began + 0.1, version, threshold)
        for version, began, threshold in [("a", 1.0, 0.3), *later]
    ]
    steps = [swap.Step("serves", "a", 0.0), swap.Step("activate", "b", 2.0)]
    told = swap.faults(steps, answers, [fitted("a", 0.3), fitted("b", 0.4)], most_seconds=5.0)
    assert (fault in told) if fault else (told == [])
