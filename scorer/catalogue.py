"""The routers and the encoders there are, and where the artifacts of each lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scorer.calibration import PRETRAINED
from scorer.config import ConfigError
from scorer.encoder import MODEL, Encoder, resolve
from scorer.routellm import layout
from scorer.routers.base import Encodes, Router
from scorer.routers.bert import Bert
from scorer.routers.boosted import Boosted
from scorer.routers.causal import Causal
from scorer.routers.factorization import Factorization
from scorer.routers.random import Random
from scorer.routers.similarity import Similarity
from scorer.sections import ENCODERS, EmbeddingsConfig
from scorer.static import Static

LOADERS: dict[str, Callable[[Path, str | None], Router]] = {
    "mf": Factorization.load,
    "sw": Similarity.load,
    "boosted": Boosted.load,
    "bert": Bert.load,
    "causal": Causal.load,
    "random": lambda *_: Random(),
}

READ_TEXT = ("bert", "causal")  # through a network of their own: what ships goes with either encoder


def directory(router: str, artifact: str, encoder: str) -> Path:
    """Of an artifact: `pretrained` is what ships for that encoder (its name). Raises ConfigError for a router that this
    version lacks."""
    if router not in LOADERS:
        raise ConfigError(f"router {router!r}: not in this version, which has {', '.join(LOADERS)}")
    if artifact != "pretrained":
        return Path(artifact)
    return PRETRAINED / router if router in READ_TEXT else PRETRAINED / encoder / router


def load(
    router: str,
    artifact: str,
    encoder: Encodes,
    embeddings: EmbeddingsConfig | None = None,
    tokenizer: Path | None = None,
) -> Router:
    """A router that was fitted with that encoder, or needs none: those of RouteLLM take the rest. Raises ConfigError,
    ArtifactError and DataError."""
    where = directory(router, artifact, encoder.name)
    if layout.is_checkpoint(where):
        return layout.load(router, where, embeddings, tokenizer)
    if embeddings or tokenizer:
        raise ConfigError(f"routers.{router}: {where} is no RouteLLM checkpoint: it takes no embeddings or tokenizer")
    return LOADERS[router](where, None if router in READ_TEXT else encoder.id)


def named_encoder(chosen: str, threads: int | None = None) -> Encoder | Static:
    """What `--encoder` says: an encoder's name, or the directory of one. Raises EncoderError."""
    if chosen in ENCODERS:
        return load_encoder(chosen, threads=threads)
    where = Path(chosen)
    return load_encoder(Encoder.name if (where / MODEL).is_file() else Static.name, where, threads)


def load_encoder(
    name: str, where: Path | None = None, threads: int | None = None, encoder_id: str | None = None
) -> Encoder | Static:
    """The encoder of that name in a directory; without one, the shipped static encoder, or of the exported ones in the
    cache the one with this id. Raises EncoderError."""
    if name == Static.name:
        return Static.load(where or PRETRAINED / name / "encoder")
    return Encoder.load(where or resolve(encoder_id=encoder_id), threads)
