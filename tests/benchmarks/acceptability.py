"""Whether the bar means what it should: people who gave both thumbs and a comparison on the same answers.

    python -m tests.benchmarks.acceptability DATA/human_acceptability.parquet --cache DIR

Qualities are learned from thumbs alone, on four fifths of the prompts; on the rest, P(a beats b) is set beside what
people said when they compared the two. `levels` knows the models alone, `prompts` also what the prompt says.
Intervals: bootstrap over prompts.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from scorer.battles import BAR, Battles
from scorer.features import NAMES
from scorer.importers import thumbs_pairs
from scorer.routers.base import Prompts
from scorer.routers.factorization import Factorization, Ridge
from tests.benchmarks.streams import encoded

FOLDS = 5
MODES = {"levels": Ridge(shared=1e9, own=1e9), "prompts": Ridge()}
Floats = NDArray[np.float64]
console = Console(highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="for embeddings")
    given = parser.parse_args()
    battles = thumbs_pairs(given.file).battles
    prompts = encoded(battles.prompts, given.cache)
    for name, ridge in MODES.items():
        predicted, said, prompt = cross_fitted(battles, prompts, ridge)
        show(name, predicted, said, prompt)


def cross_fitted(battles: Battles, prompts: Prompts, ridge: Ridge) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """P(a beats b) of every decided comparison from the other folds' thumbs, what was said (1: a), and the prompt."""
    fold = np.random.default_rng(0).permutation(len(prompts))[battles.prompt] % FOLDS
    thumb = battles.model_b == BAR
    decided = ~thumb & (battles.outcome != 0.5)
    predicted = np.full(len(battles), np.nan)
    for number in range(FOLDS):
        training, asked = thumb & (fold != number), decided & (fold == number)
        used = np.unique(battles.prompt[training])
        learned = flat(battles, prompts).refit(battles.take(training), rows_of(prompts, used), ridge=ridge)
        models = [player for player in battles.players if player != BAR]
        quality = learned.score(rows_of(prompts, battles.prompt[asked]), models).quality
        assert quality is not None
        logit = np.log(quality / (1 - quality))
        row = np.arange(len(logit))
        a, b = (np.searchsorted(models, side[asked]) for side in (battles.model_a, battles.model_b))
        predicted[asked] = 1 / (1 + np.exp(logit[row, b] - logit[row, a]))
    return predicted[decided], (battles.outcome[decided] > 0.5).astype(float), battles.prompt[decided]


def flat(battles: Battles, prompts: Prompts) -> Factorization:
    """Nobody is better than anybody, anywhere."""
    players, dimension = battles.players, prompts.embeddings.shape[1] + len(NAMES) + 1
    factors: dict[str, NDArray[Any]] = {
        "V": np.eye(len(players), dtype=np.float32),
        "w": np.ones(len(players), np.float32),
        "P": np.zeros((len(players), dimension)),
        "mean": prompts.features.mean(axis=0),
        "scale": np.maximum(prompts.features.std(axis=0), 1e-3),
    }
    about = {"version": "flat", "encoder_id": "", "features": NAMES, "data": {}, "hyperparameters": {}, "metrics": {}}
    return Factorization(players, factors, about)


def show(name: str, predicted: Floats, said: Floats, prompt: NDArray[np.int64]) -> None:
    right = ((predicted > 0.5) == (said > 0.5)).astype(float)
    loss = -np.log(np.where(said > 0.5, predicted, 1 - predicted))
    prompts, place = np.unique(prompt, return_inverse=True)
    draws = np.random.default_rng(0).multinomial(len(prompts), np.full(len(prompts), 1 / len(prompts)), 5000)[:, place]
    for measure, values, chance in (("right", right, 0.5), ("log loss", loss, float(np.log(2)))):
        low, high = np.quantile((draws @ values) / draws.sum(axis=1), [0.025, 0.975])
        console.print(
            f"{name:8} {measure:9} {values.mean():.3f} ({low:.3f}, {high:.3f}), by chance {chance:.3f}; "
            f"{len(values)} comparisons on {len(prompts)} prompts"
        )


def rows_of(prompts: Prompts, rows: NDArray[np.int64]) -> Prompts:
    return Prompts([prompts.texts[row] for row in rows], prompts.embeddings[rows], prompts.features[rows])


if __name__ == "__main__":
    main()
