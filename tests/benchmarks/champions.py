"""A database with ratings, a champion of each router, and the challengers that a nightly run makes: of known scores."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import uvicorn

from feedback import calibrations, retrain, trials, versions
from feedback.battles import Evidence
from feedback.migrations import migrate
from feedback.records import Activation
from feedback.refit import refit_sw
from feedback.retrain import JOB
from feedback.store import Store
from scorer import artifacts, calibration, catalogue, daemon, hosting
from scorer.battles import BAR, Battles
from scorer.config import Config
from scorer.features import NAMES
from scorer.routers.base import Encodes, Prompts, Router
from scorer.routers.factorization import Factorization
from scorer.routers.similarity import Similarity
from scorer.sections import EncoderConfig, Retrain, Rollback, RouterConfig
from tests.benchmarks.killing import forked, killed
from tests.feedback.examples import execute, rows
from tests.scorer.conftest import TWO
from tests.scorer.lives import MODELS, WORDS, lived, weak_fails_at_proofs

RATINGS = 160
SAMPLE = 100  # prompts of the shipped sample that are calibrated on, for speed
NIGHT = 1_800_000_000.0
PROBES = ("river proof stone", "river cloud stone", "poem")
RATER = "bystander"  # whose ratings count nothing, so that every run learns the same
TWO_LIKE = [rung.like for rung in TWO if rung.like]

RUN_STAGES = {
    "claim": (Store, "claim_run"),
    "gather": (Store, "rated"),
    "fit mf": (retrain, "refit_mf"),
    "fit sw": (retrain, "refit_sw"),
    "compare": (trials, "compared"),
    "price": (trials, "priced"),
    "calibrate": (retrain, "calibrated"),
    "save mf": (Factorization, "save"),
    "save sw": (Similarity, "save"),
    "activate": (Store, "activate"),
    "finish": (Store, "finish_run"),
}
SWAP_STAGES = {
    "poll": (hosting, "follow"),
    "load": (hosting, "load_version"),
    "read": (artifacts, "read"),
    "calibrate": (hosting, "calibrated"),
}

T = TypeVar("T")


class Broken(Exception):
    """Something that must hold after a kill does not."""


@dataclass(frozen=True)
class Known:
    """What a version says: its router's scores of each probe, and of the traffic it was calibrated on."""

    name: str  # champion or challenger
    scores: tuple[tuple[float, ...], ...]
    lowest: bytes
    threshold: float  # of half the traffic


