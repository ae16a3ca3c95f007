"""Streams of requests with known truth: what ratings of real answers would have been, had they been asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from feedback.battles import Evidence
from scorer import training
from scorer.battles import BAR, Battles
from scorer.encoder import Encoder, resolve
from scorer.evaluation import metrics, routing
from scorer.routers.base import Prompts, Router
from scorer.tables import read_table

NIGHTS = 10
NOISE = 0.1  # of thumbs are the wrong way round
EXPLORATION = 0.05
SHARE = 0.5  # of requests that the threshold sends to the strongest model
HELD_OUT = 0.22  # of the prompts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Rates = Callable[[Floats], Floats]  # thumbs to the probability that they are given

RATINGS: dict[str, Rates] = {
    "100 %": lambda thumbs: np.ones_like(thumbs),
    "10 %": lambda thumbs: np.full_like(thumbs, 0.1),
    "by outcome": lambda thumbs: np.where(thumbs == 1, 0.3, 0.9),  # the unhappy rate three times as often
}


@dataclass(frozen=True)
class Matrix:
    """Real correctness: outcomes (n, m) in [0, 1] of a ladder, strongest first, on distinct encoded prompts."""

    ladder: tuple[str, ...]
    prompts: Prompts
    outcomes: Floats


def matrix(path: Path, ladder: Sequence[str], cache: Path) -> Matrix:
    """Of a response matrix; of repeated prompts the first row is taken. Encoded once, then read from the cache."""
    table = read_table(path)
    texts = table.texts("prompt")
    first: dict[str, int] = {}
    for row, text in enumerate(texts):
        first.setdefault(text, row)
    outcomes = np.stack([table.numbers(model, 0, 1) for model in ladder], axis=1)[list(first.values())]
    return Matrix(tuple(ladder), encoded(list(first), cache), outcomes)


def encoded(texts: Sequence[str], cache: Path) -> Prompts:
    """Through the cached encoder, once."""
    directory = resolve()
    encoder_id = json.loads((directory / "encoder.json").read_text())["id"]
    key = hashlib.sha256("\0".join([encoder_id, *texts]).encode()).hexdigest()[:16]
    file = cache / f"{key}.npz"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        Console(stderr=True).print(f"encoding {len(texts)} prompts")
        prompts = training.encode(Encoder.load(directory, threads=1), texts)
        np.savez(file, embeddings=prompts.embeddings, features=prompts.features)
    stored = np.load(file)
    return Prompts(tuple(texts), stored["embeddings"], stored["features"])


class Stream:
    """One seed's requests: a part of the prompts, in a random order, and the thumbs every answer would have got."""

    def __init__(self, matrix: Matrix, rates: Rates, seed: int) -> None:
        generator = np.random.default_rng(seed)
        order = generator.permutation(len(matrix.prompts))
        held_out, self._rows = np.split(order, [round(HELD_OUT * len(order))])
        self._matrix, self._held_out = matrix, held_out
        truth = matrix.outcomes[self._rows]
        thumbs = (generator.random(truth.shape) < truth).astype(float)
        self.thumbs = np.where(generator.random(truth.shape) < NOISE, 1 - thumbs, thumbs)
        self._rated = generator.random((len(truth), 1)) < rates(self.thumbs)  # (n, m): were that model to answer
        self._draws = generator.random(len(truth))
        self.days = np.array_split(np.arange(len(truth)), NIGHTS)

    def prompts(self, request: Ints) -> Prompts:
        """Of some of its requests."""
        return _rows_of(self._matrix.prompts, self._rows[request])

    def apgr(self, router: Router, known_as: Sequence[str]) -> float:
        """On held-out prompts and their true outcomes; a step down the ladder saves as much as any other."""
        outcomes = self._matrix.outcomes[self._held_out]
        win_rates = router.score(_rows_of(self._matrix.prompts, self._held_out), known_as).win_rates
        costs = np.broadcast_to(np.linspace(1, 0, outcomes.shape[1]), outcomes.shape)
        curve = routing.ladder_sweep(win_rates, outcomes, costs).curve(np.ones(len(outcomes), np.int64))
        return metrics.apgr(curve.spent, curve.pgr)

    def route(self, day: Ints, router: Router, known_as: Sequence[str]) -> tuple[Ints, Floats]:
        """(n,) models and their propensities: the threshold that sends SHARE to the strongest, and exploration."""
        win_rates = router.score(_rows_of(self._matrix.prompts, self._rows[day]), known_as).win_rates
        models = win_rates.shape[1]
        threshold = np.quantile(win_rates[:, 1:].min(axis=1), 1 - SHARE)
        below = win_rates < threshold
        below[:, 0] = True  # if none is
        greedy = models - 1 - below[:, ::-1].argmax(axis=1)
        probabilities = np.full(win_rates.shape, EXPLORATION / models)
        probabilities[np.arange(len(day)), greedy] += 1 - EXPLORATION
        drawn = (self._draws[day, None] > probabilities.cumsum(axis=1)).sum(axis=1).clip(max=models - 1)
        return drawn, probabilities[np.arange(len(day)), drawn]

    def evidence(self, request: Ints, model: Ints, propensity: Floats) -> Evidence:
        """What those of the answers said whose users rate."""
        rated = self._rated[request, model]
        request, model, propensity = request[rated], model[rated], propensity[rated]
        used, prompt = np.unique(request, return_inverse=True)
        prompts = _rows_of(self._matrix.prompts, self._rows[used])
        n = len(request)
        names, ones = np.array(self._matrix.ladder)[model], np.ones(n)
        columns = (names, np.full(n, BAR), self.thumbs[request, model], ones, np.full(n, "human"))
        battles = Battles(tuple(prompts.texts), prompt.reshape(-1), *columns)
        return Evidence(battles, prompts, propensity, request.astype(str))


def _rows_of(prompts: Prompts, rows: Ints) -> Prompts:
    return Prompts([prompts.texts[row] for row in rows], prompts.embeddings[rows], prompts.features[rows])
