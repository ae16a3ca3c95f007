"""Daemons with a version before, made and published for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
import numpy as np

from feedback.records import Activation, Holdback, StoredCalibration
from feedback.store import Store
from scorer import artifacts, catalogue, daemon
from scorer.calibration import Calibration
from scorer.commands.shared import in_store
from scorer.config import Config
from scorer.sections import EncoderConfig, Retrain, RouterConfig
from tests.conftest import Serve
from tests.scorer.conftest import EASY, TWO, route

SESSIONS = [f"session-{number}" for number in range(60)]
KNOWN = tuple(rung.like for rung in TWO if rung.like)
STARTS = {"v1": 0.3, "v2": 0.6}  # of their calibrations
T = TypeVar("T")


def configuration(folder: Path, **changes: Any) -> Config:
    made = Config(
        ladder=TWO,
        data_dir=folder,
        encoder=EncoderConfig("static"),
        routers={"mf": RouterConfig(), "random": RouterConfig()},
        default="router-mf-p50",
        exploration=0.0,
        retrain=Retrain(cron=None),
    )
    return msgspec.structs.replace(made, **changes)


def version(folder: Path, name: str) -> Path:
    """What ships of mf, under another name."""
    manifest, tensors = artifacts.read(catalogue.directory("mf", "pretrained", "static"), router="mf", encoder_id=None)
    return artifacts.write(
        folder / "artifacts" / "mf" / name,
        tensors,
        router="mf",
        version=name,
        encoder_id=manifest.encoder_id,
        features=manifest.features,
        models=manifest.models,
        hyperparameters=manifest.hyperparameters,
    )


def calibration(start: float) -> Calibration:
    return Calibration("made up", np.linspace(start, start + 0.1, 100))


def published(config: Config, share: float, days: float = 1) -> Activation:
    """v1, then v2 with a holdback."""

    async def work(store: Store) -> Activation:
        for name in ("v1", "v2"):
            directory = str(version(config.data_dir, name).resolve())
            lowest = calibration(STARTS[name]).lowest.astype("<f4").tobytes()
            stored = StoredCalibration(router="mf", version=name, ladder=KNOWN, sample="made up", lowest=lowest)
            holdback = Holdback(share, days) if name == "v2" else None
            active = await store.activate("mf", name, directory, [stored], "test", holdback=holdback)
        return active

    return in_store(config, work)


def started(serve: Serve, config: Config) -> httpx.Client:
    return httpx.Client(base_url=serve(daemon.build(config)), timeout=30)


def versions_of(client: httpx.Client, **body: object) -> dict[str, str]:
    return {one: str(route(client, EASY, session_id=one, **body)["version"]) for one in SESSIONS}


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
