"""How long a refit of MF takes, and what memory, by the number of ratings.

    python -m tests.benchmarks.refit [--ratings 100000] [--models 3]

Made-up ratings of distinct prompts under a planted truth. `choose`: the ridge by cross-validation; `fit`: the rest.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from feedback import refit
from feedback.battles import Evidence
from scorer.battles import BAR, Battles
from scorer.features import NAMES
from scorer.routers.base import Prompts
from scorer.routers.factorization import Factorization

DIMENSION = 384
console = Console(highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratings", type=int, default=100_000)
    parser.add_argument("--models", type=int, default=3)
    given = parser.parse_args()
    models = [f"m{i}" for i in range(given.models)]
    prior, evidence = flat(models), made_up(models, given.ratings)
    before = peak()
    began = time.perf_counter()
    ridge = refit.chosen_ridge(prior, refit.balanced(evidence))
    chosen = time.perf_counter()
    refit.refit_mf(prior, evidence, ridge=ridge)
    done = time.perf_counter()
    console.print(
        f"{given.ratings:,} ratings of {given.models} models: "
        f"choose {chosen - began:.1f} s, fit {done - chosen:.1f} s, "
        f"CPU {time.process_time():.0f} s; memory {peak():,.0f} MB at most, {before:,.0f} MB with the ratings alone"
    )


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def flat(models: list[str]) -> Factorization:
    players, features = (*models, BAR), len(NAMES)
    factors: dict[str, NDArray[Any]] = {
        "V": np.eye(len(players), dtype=np.float32),
        "w": np.ones(len(players), np.float32),
        "P": np.zeros((len(players), DIMENSION + features + 1)),
        "mean": np.zeros(features, np.float32),
        "scale": np.ones(features, np.float32),
    }
    about = {"version": "flat", "encoder_id": "", "features": NAMES, "data": {}, "hyperparameters": {}, "metrics": {}}
    return Factorization(players, factors, about)


def made_up(models: list[str], n: int) -> Evidence:
    generator = np.random.default_rng(0)
    embeddings = generator.standard_normal((n, DIMENSION), np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    prompts = Prompts([str(i) for i in range(n)], embeddings, generator.standard_normal((n, len(NAMES)), np.float32))
    chosen = generator.integers(0, len(models), n)
    vectors = generator.normal(size=(len(models), DIMENSION)).astype(np.float32) + generator.normal(size=DIMENSION)
    logits = (embeddings * vectors[chosen].astype(np.float32)).sum(axis=1)
    thumbs = (generator.random(n) < 1 / (1 + np.exp(-logits))).astype(float)
    columns = np.array(models)[chosen], np.full(n, BAR), thumbs, np.ones(n), np.full(n, "human")
    battles, propensity = Battles(tuple(prompts.texts), np.arange(n), *columns), generator.choice([0.025, 0.95], n)
    return Evidence(battles, prompts, propensity, np.arange(n).astype(str))


if __name__ == "__main__":
    main()
