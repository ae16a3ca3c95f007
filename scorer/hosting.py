"""What is hosted: of every configured router the version that is active, with what its scores mean.

The configuration names the artifact that a router begins with. Versions that were fitted since are in the database's
charge: whatever is activated there, by the nightly run, by hand or by another replica, is loaded and swapped in whole.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from msgspec.structs import asdict

from feedback import agreement, calibrations, erasure
from feedback.activations import CONFIGURED
from feedback.battles import Weights
from feedback.explaining import Explainer
from feedback.gate import Rules
from feedback.golden import Parts
from feedback.migrations import migrate
from feedback.records import Activation, Holdback
from feedback.retrain import Learner, Plan, Subject
from feedback.store import Store
from feedback.versions import Version
from gateway_plugin import names
from scorer import artifacts, calibration, catalogue, shelf
from scorer.artifacts import ArtifactError
from scorer.config import Config, ConfigError
from scorer.encoder import Encoder
from scorer.routers.base import Encodes, Router, UnknownModel, known_as
from scorer.routers.factorization import Factorization
from scorer.scoring import Earlier, Hosted, Scoring
from scorer.shelf import Shelf
from scorer.static import Static
from scorer.tables import DataError

_HALF = 0.5  # of requests, at which costs are compared where the default is a raw threshold

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
    canary = config.canary
    if canary and canary.artifact:
        hosted[canary.hosted_as] = _hosted(config, catalogue.load(canary.router, canary.artifact, loaded), loaded)
    return Scoring(loaded, hosted)


def load_configured(config: Config, name: str, encoder: Encodes) -> Router:
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
    for name, serving in list(scoring.hosted.items()):
        active, hosted = await store.active(name), serving
        if active and active.version != serving.router.version:
            hosted = await _activated(config, scoring, serving, active)
        earlier = None
        if active and active.version == hosted.router.version and active.holds_back(time.time()):
            earlier = await _held_back(config, store, scoring, active, serving.earlier)
        scoring.hosted[name] = replace(await calibrated(store, hosted), earlier=earlier)


async def _held_back(
    config: Config, store: Store, scoring: Scoring, active: Activation, known: Earlier | None
) -> Earlier | None:
    """What serves beside the active version, unless it is that; None where it cannot be loaded."""
    since = active.holdback_since
    assert since is not None  # where there is a holdback
    hosted = (
        known.hosted if known and known.number == since else await _before(config, store, scoring, active.router, since)
    )
    if hosted is None or hosted.router.version == active.version:
        return None
    return Earlier(await calibrated(store, hosted), since, active.holdback)


async def _before(config: Config, store: Store, scoring: Scoring, name: str, number: int) -> Hosted | None:
    """What served before an activation, loaded; None where it cannot be."""
    before = next((one for one in await store.activations(name) if one.number == number - 1), None)
    try:
        if before:
            return await asyncio.to_thread(_load_activated, config, scoring, before)
        router = await asyncio.to_thread(load_configured, config, name, scoring.encoder)
        return _hosted(config, router, scoring.encoder)
    except (ArtifactError, ConfigError, DataError) as error:
        _say_once(scoring, f"{name}: nothing is held back, since the version before cannot: {error}")
        return None


async def _activated(config: Config, scoring: Scoring, serving: Hosted, active: Activation) -> Hosted:
    """The active version, loaded while the other one serves; one that cannot be loaded leaves that serving."""
    name, before = active.router, serving.router.version
    try:
        hosted = await asyncio.to_thread(_load_activated, config, scoring, active)
    except (ArtifactError, ConfigError, DataError) as error:
        _say_once(scoring, f"{name} {before} goes on serving, since {active.version} cannot: {error}")
        return serving
    _log.info("%s %s serves in place of %s", name, active.version, before)
    return hosted


def _say_once(scoring: Scoring, fault: str) -> None:
    """Every poll tries again; one line will do."""
    if fault not in scoring.faults:
        scoring.faults.add(fault)
        _log.error("%s", fault)


def _load_activated(config: Config, scoring: Scoring, one: Activation) -> Hosted:
    """Raises ArtifactError, DataError and ConfigError."""
    return load_version(config, scoring, one.router, located(config, one.router, one.version, one.directory))


def open_shelf(config: Config) -> Shelf:
    """Where versions lie. Raises ConfigError."""
    return shelf.opened(config.artifacts, config.data_dir)


async def forget_copies(config: Config) -> None:
    """Of versions that other replicas have deleted. Raises ArtifactError."""
    place = open_shelf(config)
    for router in config.routers:
        await asyncio.to_thread(place.forget, router)


def located(config: Config, router: str, version: str, directory: str) -> Path:
    """A version's directory on this machine: on the shelf, or the configured artifact, or, where neither is of that
    name, the directory that it was activated in. Raises ArtifactError and ConfigError."""
    place = open_shelf(config)
    if found := place.find(router, version):
        return found
    known = configured(config).get(router)
    if known and known.manifest.version == version:
        return known.directory
    if not Path(directory).exists():
        raise ArtifactError(f"{router} {version}: neither in {place} nor, on this machine, in {directory}")
    return Path(directory)


def explainer(config: Config, store: Store, scoring: Scoring) -> Explainer:
    """For decisions of this configuration, by the versions that made them."""
    return Explainer(store, scoring.encoder.id, config.like, partial(_find, config, scoring))


def _find(config: Config, scoring: Scoring, name: str, version: str) -> Router:
    """The version as it is served, held back, configured or kept. Raises ArtifactError, ConfigError and DataError."""
    serving = list(scoring.hosted.values())
    for one in [*serving, *(hosted.earlier.hosted for hosted in serving if hosted.earlier)]:
        if (one.router.name, one.router.version) == (name, version):
            return one.router
    known = configured(config).get(name)
    as_configured = known.directory if known and known.manifest.version == version else None
    directory = as_configured or open_shelf(config).find(name, version)
    if directory is None:
        raise ArtifactError(f"{name} {version}, which decided, is no longer kept")
    return catalogue.load(name, str(directory), scoring.encoder)


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
    share = names.parse(config.default).share
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
        shelf=open_shelf(config),
        weights=weights,
        sample=calibration.shipped_sample(encoder.name, encoder.id),
        mf=mf,
        parts=Parts(chosen.golden, chosen.golden_most, chosen.held_out),
        rules=Rules(chosen.effect, chosen.error_rate),
        least_raters=chosen.least_raters,
        share=_HALF if share is None else share,
        judged=config.judge.share if config.judge else 0.0,
        holdback=Holdback(config.rollback.holdback, config.rollback.days) if config.rollback.holdback else None,
    )


def configured(config: Config) -> dict[str, Version]:
    """The artifacts that the configuration names, of routers whose are ours."""
    chosen = {name: settings.artifact for name, settings in config.routers.items()}
    where = {name: catalogue.directory(name, artifact, config.encoder.name) for name, artifact in chosen.items()}
    return {
        name: Version(directory, artifacts.read_manifest(directory))
        for name, directory in where.items()
        if (directory / artifacts.MANIFEST).exists()
    }


def named(config: Config) -> frozenset[Path]:
    """The versions' directories that the configuration names."""
    canary = Path(config.canary.artifact) if config.canary and config.canary.artifact else None
    directories = [one.directory for one in configured(config).values()] + ([canary] if canary else [])
    return frozenset(one.expanduser().resolve() for one in directories)


def erasing(config: Config, store: Store) -> erasure.Terms:
    """What an erasure has to know of the configuration."""

    async def learning() -> erasure.Learning:
        encoder = load_encoder(config)
        how = plan(config, encoder)
        how = replace(how, weights=await agreement.weighed(store, how.weights))
        return erasure.Learning(how, await subjects(config, encoder, store))

    return erasure.Terms(config.models[0], open_shelf(config), configured(config), named(config), learning)


async def subjects(config: Config, encoder: Encoder | Static, store: Store) -> list[Subject]:
    """The routers that learn from ratings, each with its prior, the configured artifact, and what serves."""
    found = []
    for name in config.routers:
        prior = load_configured(config, name, encoder)
        if isinstance(prior, Learner):
            active = await store.active(name)
            champion = _champion(config, prior, active, encoder)
            found.append(Subject(prior, champion, active.number if active else CONFIGURED))
    return found


def _champion(config: Config, prior: Learner, active: Activation | None, encoder: Encoder | Static) -> Router:
    """The active version; where there is none, or it cannot be loaded, what daemons serve instead."""
    if active is None:
        return prior
    try:
        place = located(config, prior.name, active.version, active.directory)
        return catalogue.load(prior.name, str(place), encoder)
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
