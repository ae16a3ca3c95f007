"""Which directories are RouteLLM checkpoints, and how each of its routers is loaded from one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scorer.artifacts import MANIFEST, ArtifactError
from scorer.routellm.bert import Bert
from scorer.routellm.causal import Causal
from scorer.routellm.factorization import Factorization
from scorer.routellm.files import PICKLED
from scorer.routellm.similarity import SETS, Similarity
from scorer.routers.base import Router
from scorer.sections import EmbeddingsConfig

_MARKS = (SETS, "config.json", "*.safetensors", "*.safetensors.index.json", *PICKLED)
_LOADERS: dict[str, Callable[[Path, EmbeddingsConfig | None, Path | None], Router]] = {
    "mf": lambda directory, embeddings, _: Factorization.load(directory, embeddings),
    "sw": lambda directory, embeddings, _: Similarity.load(directory, embeddings),
    "bert": lambda directory, _, __: Bert.load(directory),
    "causal": lambda directory, _, tokenizer: Causal.load(directory, tokenizer),
}


def is_checkpoint(directory: Path) -> bool:
    """Whether it holds weights or battle sets, and no manifest of ours."""
    if not directory.is_dir() or (directory / MANIFEST).exists():
        return False
    return any(next(directory.glob(mark), None) for mark in _MARKS)


def load(router: str, directory: Path, embeddings: EmbeddingsConfig | None, tokenizer: Path | None = None) -> Router:
    """embeddings: for mf and sw, where prompts are embedded; tokenizer: for causal, the directory with its
    tokenizer.json, if not the checkpoint's. Raises ArtifactError, ConfigError and DataError."""
    if router not in _LOADERS:
        raise ArtifactError(
            f"{directory}: no {MANIFEST}, and RouteLLM has no router {router!r}; it has {', '.join(_LOADERS)}"
        )
    return _LOADERS[router](directory, embeddings, tokenizer)