class World:
    """A database with ratings, a data folder, a champion of each router, and the challengers that a run makes."""

    def __init__(self, url: str, folder: Path) -> None:
        self.encoder = hosting.load_encoder(_config(url, folder))
        prior = thumbs(self.encoder, tuple(TWO_LIKE), 60)
        fitted = Similarity.fit(prior.battles, prior.prompts, encoder_id=self.encoder.id, features=NAMES)
        fitted.save(folder / "sw")
        self.config, self.url, self.folder = _config(url, folder), url, folder
        migrate(url)
        lived(self.config, RATINGS, weak_fails_at_proofs)
        self.decisions = [one for (one,) in rows(url, "SELECT decision_id FROM decisions ORDER BY decision_id")]
        self._sample = _few(*calibration.shipped_sample(self.encoder.name, self.encoder.id))
        self.plan = replace(hosting.plan(self.config, self.encoder), sample=self._sample)
        self.known: dict[tuple[str, str], Known] = {}  # by router and the digest in a version's name
        self.champions = self.stored(self._champions)
        for one in self.champions:
            self._learn("champion", one)
        killed(forked(self.run, NIGHT))
        self.challengers = [self._active(name) for name in self.config.routers]
        for one in self.challengers:
            self._learn("challenger", one)
        if self.challengers[0].version == self.champions[0].version or len(self.known) != 4:
            raise Broken(f"the run without a kill did not publish: {self.stored(lambda store: store.runs(JOB))}")
        shutil.copytree(self.data / "artifacts", folder / "reference")

    @property
    def data(self) -> Path:
        return self.config.data_dir

    def stored(self, work: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
        async def run() -> T:
            store = Store(self.url)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(run())

    def reset(self) -> None:
        """The champions serve, nothing else is there, and no run was ever made."""
        champions = ", ".join(f"'{one.version}'" for one in self.champions)
        execute(
            self.url,
            "DELETE FROM runs",
            "DELETE FROM activations WHERE number > 1",
            f"DELETE FROM calibrations WHERE version NOT IN ({champions})",
        )
        self.forget_ratings()
        for name in self.config.routers:
            for directory in (self.plan.shelf.folder / name).iterdir():
                if directory.name not in champions:
                    shutil.rmtree(directory)

    def forget_ratings(self) -> None:
        """The rater's."""
        execute(self.url, f"DELETE FROM ratings WHERE comment = '{RATER}'")

    def forget_decisions(self) -> None:
        """What daemons decided, which the next run would calibrate on."""
        execute(self.url, f"DELETE FROM decisions WHERE decision_id > '{self.decisions[-1]}'")

    def run(self, scheduled_for: float, *watched: Any) -> None:
        """As `routerd retrain` does it."""
        if watched:
            watch, *how = watched
            watch.follow(RUN_STAGES, *how)

        async def work(store: Store) -> None:
            subjects = await hosting.subjects(self.config, self.encoder, store)
            await retrain.run(store, self.plan, subjects, scheduled_for, "a process")

        self.stored(work)

    def serve(self, listening: socket.socket, *watched: Any) -> None:
        """As `routerd serve` does it."""
        if watched:
            watch, *how = watched
            watch.follow(SWAP_STAGES, *how)
        hosting.load_encoder = lambda config: self.encoder
        calibration.shipped_sample = lambda encoder, encoder_id: self._sample
        app = daemon.build(self.config)
        uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on")).run(sockets=[listening])

    def swap(self) -> None:
        """Activates the challengers, whose directories are put in place first."""
        shutil.copytree(self.folder / "reference", self.data / "artifacts", dirs_exist_ok=True)
        for one in self.challengers:
            router = catalogue.load(one.router, one.directory, self.encoder)
            self.stored(partial(self._activate, router, Path(one.directory)))

    def identified(self, name: str, version: str, directory: Path) -> Known:
        """What a version is known as, once it has loaded and scored. Raises Broken."""
        known = self.known.get((name, version.rpartition("-")[2]))
        if known is None:
            raise Broken(f"{name} {version} is neither the champion nor the challenger")
        router = catalogue.load(name, str(directory), self.encoder)
        if (router.version, self._scores(router)) != (version, known.scores):
            raise Broken(f"{name} {version} does not score as the {known.name}")
        return known

    def look(self) -> tuple[list[tuple[Activation, Known]], int, int]:
        """The active versions, how many directories are half-written, and how many versions unused. Raises Broken."""
        active, unfinished, unused = [], 0, 0
        for name in self.config.routers:
            one = self._active(name)
            known = self.identified(name, one.version, Path(one.directory))
            if self._lowest(name, one.version) != known.lowest:
                raise Broken(f"{name} {one.version} is not calibrated as the {known.name}")
            active.append((one, known))
            for version, manifest in versions.installed(self.plan.shelf, name):
                self.identified(name, manifest.version, version)
            named = {one.version for one in self.stored(partial(Store.activations, router=name))}
            there = [path.name for path in (self.plan.shelf.folder / name).iterdir()]
            unfinished += sum(path.startswith(".") for path in there)
            unused += sum(not path.startswith(".") and path not in named for path in there)
        return active, unfinished, unused

    async def _champions(self, store: Store) -> list[Activation]:
        """The priors with a few battles more, under versions of their own."""
        few = thumbs(self.encoder, MODELS, 8)
        models, like = self.config.models, self.config.like
        mf = self.plan.mf.refit(few.battles, few.prompts, ladder=models, like=like)
        prior = Similarity.load(self.folder / "sw", self.encoder.id)
        sw = refit_sw(prior, few, mf, ladder=models, like=like)
        for router in (mf, sw):
            directory = self.plan.shelf.place(router.name, router.version)
            router.save(directory)
            await self._activate(router, directory, store)
        return [one for name in self.config.routers for one in await store.activations(name)]

    async def _activate(self, router: Router, directory: Path, store: Store) -> None:
        fitted = await retrain.calibrated(store, self.plan, router)
        await retrain.activate(store, self.plan, router, directory, fitted, "a person")

    def _learn(self, name: str, one: Activation) -> None:
        router = catalogue.load(one.router, one.directory, self.encoder)
        stored = self.stored(lambda store: store.calibration(one.router, one.version, MODELS))
        assert stored is not None
        threshold = calibrations.restored(stored).threshold(0.5)
        digest = one.version.rpartition("-")[2]
        self.known[one.router, digest] = Known(name, self._scores(router), stored.lowest, threshold)

    def _active(self, name: str) -> Activation:
        active = self.stored(lambda store: store.active(name))
        assert active is not None
        return active

    def _lowest(self, name: str, version: str) -> bytes:
        stored = self.stored(lambda store: store.calibration(name, version, MODELS))
        return stored.lowest if stored else b""

    def _scores(self, router: Router) -> tuple[tuple[float, ...], ...]:
        """One at a time, as a daemon scores a lone request."""
        scored = [router.score(self.encoder.encode([probe]), MODELS) for probe in PROBES]
        return tuple(tuple(one.win_rates[0].tolist()) for one in scored)


def _few(sample: str, prompts: Prompts) -> tuple[str, Prompts]:
    return sample, prompts[:SAMPLE]


def _config(url: str, folder: Path) -> Config:
    return Config(
        ladder=TWO,
        data_dir=folder / "data",
        database=url,
        encoder=EncoderConfig("static"),
        routers={"mf": RouterConfig(), "sw": RouterConfig(artifact=str(folder / "sw"))},
        default="router-mf-p50",
        retrain=Retrain(cron=None, sources={RATER: 0.0}, golden=0.5, effect=1.0),
        rollback=Rollback(holdback=0.0),
    )


def thumbs(encoder: Encodes, models: tuple[str, ...], count: int) -> Evidence:
    """Made-up ratings: of every other prompt the first model's answer pleases, of the rest the second's."""
    generator = np.random.default_rng(1)
    texts = tuple(" ".join(generator.choice(WORDS, 6)) for _ in range(count))
    prompt = np.repeat(np.arange(count), 2)
    model = np.tile(models, count)
    outcome = (np.arange(2 * count) // 2 % 2 == np.arange(2 * count) % 2).astype(float)
    n = 2 * count
    battles = Battles(texts, prompt, model, np.full(n, BAR), outcome, np.ones(n), np.full(n, "human"))
    return Evidence(battles, encoder.encode(texts), np.full(n, 0.5), prompt.astype(str))
