"""Methods: everything that gives win rates to a benchmark's prompts, routers and baselines alike; cached on disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from scorer import artifacts, catalogue
from scorer.config import embeddings_of_environment
from scorer.evaluation import baselines, classifiers
from scorer.evaluation.benchmarks import Benchmark
from scorer.evaluation.measures import Progress
from scorer.evaluation.metrics import Floats
from scorer.routellm import layout
from scorer.routers.base import Encodes, Prompts, Router, UnknownModel, Unscorable
from scorer.tables import DataError

_ALIASES = {"xgb": "boosted"}
_CHUNK = 64  # prompts between two looks at how far a slow router is

Encoded = Callable[[], Prompts]  # the benchmark's prompts, encoded when first asked for


@dataclass(frozen=True)
class Method:
    """name: in tables; identity: all that its win rates (n, m) depend on beside the benchmark."""

    name: str
    identity: str
    win_rates: Callable[[Benchmark, Encoded, Progress], Floats]


def routed(name: str, router: Router, identity: str, ladder: Sequence[str]) -> Method:
    """A router, scoring the names on `ladder` that it knows the benchmark's models by."""

    def win_rates(benchmark: Benchmark, encoded: Encoded, progress: Progress) -> Floats:
        prompts, found = encoded(), []
        try:
            for start in range(0, len(prompts), _CHUNK):
                progress(start, len(prompts))
                found.append(router.score(prompts[start : start + _CHUNK], ladder).win_rates)
        except (UnknownModel, Unscorable) as error:
            raise DataError(f"{benchmark.name}: {error}") from None
        return np.concatenate(found)

    return Method(name, "\n".join([identity, router.version, *ladder]), win_rates)


class Loaded(NamedTuple):
    """label: its name in tables; identity: of the router and the encoder."""

    label: str
    router: Router
    identity: str


def loaded(given: Sequence[str], encoder: Encodes) -> list[Loaded]:
    """NAME: the shipped artifact; NAME=DIRECTORY: one's own, called NAME (DIRECTORY's last part).

    Raises ConfigError and ArtifactError.
    """
    found = []
    for choice in given:
        name, _, artifact = choice.partition("=")
        name = _ALIASES.get(name, name)
        folder = catalogue.directory(name, artifact or "pretrained", encoder.name)
        endpoint = embeddings_of_environment() if layout.is_checkpoint(folder) else None
        router = catalogue.load(name, artifact or "pretrained", encoder, endpoint)
        digest = artifacts.read_manifest(folder).digest if (folder / artifacts.MANIFEST).exists() else ""
        label = f"{name} ({folder.name})" if artifact else name
        found.append(Loaded(label, router, f"{name} {digest} {encoder.id}"))
    labels = [one.label for one in found]
    if repeated := {label for label in labels if labels.count(label) > 1}:
        raise DataError(f"router {min(repeated)!r} is given twice")
    return found


def routers(given: Sequence[str], ladder: Sequence[str], encoder: Encodes) -> list[Method]:
    """As `loaded`, to score the names on `ladder`."""
    return [routed(one.label, one.router, one.identity, ladder) for one in loaded(given, encoder)]


def prompt_length() -> Method:
    """The longer, the stronger."""
    return Method(
        "prompt length",
        "characters",
        lambda benchmark, *_: baselines.on_ladder(baselines.prompt_length(benchmark.prompts), len(benchmark.models)),
    )


def neighbours(known: Benchmark | None, encode: Encoded | None, encoder_id: str) -> Method:
    """kNN on the embeddings: from the prompts of `known`, else cross-fitted on the benchmark's own results."""
    if known is None or encode is None:
        return Method(
            "kNN, own labels",
            f"kNN {baselines.NEIGHBOURS} {baselines.FOLDS} {encoder_id}",
            lambda benchmark, encoded, _: baselines.cross_fitted_neighbours(
                benchmark.prompts, encoded().embeddings, benchmark.outcomes
            ),
        )
    return Method(
        f"kNN on {known.name}",
        f"kNN {baselines.NEIGHBOURS} {encoder_id} {known.digest}",
        lambda benchmark, encoded, _: baselines.nearest_neighbours(
            encoded().embeddings, encode().embeddings, known.outcomes
        ),
    )


def litellm() -> list[Method]:
    """LiteLLM's complexity classifiers; none where it is not installed."""
    version = classifiers.installed()
    if version is None:
        return []
    return [_classifier(name, version) for name in classifiers.NAMES]


def _classifier(name: str, version: str) -> Method:
    return Method(
        f"LiteLLM {name}",
        f"LiteLLM {version} {name}",
        lambda benchmark, *_: baselines.on_ladder(classifiers.scores(name, benchmark.prompts), len(benchmark.models)),
    )


def score(
    method: Method,
    benchmark: Benchmark,
    encoded: Encoded,
    cache: Path,
    progress: Progress = lambda done, total: None,
) -> Floats:
    """(n, m) win rates, from the cache if it holds those of this method on this benchmark."""
    key = hashlib.sha256(f"{method.identity}\n{benchmark.digest}".encode()).hexdigest()
    path = cache / f"{key}.safetensors"
    with contextlib.suppress(OSError, safetensors.SafetensorError, KeyError):
        kept: Floats = safetensors.numpy.load_file(path)["win_rates"]
        if kept.shape == benchmark.outcomes.shape:
            return kept
    win_rates = method.win_rates(benchmark, encoded, progress)
    _keep(path, win_rates)
    return win_rates


def _keep(path: Path, win_rates: Floats) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(safetensors.numpy.save({"win_rates": win_rates.copy(order="C")}))
    os.replace(temporary, path)
