"""RouteLLM's matrix factorization, from the three tensors it is published as (arXiv 2406.18665, section 4.2, as coded).

    delta(M, q) = w . (v_M / |v_M| * (P e_q)),    win rate = sigmoid(delta(strong, q) - delta(weak, q))

There is no bias and nothing that is not linear, so a model is one vector u_M = P^T (w * v_M / |v_M|), and its delta a
dot product with the prompt's embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from scorer.artifacts import ArtifactError
from scorer.routellm import files, reference
from scorer.routellm.embeddings import Embeddings, embeddings_for
from scorer.routers.base import Prompts, Scores, UnknownModel, spread
from scorer.routers.bradley_terry import sigmoid
from scorer.sections import EmbeddingsConfig

Floats = NDArray[np.float64]

NAMES = "models.json"  # beside the weights: the names of P's rows, in their order

_ROWS = dict(zip(reference.PAIR, (24, 36), strict=True))  # of the published 64
_PUBLISHED_ROWS = 64
_PARTS = {"P.weight": "V", "text_proj.0.weight": "P", "classifier.0.weight": "w"}
_TRAINED = {"text_proj.weight": "P", "classifier.weight": "w"}  # as the training script calls them
_DROPPED = "Q.weight"  # its frozen prompt embeddings


class Factorization:
    """The published MF router. Win rates alone; a prompt's are its own, whatever else is scored with it."""

    name = "mf"
    sample = None  # no prompts that it could be calibrated on come with it

    def __init__(self, vectors: Mapping[str, Floats], embeddings: Embeddings, version: str) -> None:
        """vectors: u_M (d,) of every model with a name."""
        self.known, self.version = tuple(vectors), version
        self._vectors, self._embeddings = dict(vectors), embeddings

    def knows(self, model: str) -> bool:
        """Whether a row of P has this name."""
        return model in self._vectors

    def score(self, prompts: Prompts, ladder: Sequence[str]) -> Scores:
        """A ladder whose strongest model and another one are known is scored by name, a model without a vector as the
        mean of its nearest known neighbours; any other as upstream does: the reference pair's win rate, spread.

        Raises Unscorable while the embeddings cannot be had, and UnknownModel.
        """
        by_name = reference.is_named(ladder, self.knows)
        if not by_name and not all(map(self.knows, reference.PAIR)):
            raise UnknownModel(f"{self.name} {self.version}", ladder, self.known)
        x = self._embeddings(prompts.texts).astype(np.float64)
        delta = _dots(x, self._place(ladder if by_name else reference.PAIR))
        win = sigmoid(delta[:, :1] - delta)
        return Scores(win if by_name else spread(win[:, 1], len(ladder)))

    def _place(self, ladder: Sequence[str]) -> Floats:
        """(m, d): a vector for every rung."""
        rungs = [i for i, model in enumerate(ladder) if self.knows(model)]
        above = [max(k for k in rungs if k <= i) for i in range(len(ladder))]  # the strongest is known
        below = [min((k for k in rungs if k >= i), default=rungs[-1]) for i in range(len(ladder))]
        return np.array(
            [(self._vectors[ladder[a]] + self._vectors[ladder[b]]) / 2 for a, b in zip(above, below, strict=True)]
        )

    @classmethod
    def load(cls, directory: Path, embeddings: EmbeddingsConfig | None) -> Factorization:
        """Raises ArtifactError, and ConfigError without embeddings."""
        path = directory / files.WEIGHTS
        if path not in files.weights(directory):
            raise ArtifactError(f"{directory}: no {files.WEIGHTS}")
        factors = _factors(path)
        V = factors["V"] / np.maximum(np.linalg.norm(factors["V"], axis=1, keepdims=True), 1e-12)
        vectors = (V * factors["w"]) @ factors["P"]
        rows = _names(directory, len(vectors))
        named = [path, *([directory / NAMES] if (directory / NAMES).exists() else [])]
        settings = embeddings_for(directory, embeddings)
        by_name = {name: vectors[row] for name, row in rows.items()}
        return cls(by_name, Embeddings(settings, vectors.shape[1]), files.version(named, settings.model))


def _dots(x: Floats, vectors: Floats) -> Floats:
    """(n, m) of (n, d) and (m, d), each summed on its own in one order: BLAS would round a row by its batch."""
    return np.stack([(x * vector).sum(axis=1) for vector in vectors], axis=1)


def _factors(path: Path) -> dict[str, Floats]:
    """V (models, k), P (k, d) and w (k,)."""
    try:
        tensors: dict[str, NDArray[Any]] = safetensors.numpy.load(files.read(path))
    except (safetensors.SafetensorError, KeyError) as error:  # KeyError: a dtype that numpy lacks
        raise ArtifactError(f"{path}: not a safetensors file of float32: {error}") from None
    names = _PARTS | _TRAINED
    found = {}
    for name, tensor in tensors.items():
        if name == _DROPPED:
            continue
        if name not in names:
            raise ArtifactError(f"{path}: unknown tensor {name!r}; a RouteLLM mf has {', '.join(_PARTS)}")
        if tensor.dtype.kind != "f" or not np.isfinite(tensor).all():
            raise ArtifactError(f"{path}: tensor {name!r} is not finite numbers")
        found[names[name]] = tensor.astype(np.float64)
    if missing := [name for name, part in _PARTS.items() if part not in found]:
        raise ArtifactError(f"{path}: no tensor {missing[0]!r}; a RouteLLM mf has {', '.join(_PARTS)}")
    shapes = {name: found[part].shape for name, part in _PARTS.items()}
    k = shapes["P.weight"][-1]
    if (
        shapes["classifier.0.weight"] != (1, k)
        or len(shapes["P.weight"]) != 2
        or shapes["text_proj.0.weight"][:-1] != (k,)
    ):
        told = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise ArtifactError(f"{path}: {told}; expected [models, k], [k, d] and [1, k], published with 64, 128 and 1536")
    return found | {"w": found["w"][0]}


def _names(directory: Path, rows: int) -> dict[str, int]:
    """Row of every model that has a name: those of models.json, else the reference pair's."""
    path = directory / NAMES
    if not path.exists():
        if rows != _PUBLISHED_ROWS:
            raise ArtifactError(
                f"{directory}: {rows} models, not the published {_PUBLISHED_ROWS}; name them in {NAMES}"
            )
        return dict(_ROWS)
    try:
        names = msgspec.json.decode(files.read(path), type=list[str])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: not a JSON list of names: {error}") from None
    if len(names) != rows or len(set(names)) != rows:
        raise ArtifactError(f"{path}: {len(names)} names, {len(set(names))} of them distinct, for {rows} models")
    return {name: row for row, name in enumerate(names)}
