"""Do off-policy intervals hold the truth? A thousand logs simulated from real scores, where the truth is known.

    python -m tests.benchmarks.ope MATRIX [--logs 1000] [--cases all,some,selected] [--cache FILE]

MATRIX has a column `prompt` and one for each model, scores from 0 to 1. A router is fitted on one half of the prompts;
logs are drawn from the other. Each log draws for itself how much the logging policy explores (5 to 20 %), its and the
target's strong shares, how many decisions there are, how long sessions are (1 to 5, of one kind, with one draw for
all), and how many decisions are rated. A thumb is up with the score's probability, then flipped with 10 %. Logs with an
effective size below 100 are drawn again, as the report gives no interval for them.

Prints, for logs on which everybody rates and on which few do, bias, error, coverage of the 95 % intervals and their
width. Then the same where raters of bad answers are twice as likely: what the raters would say is estimated, what
everybody would say is not, and how often the bounds for raters selected twofold hold it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from feedback import ope, policies, raters, regression
from feedback.contexts import context
from feedback.ope import Estimate, Floats, Ints, Logged
from scorer import sampler, tables, training
from scorer.encoder import Encoder, resolve

NOISE = 0.1
MODELS = ("strong", "weak")
CASES = {  # title, the least and the largest share rated, how many times as likely bad answers are
    "all": ("everybody rates", 1.0, 1.0, 1.0),
    "some": ("10 to 50 % rate", 0.1, 0.5, 1.0),
    "selected": ("10 to 50 % rate, bad answers twice as likely", 0.1, 0.5, 2.0),
}
console = Console(highlight=False, width=110)


@dataclass(frozen=True)
class World:
    """N prompts: what a router says of them, what it has to go by, and how good both models' answers are."""

    win_rates: Floats  # (N, 2)
    context: Floats  # (N, k)
    thumbs: Floats  # (N, 2): P(up), noise included
    kinds: Ints  # (N,): which sort of prompt


class Scenario(NamedTuple):
    """Drawn for each log."""

    exploration: float
    share: float
    target_share: float
    decisions: int
    longest: int  # session
    rated: float


class Result(NamedTuple):
    """Estimates of one log, by name, and what each should be."""

    estimates: dict[str, Estimate]
    truths: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("matrix", type=Path)
    parser.add_argument("--strong", default="llama-3.1-nemotron-51b-instruct")
    parser.add_argument("--weak", default="mistral-7b-instruct-v0.3")
    parser.add_argument("--kind", default="task", help="the column of prompts' kinds, of which sessions are")
    parser.add_argument("--logs", type=int, default=1000)
    parser.add_argument("--cases", default=",".join(CASES), help="which of the three")
    parser.add_argument("--cache", type=Path, help="an .npz for the encoded prompts")
    chosen = parser.parse_args()
    world = load(chosen.matrix, (chosen.strong, chosen.weak), chosen.kind, chosen.cache)
    for case in chosen.cases.split(","):
        title, fewest, most, gamma = CASES[case]
        seeds = track(range(chosen.logs), title, transient=True)
        show(f"{title}: {chosen.logs} logs", [one(world, seed, fewest, most, gamma) for seed in seeds])


def load(matrix: Path, pair: tuple[str, str], kind: str, cache: Path | None) -> World:
    """The half of the prompts that the router was not fitted on."""
    table = tables.read_table(matrix)
    thumbs = np.array([table.numbers(model, 0, 1) for model in pair]).T * (1 - 2 * NOISE) + NOISE
    _, kinds = np.unique(table.texts(kind), return_inverse=True)
    embeddings, features = encoded(table.texts("prompt"), cache)
    halves = np.random.default_rng(0).permutation(len(thumbs)) % 2
    fitting, rest = halves == 0, halves == 1
    x = context(embeddings, features, np.zeros((len(thumbs), 0)))
    gain = thumbs[:, 0] - thumbs[:, 1]
    gram = x[fitting].T @ x[fitting] + 300 * np.eye(x.shape[1])
    beta = np.linalg.solve(gram, x[fitting].T @ (gain[fitting] - gain[fitting].mean()))
    won = 0.5 + (gain[fitting].mean() + x @ beta) / 2
    win_rates = np.stack([np.full(len(won), 0.5), won], axis=1)
    known = context(embeddings[rest], features[rest], win_rates[rest])
    return World(win_rates[rest], known, thumbs[rest], kinds[rest])


