"""Benchmarks: prompts with every model's result on them, and what the answers cost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scorer.evaluation import layouts, prices
from scorer.evaluation.metrics import Floats
from scorer.tables import DataError


@dataclass(frozen=True)
class Benchmark:
    """prompts: n distinct or repeated texts; models: m names, strongest first; outcomes (n, m): results, the higher the
    better; costs (n, m): dollars, None if unknown; left_out: prompts dropped as contaminated or without a result."""

    name: str
    prompts: tuple[str, ...]
    models: tuple[str, ...]
    outcomes: Floats
    costs: Floats | None = None
    left_out: int = 0

    def __post_init__(self) -> None:
        """Raises DataError where there is nothing to route for, or between."""
        if len(self.models) < 2:
            raise DataError(f"{self.name}: a ladder takes at least two models, got {', '.join(self.models)}")
        if not self.prompts:
            raise DataError(f"{self.name}: no prompts are left")
        strong, weak = self.outcomes[:, 0].mean(), self.outcomes[:, -1].mean()
        if strong <= weak:
            raise DataError(
                f"{self.name}: {self.models[0]} scores {strong:.4g}, no more than {self.models[-1]} with {weak:.4g}; "
                "the stronger model comes first"
            )
        if len(self.models) > 2 and self.costs is not None and self.costs[:, 0].mean() <= self.costs[:, -1].mean():
            raise DataError(f"{self.name}: {self.models[0]} costs no more than {self.models[-1]}; order the ladder")

    @property
    def dollars(self) -> Floats:
        """(n, m) costs, zero where unknown."""
        return np.zeros_like(self.outcomes) if self.costs is None else self.costs

    @property
    def digest(self) -> str:
        """SHA-256 of what was read: models, prompts and results."""
        of = hashlib.sha256()
        for text in (*self.models, *self.prompts):
            of.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
        of.update(np.ascontiguousarray(self.outcomes).tobytes())
        return of.hexdigest()


def load(name: str, path: Path, models: Sequence[str], price_file: Path | None = None) -> Benchmark:
    """A file or directory in one of the layouts (docs/evaluation.md); contaminated prompts that it lists are left out.

    Costs are the file's own, else estimated from the price file, else unknown. Raises DataError.
    """
    read = layouts.read(path, models)
    contaminated = layouts.contaminated(path)
    kept = np.array([prompt not in contaminated for prompt in read.prompts], bool)
    kept &= ~np.isnan(read.outcomes).any(axis=1)
    prompts = tuple(prompt for prompt, keep in zip(read.prompts, kept, strict=True) if keep)
    costs = read.costs
    if costs is None and price_file is not None:
        costs = prices.estimate(prices.read(price_file, models), read.prompts)
    if costs is not None and not costs.any():
        costs = None  # where everything is free there is nothing to save
    return Benchmark(
        name,
        prompts,
        tuple(models),
        read.outcomes[kept],
        None if costs is None else costs[kept],
        int((~kept).sum()),
    )


def load_all(named: Iterable[tuple[str, Path]], models: Sequence[str], price_file: Path | None) -> list[Benchmark]:
    """Several, under distinct names."""
    benchmarks = [load(name, path, models, price_file) for name, path in named]
    names = [benchmark.name for benchmark in benchmarks]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise DataError(f"benchmark {min(repeated)!r} is given twice; name them: NAME=PATH")
    return benchmarks
