"""What exact SW ranking saves: this router's upstream mode beside RouteLLM's regression for every query.

    python -m tests.benchmarks.sw [--queries 9]

RouteLLM's way is kept as it is coded, with scikit-learn: cosines to all battles in float64 with norms taken anew, two
rows a battle, lbfgs without a penalty. The solve is what lies between battles' weights and strengths. Everything is
measured in one run on the same queries: read the ratios.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression

from scorer.battles import Battles
from scorer.routers.base import Prompts
from scorer.routers.bradley_terry import strengths
from scorer.routers.similarity import Similarity, Upstream

SIZES = (55_000, 165_000)
DIMENSION, MODELS, TIERS = 384, 64, 10
Floats = NDArray[np.float64]
Given = TypeVar("Given")
Result = TypeVar("Result")
console = Console(highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=9, help="of each size")
    queries = parser.parse_args().queries
    for size in SIZES:
        compare(size, queries)


def compare(size: int, count: int) -> None:
    """Every kind of work in a block of its own, over the same queries."""
    prompts, battles = made_up(size)
    router = Similarity.fit(battles, prompts, encoder_id="", features=(), chosen=Upstream(tiers=TIERS))
    routellm = RouteLLM(router, prompts, battles)
    ladder = ("m00", f"m{MODELS - 1:02}")
    many, _ = made_up(max(count, 32), seed=1)
    ones = [Prompts(many.texts[i : i + 1], many.embeddings[i : i + 1], many.features[i : i + 1]) for i in range(count)]
    seconds: dict[str, float] = {}
    weights = timed(seconds, "RouteLLM: weights", routellm.weights, [one.embeddings[0] for one in ones])
    theirs = timed(seconds, "RouteLLM: solve", routellm.solve, weights)
    exact = timed(seconds, "RouteLLM: solve, tolerance 1e-9", lambda each: routellm.solve(each, 1e-9), weights)
    timed(seconds, "sw: solve", lambda each: solve(router, each), weights)
    scores = timed(seconds, "sw: end to end, one prompt", lambda one: router.score(one, ladder), ones)
    timed(seconds, "sw: end to end, 32 together, each", lambda all_: router.score(all_, ladder), [many])
    seconds["sw: end to end, 32 together, each"] /= len(many)
    seconds["RouteLLM: end to end"] = seconds["RouteLLM: weights"] + seconds["RouteLLM: solve"]
    show(size, seconds)
    ours = np.array([each.win_rates[0, 1] for each in scores])
    for name, thetas in (("1e-4", theirs), ("1e-9", exact)):
        strong, weak = (np.array([theta[routellm.player[model]] for theta in thetas]) for model in ladder)
        furthest = np.abs(ours - 1 / (1 + np.exp(weak - strong))).max()
        console.print(f"win rates differ from those of lbfgs by at most {furthest:.1e} at tolerance {name}")
    console.print()


def show(size: int, seconds: dict[str, float]) -> None:
    shown = Table(title=f"{size:,} battles, {DIMENSION}-d", title_justify="left", box=None, pad_edge=False)
    shown.add_column("median of a query", no_wrap=True)
    shown.add_column("ms", justify="right", no_wrap=True)
    for name, each in seconds.items():
        shown.add_row(name, f"{1000 * each:,.2f}")
    console.print(shown)
    for name, slow, fast in (
        ("solve", "RouteLLM: solve", "sw: solve"),
        ("solve, lbfgs made as exact", "RouteLLM: solve, tolerance 1e-9", "sw: solve"),
        ("end to end, one prompt", "RouteLLM: end to end", "sw: end to end, one prompt"),
        ("end to end, 32 together", "RouteLLM: end to end", "sw: end to end, 32 together, each"),
    ):
        console.print(f"{name}: {seconds[slow] / seconds[fast]:,.0f} times as fast")


def timed(seconds: dict[str, float], name: str, call: Callable[[Given], Result], each: Sequence[Given]) -> list[Result]:
    """What `call` makes of each; the median time goes into `seconds`."""
    spans, results = [], []
    for given in each:
        began = time.perf_counter()
        results.append(call(given))
        spans.append(time.perf_counter() - began)
    seconds[name] = float(np.median(spans))
    return results


def solve(router: Similarity, weights: Floats) -> Floats:
    """From weights to strengths, as `score` does it."""
    return strengths(router._wins([router._summed(weights)]), router.chosen.ridge, start=router._ranking)


class RouteLLM:
    """SWRankingRouter of lm-sys/RouteLLM at 0b64fda, its same-tier rows dropped: the tiers are the other's."""

    def __init__(self, router: Similarity, prompts: Prompts, battles: Battles) -> None:
        self.player = dict(zip(router.models, router._player.tolist(), strict=True))
        sides = (battles.model_a, battles.model_b)
        self._a, self._b = (np.array([self.player[name] for name in side.tolist()]) for side in sides)
        self._apart = self._a != self._b
        self._embeddings = prompts.embeddings.astype(np.float64)[battles.prompt]
        self._outcome, self._players = battles.outcome, len(set(self.player.values()))

    def weights(self, query: NDArray[np.float32]) -> Floats:
        norms = np.linalg.norm(self._embeddings, axis=1) * np.linalg.norm(query)
        similarity = self._embeddings @ query.astype(np.float64) / norms
        weights: Floats = 10 * 10 ** (similarity / similarity.max())
        return weights

    def _design(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """x (2n, players), y (2n,), weights (2n,): a won battle is two wins, a tie one win and one loss."""
        a, b, outcome = self._a[self._apart], self._b[self._apart], self._outcome[self._apart]
        x = np.zeros((len(a), self._players))
        x[np.arange(len(a)), a] = np.log(10)
        x[np.arange(len(a)), b] = -np.log(10)
        y = np.concatenate([outcome == 1, outcome >= 0.5]).astype(float)
        return np.concatenate([x, x]), y, np.tile(weights[self._apart], 2)

    def solve(self, weights: Floats, tolerance: float = 1e-4) -> Floats:
        """Strengths in nats."""
        x, y, weights = self._design(weights)
        model = LogisticRegression(fit_intercept=False, C=np.inf, tol=tolerance, max_iter=1000)
        model.fit(x, y, sample_weight=weights)
        nats: Floats = model.coef_[0] * np.log(10)
        return nats


def made_up(size: int, seed: int = 0) -> tuple[Prompts, Battles]:
    """A prompt a battle, in clusters as prompts are. The first 55,000 battles are like the Arena's: models of strengths
    700 Elo apart, some met far more often than others, a fifth of battles tied. The rest, as in RouteLLM's data, are
    one pair's, judged, and mostly ties or surprises."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(200, DIMENSION))
    embeddings = centres[generator.integers(0, 200, size)] + 1.5 * generator.normal(size=(size, DIMENSION))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    popularity = 1 / (np.random.default_rng(98).permutation(MODELS) + 4)
    a, b = (generator.choice(MODELS, size, p=popularity / popularity.sum()) for _ in range(2))
    b = np.where(a == b, (b + 1) % MODELS, b)
    won = generator.random(size) < 1 / (1 + 10 ** (700 / 400 * (a - b) / MODELS))
    outcome = np.where(generator.random(size) < 0.2, 0.5, won)
    judged = np.arange(size) >= SIZES[0]
    a, b = np.where(judged, 0, a), np.where(judged, MODELS // 3, b)
    outcome = np.where(judged, generator.choice([1, 0.5, 0], size, p=[0.093, 0.222, 0.685]), outcome)
    names = np.array([f"m{i:02}" for i in range(MODELS)])
    texts = tuple(f"prompt {i}" for i in range(size))
    battles = Battles(texts, np.arange(size), names[a], names[b], outcome, np.ones(size), np.full(size, "made up"))
    return Prompts(texts, embeddings.astype(np.float32), np.zeros((size, 0), np.float32)), battles


if __name__ == "__main__":
    main()