def encoded(texts: list[str], cache: Path | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if cache and cache.exists():
        held = np.load(cache)
        return held["embeddings"], held["features"]
    with console.status("encoding"):
        prompts = training.encode(Encoder.load(resolve()), texts)
    if cache:
        np.savez(cache, embeddings=prompts.embeddings, features=prompts.features)
    return prompts.embeddings, prompts.features


def one(world: World, seed: int, fewest: float, most: float, gamma: float) -> Result:
    """Logs until one has overlap enough."""
    generator = np.random.default_rng(seed)
    while True:
        found = attempt(world, scenario(generator, fewest, most), gamma, generator)
        if found.estimates["DR"].enough:
            return found


def scenario(generator: np.random.Generator, fewest: float, most: float) -> Scenario:
    return Scenario(
        exploration=generator.uniform(0.05, 0.2),
        share=generator.uniform(0.1, 0.9),
        target_share=generator.uniform(0, 1),
        decisions=int(generator.choice([1000, 2000, 4000])),
        longest=int(generator.choice([1, 5])),
        rated=generator.uniform(fewest, most),
    )


def attempt(world: World, drawn: Scenario, gamma: float, generator: np.random.Generator) -> Result:
    """One log, estimated every way. The target's own exploration is 5 %."""
    logging = policy(world, drawn.share, drawn.exploration)
    target = policy(world, drawn.target_share, 0.05)
    rows, session = requests(world, drawn, generator)
    units = [f"{drawn}/{number}" for number in range(session[-1] + 1)]
    chosen = np.array([place(logging[row], units[number]) for row, number in zip(rows, session, strict=True)])
    up = generator.random(len(rows)) < world.thumbs[rows, chosen]
    who = rating(world, drawn, logging)[rows, chosen] * np.where(up, 1.0 / gamma, 1.0)
    reward = np.where(generator.random(len(rows)) < who, up, np.nan)
    logged = Logged(chosen, logging[rows], reward, np.full(len(rows), np.nan), session)
    if ope.effective_size(ope.weights(logged, target[rows]) * ~np.isnan(reward), session) < ope.LEAST_SIZE:
        return Result({"DR": Estimate(np.nan, np.nan, np.nan, np.nan, 0.0)}, {})
    return Result(
        estimated(logged, target[rows], world, rows),
        truths(world, target, rating(world, drawn, logging), gamma),
    )


def policy(world: World, share: float, exploration: float) -> Floats:
    """(N, 2) probabilities of the router at a strong share."""
    threshold = float(np.quantile(world.win_rates[:, 1], 1 - share))
    return policies.routed(world.win_rates, np.ones_like(world.win_rates, bool), MODELS, threshold, exploration)


def requests(world: World, drawn: Scenario, generator: np.random.Generator) -> tuple[Ints, Ints]:
    """Which prompts were sent, in which session; a session's are of one kind."""
    lengths = generator.integers(1, drawn.longest + 1, drawn.decisions)
    session = np.repeat(np.arange(drawn.decisions), lengths)[: drawn.decisions]
    kind = world.kinds[generator.integers(0, len(world.kinds), session[-1] + 1)][session]
    by_kind, sizes = np.argsort(world.kinds, kind="stable"), np.bincount(world.kinds)
    rows = (np.cumsum(sizes) - sizes)[kind] + (generator.random(len(kind)) * sizes[kind]).astype(np.int64)
    return by_kind[rows], session


def place(probabilities: Floats, unit: str) -> int:
    """The daemon's own draw."""
    return MODELS.index(sampler.draw(dict(zip(MODELS, probabilities.tolist(), strict=True)), unit))


def rating(world: World, drawn: Scenario, logging: Floats) -> Floats:
    """(N, 2): P(rated) of a bad answer: more often for the weak model, and for what the router thinks hard."""
    odds = drawn.rated / (1 - drawn.rated) if drawn.rated < 1 else np.inf
    tilt = np.exp(np.array([-0.25, 0.25]) + 2 * (world.win_rates - 0.5))
    chance: Floats = np.where(np.isinf(odds), 1.0, 1 - 1 / (1 + np.minimum(odds, 1e9) * tilt))
    return chance


def truths(world: World, target: Floats, chance: Floats, gamma: float) -> dict[str, float]:
    up, down = world.thumbs * chance / gamma, (1 - world.thumbs) * chance
    among = float((target * up).sum() / (target * (up + down)).sum())
    everyone = float((target * world.thumbs).sum() / len(target))
    return dict.fromkeys(("IPS", "SNIPS", "DR"), among) | {"DR, everyone": everyone, "bounds": everyone}


def estimated(logged: Logged, target: Floats, world: World, rows: Ints) -> dict[str, Estimate]:
    q = regression.cross_fitted(world.context[rows], logged.chosen, logged.reward, logged.cluster, 2)
    rated = raters.rated(logged, world.win_rates[rows])
    terms = {
        "IPS": ope.ips(logged, target, logged.reward),
        "SNIPS": ope.snips(logged, target, logged.reward),
        "DR": ope.dr(logged, target, logged.reward, q, rated),
        "DR, everyone": ope.dr_everyone(logged, target, logged.reward, q, rated),
    }
    found = {name: ope.estimate(each, logged.cluster) for name, each in terms.items()}
    return found | {"bounds": bounds(found["DR, everyone"], 2.0)}


def bounds(found: Estimate, gamma: float) -> Estimate:
    """The interval for everybody, if raters are selected by what they think up to gamma times, either way."""
    low, high = ope.under_selection(found.low, 1 / gamma), ope.under_selection(found.high, gamma)
    return replace(found, low=low, high=high)


def show(title: str, results: list[Result]) -> None:
    table = Table("", "bias", "RMSE", "coverage of 95 %", "mean width", title=title, title_justify="left", box=None)
    for name in results[0].estimates:
        pairs = [(each.estimates[name], each.truths[name]) for each in results]
        errors = np.array([found.value - truth for found, truth in pairs])
        given = [(found, truth) for found, truth in pairs if found.enough]
        held = np.array([found.low <= truth <= found.high for found, truth in given])
        width = np.mean([found.high - found.low for found, _ in given])
        doubt = 1.96 * np.sqrt(held.mean() * (1 - held.mean()) / len(held))
        table.add_row(
            name,
            "" if name == "bounds" else f"{errors.mean():+.4f}",
            "" if name == "bounds" else f"{np.sqrt((errors**2).mean()):.4f}",
            f"{held.mean():.1%} ± {doubt:.1%} of {len(held)}",
            f"{width:.4f}",
        )
    console.print(table)
    console.print()


if __name__ == "__main__":
    main()
