"""What exact SW ranking saves: this router's upstream mode beside RouteLLM's regression for every query.

    python -m tests.benchmarks.sw [--queries 9]
    python -m tests.benchmarks.sw --scale --battles FILE ... --asked FILE [--encoder minilm]

RouteLLM's way is kept as it is coded, with scikit-learn: cosines to all battles in float64 with norms taken anew, two
rows a battle, lbfgs without a penalty at its defaults, battles within a tier counted for the second model. The solve is
what lies between battles' weights and strengths: of theirs the design matrix and the fit, of ours cells and Newton.
Processor time, in one run on the same queries: read the ratios.

--scale: all rows beside coresets (scorer.routers.coreset) as the log grows, on real battles, a row each. Where there
are not so many they are drawn again, and embeddings moved by noise, to a cosine of about 0.8 with what they were.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression

from scorer import catalogue
from scorer.battles import Battles, read
from scorer.routers.base import Prompts
from scorer.routers.bradley_terry import strengths
from scorer.routers.similarity import Similarity
from scorer.routers.variants import Upstream
from scorer.tables import read_table
from scorer.training import encode

SIZES = (55_000, 165_000)
PAIR = ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")
SCALE, MOST = (55_000, 165_000, 1_000_000), (25_000, 100_000)
ASKED, FULL, BLOCK = 200, 16, 100_000
DIMENSION, MODELS, TIERS = 384, 64, 10
Floats = NDArray[np.float64]
Given = TypeVar("Given")
Result = TypeVar("Result")
console = Console(highlight=False, width=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=9, help="of each size")
    parser.add_argument("--scale", action="store_true", help="coresets, on the next three")
    parser.add_argument("--battles", type=Path, nargs="+", default=[])
    parser.add_argument("--asked", type=Path, help="a table whose `prompt`s are asked")
    parser.add_argument("--encoder", default="minilm")
    chosen = parser.parse_args()
    if chosen.scale:
        scale(chosen.battles, chosen.asked, chosen.encoder)
        return
    for size in SIZES:
        compare(size, chosen.queries)


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
    timed(seconds, "RouteLLM: solve", lambda each: routellm.solve(each, within=True), weights)
    theirs = timed(seconds, "RouteLLM: solve, within tiers dropped", routellm.solve, weights)
    exact = timed(seconds, "RouteLLM: the same, tolerance 1e-9", lambda each: routellm.solve(each, 1e-9), weights)
    timed(seconds, "sw: solve", lambda each: solve(router, [each]), weights)
    timed(seconds, "sw: solve, 32 together, each", lambda each: solve(router, each), [weights * (32 // count + 1)] * 3)
    seconds["sw: solve, 32 together, each"] /= len(weights) * (32 // count + 1)
    sums = [router._summed(each) for each in weights]
    timed(seconds, "  of which cells", router._summed, weights)
    timed(seconds, "  of which Newton", lambda cells: ranked(router, [cells]), sums)
    scores = timed(seconds, "sw: end to end, one prompt", lambda one: router.score(one, ladder), ones)
    timed(seconds, "sw: end to end, 32 together, each", lambda all_: router.score(all_, ladder), [many[:32]] * 3)
    seconds["sw: end to end, 32 together, each"] /= 32
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
        ("solve, 32 together", "RouteLLM: solve", "sw: solve, 32 together, each"),
        ("solve, within tiers dropped", "RouteLLM: solve, within tiers dropped", "sw: solve"),
        ("solve, lbfgs made as exact", "RouteLLM: the same, tolerance 1e-9", "sw: solve"),
        ("end to end, one prompt", "RouteLLM: end to end", "sw: end to end, one prompt"),
        ("end to end, 32 together", "RouteLLM: end to end", "sw: end to end, 32 together, each"),
    ):
        console.print(f"{name}: {seconds[slow] / seconds[fast]:,.0f} times as fast")


def timed(seconds: dict[str, float], name: str, call: Callable[[Given], Result], each: Sequence[Given]) -> list[Result]:
    """What `call` makes of each; the median goes into `seconds`: of processor time, as others may use the machine."""
    spans, results = [], []
    call(each[0])
    for given in each:
        began = time.process_time()
        results.append(call(given))
        spans.append(time.process_time() - began)
    seconds[name] = float(np.median(spans))
    return results


def solve(router: Similarity, weights: Sequence[Floats]) -> Floats:
    """From weights to strengths, as `score` does it."""
    return ranked(router, [router._summed(each) for each in weights])


def ranked(router: Similarity, cells: Sequence[Floats]) -> Floats:
    return strengths(router._wins(cells), router.chosen.ridge, start=router._ranking)


class RouteLLM:
    """SWRankingRouter of lm-sys/RouteLLM at 0b64fda; the tiers are the other's."""

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

    def _design(self, weights: Floats, used: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
        """x (2n, players), y (2n,), weights (2n,): a won battle is two wins, a tie one win and one loss."""
        a, b, outcome = self._a[used], self._b[used], self._outcome[used]
        x = np.zeros((len(a), self._players))
        x[np.arange(len(a)), a] = np.log(10)
        x[np.arange(len(a)), b] = -np.log(10)
        y = np.concatenate([outcome == 1, outcome >= 0.5]).astype(float)
        return np.concatenate([x, x]), y, np.tile(weights[used], 2)

    def solve(self, weights: Floats, tolerance: float = 1e-4, within: bool = False) -> Floats:
        """Strengths in nats. within: battles within a tier, too, as upstream does it by mistake."""
        x, y, weights = self._design(weights, self._apart | within)
        model = LogisticRegression(fit_intercept=False, C=np.inf, tol=tolerance, max_iter=100 if within else 1000)
        model.fit(x, y, sample_weight=weights)
        nats: Floats = model.coef_[0] * np.log(10)
        return nats


def scale(files: Sequence[Path], asked: Path, name: str) -> None:
    encoder = catalogue.load_encoder(name)
    battles = read(files)
    known = encode(encoder, battles.prompts).embeddings
    texts = list(dict.fromkeys(read_table(asked).texts("prompt")))
    few = np.random.default_rng(1).choice(len(texts), min(ASKED, len(texts)), replace=False)
    prompts = bare(encode(encoder, [texts[i] for i in few]).embeddings)
    console.print(
        f"{len(prompts)} prompts, {name}; errors of all rows: to embeddings in full precision; else to all rows"
    )
    say("battles", "kept", "MB", "ms, one", "ms, of 32", "sd", "mean", "p99", "max", "bound", "within")
    for size in SCALE:
        some, embeddings = drawn(battles, known, size)
        exact = grown(some, embeddings, size)
        truth = exact.score(prompts, PAIR).win_rates[:, 1]
        off = errors(truth[:FULL], full(exact, embeddings, prompts[:FULL]))
        say(*cost(exact, size, prompts), f"{truth.std():.1e}", *off)
        for most in MOST:
            if most < size:
                coreset = grown(some, embeddings, most)
                win, bound = coreset.score(prompts, PAIR).win_rates[:, 1], coreset.doubt(prompts, *PAIR)
                within = f"{100 * (np.abs(win - truth) <= bound).mean():.1f} %"
                say(*cost(coreset, size, prompts), "", *errors(win, truth), f"{bound.max():.1e}", within)


def say(*cells: str) -> None:
    console.print("".join(f"{cell:>10}" for cell in cells))


def errors(found: Floats, truth: Floats) -> tuple[str, ...]:
    error = np.abs(found - truth)
    return tuple(f"{each:.1e}" for each in (error.mean(), np.quantile(error, 0.99), error.max()))


def full(router: Similarity, embeddings: NDArray[np.float32], prompts: Prompts) -> Floats:
    """Win rates from cosines in double precision."""
    asked = prompts.embeddings.astype(np.float64)
    parts = [embeddings[i : i + BLOCK].astype(np.float64) for i in range(0, len(embeddings), BLOCK)]
    cosines = np.concatenate([part @ asked.T / np.linalg.norm(part, axis=1)[:, None] for part in parts]).T
    assert isinstance(router.chosen, Upstream)
    theta = solve(router, [router.chosen.weights(row) for row in cosines])
    strong, weak = theta[:, router._player[[router._number[model] for model in PAIR]]].T
    return np.asarray(1 / (1 + np.exp(weak - strong)), np.float64)


def grown(battles: Battles, embeddings: NDArray[np.float32], most: int) -> Similarity:
    """Block by block, as a log grows."""
    router: Similarity | None = None
    for start in range(0, len(battles), BLOCK):
        some, prompts = battles_of(battles, slice(start, start + BLOCK)), bare(embeddings[start : start + BLOCK])
        if router is None:
            router = Similarity.fit(some, prompts, encoder_id="", features=(), chosen=Upstream(most_rows=most))
        else:
            router = router.append(some, prompts)
    assert router is not None
    return router.tiered()


def battles_of(battles: Battles, rows: slice) -> Battles:
    names, numbers = (battles.model_a[rows], battles.model_b[rows]), (battles.outcome[rows], battles.weight[rows])
    n = len(names[0])
    return Battles(tuple(map(str, range(n))), np.arange(n), *names, *numbers, battles.source[rows])


def cost(router: Similarity, size: int, prompts: Prompts) -> tuple[str, ...]:
    """Battles, rows, megabytes, and milliseconds of a prompt by itself and in a batch."""
    seconds: dict[str, float] = {}
    timed(seconds, "one", lambda one: router.score(one, PAIR), [prompts[i : i + 1] for i in range(9)])
    timed(seconds, "many", lambda many: router.score(many, PAIR), [prompts[:32]] * 3)
    held = [value for part in (*router._blocks, router._remainder) if part is not None for value in arrays(part)]
    kept, megabytes = sum(map(len, router._blocks)), sum(value.nbytes for value in held) / 1e6
    return f"{size:,}", f"{kept:,}", f"{megabytes:.0f}", f"{1e3 * seconds['one']:.1f}", f"{31.25 * seconds['many']:.2f}"


def arrays(of: object) -> Iterator[NDArray[Any]]:
    for value in vars(of).values():
        for one in value if isinstance(value, tuple) else [value]:
            if isinstance(one, np.ndarray):
                yield one


def drawn(battles: Battles, embeddings: NDArray[np.float32], size: int) -> tuple[Battles, NDArray[np.float32]]:
    """So many battles, a prompt each, and their embeddings."""
    generator = np.random.default_rng(0)
    rows = generator.choice(len(battles), size, replace=size > len(battles))
    vectors = embeddings[battles.prompt[rows]]
    for start in range(0, size if size > len(battles) else 0, BLOCK):
        part = vectors[start : start + BLOCK]
        part += generator.normal(0, 0.75 / part.shape[1] ** 0.5, part.shape).astype(np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    names, numbers = (battles.model_a[rows], battles.model_b[rows]), (battles.outcome[rows], battles.weight[rows])
    return Battles((), np.arange(size), *names, *numbers, battles.source[rows]), vectors


def bare(embeddings: NDArray[np.float32]) -> Prompts:
    nothing = np.zeros((len(embeddings), 0), np.float32)
    return Prompts([str(i) for i in range(len(embeddings))], embeddings, nothing)


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
