"""Learning from ratings, replayed on real correctness: ten nights of routing, thumbs and refits.

    python -m tests.benchmarks.replay DATA/llmrouter.parquet --prior PRIOR --ladder STRONG=LIKE,...,WEAK=LIKE \\
        --cache DIR --out DIR [--rated '100 %'] [--seeds 20]

Every day the requests are routed by last night's router (half of them to the strongest model, 5 % of all explored),
users give thumbs of which 10 % are the wrong way round, and at night MF is refitted from the prior and all thumbs so
far. Held-out prompts are scored with their true outcomes. All methods see the same prompts, the same noise, and users
who rate alike; each routes by what it has learned. The prior must not have seen the file: it is checked by its record.

ours               what `routerd retrain` does: shared difficulty, a shrunken difference, clipped inverse propensities
naive              a model of its own for every model, fitted to the ratings of that model alone
full information   ours, were all models to answer every prompt and be rated
never learning     the prior

Ridges are chosen on the third and sixth night, by cross-validation on the ratings so far; with fewer than 1,000 of them
the defaults stay.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from feedback import refit
from feedback.battles import Evidence
from scorer import artifacts
from scorer.routers.factorization import Factorization, Ridge
from tests.benchmarks.streams import NIGHTS, RATINGS, Floats, Ints, Stream, matrix

METHODS = ("ours", "naive", "full information", "never learning")
_FIXED = 1e9  # precision of a vector that does not move
_SEPARATE = tuple(Ridge(shared=_FIXED, own=own, shared_level=_FIXED) for own in (0.7, 2.0, 5.0, 15.0, 45.0))
_TUNED_ON = (3, 6)  # nights
console = Console(highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a response matrix")
    parser.add_argument("--prior", type=Path, required=True, help="an MF artifact that was fitted without the file")
    parser.add_argument("--ladder", required=True, help="columns of the file, strongest first, each =what it is like")
    parser.add_argument("--cache", type=Path, required=True, help="for embeddings")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rated", choices=list(RATINGS), default="100 %")
    parser.add_argument("--seeds", type=int, default=20)
    given = parser.parse_args()
    like = dict(rung.split("=") for rung in given.ladder.split(","))
    prior = unseen(given.prior, given.file.stem)
    data = matrix(given.file, list(like), given.cache)
    seeds = track(range(given.seeds), "seeds", console=Console(stderr=True))
    apgr = np.array([replay(Stream(data, RATINGS[given.rated], seed), prior, like) for seed in seeds])
    name = f"{given.file.stem}-{len(like)}-{given.rated.replace(' %', '').replace(' ', '-')}"
    show(apgr, f"{given.file.stem}, {len(like)} models, {given.rated} rate, {given.seeds} seeds")
    save(apgr, given.out / name)


def unseen(directory: Path, name: str) -> Factorization:
    """The prior, unless its record names the file."""
    if name in artifacts.read_manifest(directory).data.get("battles", {}):
        raise SystemExit(f"{directory}: has learned from {name}")
    return Factorization.load(directory, None)


def replay(stream: Stream, prior: Factorization, like: dict[str, str]) -> Floats:
    """(methods, nights + 1) held-out APGR, before the first night and after each."""
    start = stream.apgr(prior, list(like.values()))
    curves = [learn(stream, prior, like, method) for method in METHODS[:-1]]
    return np.array([[start, *curve] for curve in curves] + [[start] * (NIGHTS + 1)])


def learn(stream: Stream, prior: Factorization, like: dict[str, str], method: str) -> list[float]:
    """APGR after each night."""
    router, known_as, ridge = prior, list(like.values()), _SEPARATE[3] if method == "naive" else Ridge()
    seen: list[tuple[Ints, Ints, Floats]] = []
    curve = []
    for night, day in enumerate(stream.days, start=1):
        if method == "full information":
            answers = np.repeat(day, len(like)), np.tile(np.arange(len(like)), len(day)), np.ones(len(day) * len(like))
        else:
            answers = day, *stream.route(day, router, known_as)
        seen.append(answers)
        evidence = stream.evidence(*(np.concatenate(column) for column in zip(*seen, strict=True)))
        if night in _TUNED_ON and len(evidence) >= refit.LEAST:
            ridge = chosen(prior, evidence, like, method)
        router, known_as = refitted(prior, evidence, like, method, ridge), list(like)
        curve.append(stream.apgr(router, known_as))
    return curve


def chosen(prior: Factorization, evidence: Evidence, like: dict[str, str], method: str) -> Ridge:
    return refit.chosen_ridge(prior, evidence, list(like), like, _SEPARATE if method == "naive" else refit.GRID)


def refitted(
    prior: Factorization, evidence: Evidence, like: dict[str, str], method: str, ridge: Ridge
) -> Factorization:
    if method == "naive":
        return prior.refit(evidence.battles, evidence.prompts, ladder=list(like), like=like, ridge=ridge)
    return refit.refit_mf(prior, evidence, ladder=list(like), like=like, ridge=ridge)


def gains(apgr: Floats, draws: int = 10_000) -> tuple[float, float, float]:
    """Our share of full information's gain after the last night, and its 95 % interval over seeds (bootstrap)."""
    ours, full, never = apgr[:, 0, -1], apgr[:, 2, -1], apgr[:, 3, -1]
    picked = np.random.default_rng(0).integers(len(apgr), size=(draws, len(apgr)))
    shares = (ours - never)[picked].mean(axis=1) / (full - never)[picked].mean(axis=1)
    return float((ours - never).mean() / (full - never).mean()), *np.quantile(shares, [0.025, 0.975])


def halfwidth(values: Floats) -> Floats:
    """Of the 95 % interval of a mean over seeds (first axis)."""
    width: Floats = 1.96 * values.std(axis=0, ddof=1) / len(values) ** 0.5
    return width


def show(apgr: Floats, title: str) -> None:
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    shown.add_column("night")
    for method in METHODS:
        shown.add_column(method, justify="right", no_wrap=True)
    mean, width = apgr.mean(axis=0), halfwidth(apgr)
    for night in range(NIGHTS + 1):
        shown.add_row(str(night), *(f"{mean[i, night]:.3f} ±{width[i, night]:.3f}" for i in range(len(METHODS))))
    console.print(shown)
    share, low, high = gains(apgr)
    lead = apgr[:, 0, -1] - apgr[:, 1, -1]
    console.print(f"share of full information's gain: {share:.1%} ({low:.1%}, {high:.1%})")
    console.print(f"ours beyond naive: {lead.mean():+.4f} ±{float(halfwidth(lead)):.4f}, paired\n")


def save(apgr: Floats, path: Path) -> None:
    """The numbers as CSV, the curves as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["seed", "method", "night", "apgr"])
        for (seed, method, night), value in np.ndenumerate(apgr):
            writer.writerow([seed, METHODS[method], night, f"{value:.6f}"])
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    mean, width = apgr.mean(axis=0), halfwidth(apgr)
    for i, method in enumerate(METHODS):
        axes.plot(mean[i], label=method)
        axes.fill_between(range(NIGHTS + 1), mean[i] - width[i], mean[i] + width[i], alpha=0.15)
    axes.set(xlabel="nights", ylabel="held-out APGR", title=path.name)
    axes.legend()
    figure.savefig(path.with_suffix(".png"), dpi=150, bbox_inches="tight")


if __name__ == "__main__":
    main()
