"""The routers there are, and where the artifact of each lies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scorer.calibration import PRETRAINED
from scorer.config import ConfigError
from scorer.routers.base import Router
from scorer.routers.factorization import Factorization
from scorer.routers.random import Random
from scorer.routers.similarity import Similarity

LOADERS: dict[str, Callable[[Path, str], Router]] = {
    "mf": Factorization.load,
    "sw": Similarity.load,
    "random": lambda *_: Random(),
}


def directory(router: str, artifact: str) -> Path:
    """Of an artifact: `pretrained` is the shipped one. Raises ConfigError for a router that this version lacks."""
    if router not in LOADERS:
        raise ConfigError(f"router {router!r}: not in this version, which has {', '.join(LOADERS)}")
    return PRETRAINED / router if artifact == "pretrained" else Path(artifact)


def load(router: str, artifact: str, encoder_id: str) -> Router:
    """Raises ConfigError and ArtifactError."""
    where = directory(router, artifact)
    return LOADERS[router](where, encoder_id)
