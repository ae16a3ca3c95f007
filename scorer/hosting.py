"""What is hosted: of every configured router the version that is active, with what its scores mean.

The configuration names the artifact that a router begins with. Versions that were fitted since are in the database's
charge: whatever is activated there, by the nightly run, by hand or by another replica, is loaded and swapped in whole.
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import replace
from pathlib import Path

from msgspec.structs import asdict

from feedback import calibrations
from feedback.battles import Weights
from feedback.migrations import migrate
from feedback.records import Activation
from feedback.retrain import Learner, Plan, Subject, known_as
from feedback.store import Store
from scorer import artifacts, calibration, catalogue
from scorer.artifacts import ArtifactError
from scorer.config import Config, ConfigError
from scorer.encoder import Encoder
from scorer.routers.base import Encodes, Router, UnknownModel
from scorer.routers.factorization import Factorization
from scorer.scoring import Hosted, Scoring
from scorer.static import Static
from scorer.tables import DataError

_log = logging.getLogger(__name__)


def open_store(config: Config) -> Store:
    """The database, its schema brought up to date."""
    try:
        config.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"data_dir: {config.data_dir}: {error.strerror}") from None
    migrate(config.database_url)
    return Store(config.database_url)


def load_scoring(config: Config) -> Scoring:
    """The encoder and the configured routers, calibrated as shipped."""
    loaded = load_encoder(config)
    hosted = {name: _hosted(config, load_configured(config, name, loaded), loaded) for name in config.routers}
    return Scoring(loaded, hosted)


def load_configured(config: Config, name: str, encoder: Encoder | Static) -> Router:
    """The router as the configuration has it."""
    settings = config.routers[name]
    return catalogue.load(name, settings.artifact, encoder, settings.embeddings, settings.tokenizer)


def load_encoder(config: Config) -> Encoder | Static:
    """The configured one; of the sentence encoders in the cache, the one that the routers were fitted with."""
    name, where = config.encoder.name, config.encoder.directory
    wanted = None if where or name == Static.name else _fitted_with(config)
    return catalogue.load_encoder(name, where, config.encoder.threads, wanted)


async def follow(config: Config, store: Store, scoring: Scoring) -> None:
    """Takes over what was activated and calibrated last, here or by another replica."""
    for name, hosted in list(scoring.hosted.items()):
        active = await store.active(name)
        if active and active.version != hosted.router.version:
            hosted = await _activated(config, scoring, hosted, active)
        scoring.hosted[name] = await calibrated(store, hosted)


async def _activated(config: Config, scoring: Scoring, serving: Hosted, active: Activation) -> Hosted:
    """The active version, loaded while the other one serves; one that cannot be loaded leaves that serving."""
    name, before = active.router, serving.router.version
    try:
        hosted = await asyncio.to_thread(load_version, config, scoring, name, Path(active.directory))
    except (ArtifactError, ConfigError, DataError) as error:
        _log.error("%s %s goes on serving, since %s cannot: %s", name, before, active.version, error)
        return serving
    _log.info("%s %s serves in place of %s", name, active.version, before)
    return hosted


def load_version(config: Config, scoring: Scoring, name: str, directory: Path) -> Hosted:
    """A version in a directory, calibrated as shipped. Raises ArtifactError, DataError and ConfigError."""
    return _hosted(config, catalogue.load(name, str(directory), scoring.encoder), scoring.encoder)


async def calibrated(store: Store, hosted: Hosted) -> Hosted:
    """With what is stored of the meaning of its scores, if anything is."""
    stored = await store.calibration(hosted.router.name, hosted.router.version, hosted.ladder)
    return replace(hosted, calibration=calibrations.restored(stored)) if stored else hosted


def _hosted(config: Config, router: Router, encoder: Encodes) -> Hosted:
    ladder = known_as(router, config.models, config.like)
    try:
        return Hosted(router, ladder, calibration.as_shipped(router, ladder, encoder))
    except UnknownModel as error:
        raise ConfigError(f"ladder: {error}") from None


def plan(config: Config, encoder: Encoder | Static) -> Plan:
    """How this configuration learns."""
    chosen = config.retrain
    mf = load_configured(config, "mf", encoder) if "mf" in config.routers else None
    if not isinstance(mf, Factorization):
        mf = Factorization.load(catalogue.directory("mf", "pretrained", encoder.name), encoder.id)
    weights = Weights(
        sources=chosen.sources,
        signals={kind: weight for kind, weight in asdict(config.signals).items() if weight > 0},
        half_life_days=chosen.half_life_days or math.inf,
        most_per_user=chosen.most_per_user or math.inf,
    )
    return Plan(
        models=config.models,
        like=config.like,
        encoder_id=encoder.id,
        data_dir=config.data_dir.resolve(),
        weights=weights,
        held_out=chosen.held_out,
        sample=calibration.shipped_sample(encoder.name, encoder.id),
        mf=mf,
    )


async def subjects(config: Config, encoder: Encoder | Static, store: Store) -> list[Subject]:
    """The routers that learn from ratings, each with its prior, the configured artifact, and what serves."""
    found = []
    for name in config.routers:
        prior = load_configured(config, name, encoder)
        if isinstance(prior, Learner):
            found.append(Subject(prior, await _champion(store, prior, encoder)))
    return found


async def _champion(store: Store, prior: Learner, encoder: Encoder | Static) -> Router:
    """The active version; where there is none, or it cannot be loaded, what daemons serve instead."""
    active = await store.active(prior.name)
    if active is None:
        return prior
    try:
        return catalogue.load(prior.name, active.directory, encoder)
    except (ArtifactError, DataError) as error:
        _log.error(
            "%s %s stands in for %s, which cannot be loaded: %s", prior.name, prior.version, active.version, error
        )
        return prior


def _fitted_with(config: Config) -> str:
    """The encoder's id in the first artifact that has one, else in the shipped sample's."""
    name = config.encoder.name
    fitted = [
        catalogue.directory(router, settings.artifact, name)
        for router, settings in config.routers.items()
        if router not in catalogue.READ_TEXT
    ]
    sample = calibration.PRETRAINED / name / calibration.SAMPLE
    fitted = [path for path in fitted if (path / artifacts.MANIFEST).exists()]  # RouteLLM's have none
    encoder_id = artifacts.read_manifest(next(iter(fitted), sample)).encoder_id
    if encoder_id == artifacts.read_manifest(calibration.PRETRAINED / Static.name / calibration.SAMPLE).encoder_id:
        raise ConfigError("encoder: the routers were fitted with the static encoder; say `encoder: static`")
    return encoder_id
