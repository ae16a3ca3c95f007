"""Learning from ratings, replayed on real correctness: ten nights of routing, thumbs and refits.

    python -m tests.benchmarks.replay DATA/llmrouter.parquet --prior PRIOR --ladder STRONG=LIKE,...,WEAK=LIKE \\
        --cache DIR --out DIR [--rated '100 %'] [--seeds 0:20] [--sw PRIOR]

PRIOR is an artifact of `routerd train mf` (of `train sw` for --sw) that has not seen the file: its record is checked.

Every day the requests are routed by last night's router (half of them to the strongest model, 5 % of all explored),
users give thumbs of which 10 % are the wrong way round, and at night MF is refitted from the prior and all thumbs so
far. Held-out prompts are scored with their true outcomes. All methods see the same prompts, the same noise, and users
who rate alike; each routes by what it has learned.

ours               what `routerd retrain` does: shared difficulty, a shrunken difference, clipped inverse propensities
naive              a model of its own for every model, fitted to the ratings of that model alone
full information   ours, were all models to answer every prompt and be rated
never learning     the prior

With --sw, beside ours and never learning alone:

sw                  what `routerd retrain` does for SW: rows appended, with what MF expects of who did not serve
sw, never learning  its prior

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
from scipy import stats

from feedback import refit
from feedback.battles import Evidence
from scorer import artifacts
from scorer.routers.base import Router
from scorer.routers.factorization import Factorization, Ridge
from scorer.routers.similarity import Similarity
from tests.benchmarks.streams import NIGHTS, RATINGS, Floats, Ints, Stream, matrix

METHODS = ("ours", "naive", "full information")  # of MF
_FIXED = 1e9  # precision of a vector that does not move
_SEPARATE = tuple(Ridge(shared=_FIXED, own=own, shared_level=_FIXED) for own in (0.7, 2.0, 5.0, 15.0, 45.0))
_TUNED_ON = (3, 6)  # nights
_COMPARED = (("ours", "naive"), ("ours", "never learning"), ("sw", "sw, never learning"), ("ours", "sw"))
Curves = dict[str, Floats]  # by method, held-out APGR: before the first night and after each, of one seed or of all
console = Console(highlight=False, width=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a response matrix")
    parser.add_argument("--prior", type=Path, required=True, help="an MF artifact that was fitted without the file")
    parser.add_argument("--sw", type=Path, help="an SW artifact that was fitted without the file")
    parser.add_argument("--ladder", required=True, help="columns of the file, strongest first, each =what it is like")
    parser.add_argument("--cache", type=Path, required=True, help="for embeddings")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rated", choices=list(RATINGS), default="100 %")
    parser.add_argument("--seeds", type=between, default=range(20), metavar="FIRST:END", help="default 0:20")
    given = parser.parse_args()
    like = dict(rung.split("=") for rung in given.ladder.split(","))
    prior = Factorization.load(unseen(given.prior, given.file.stem), None)
    sw = Similarity.load(unseen(given.sw, given.file.stem), None) if given.sw else None
    data = matrix(given.file, list(like), given.cache)
    seeds = track(given.seeds, "seeds", console=Console(stderr=True))
    replays = [replay(Stream(data, RATINGS[given.rated], seed), prior, like, sw) for seed in seeds]
    curves = {method: np.array([one[method] for one in replays]) for method in replays[0]}
    about = f"seeds {given.seeds.start} to {given.seeds.stop - 1}"
    name = f"{given.file.stem}-{len(like)}-{given.rated.replace(' %', '').replace(' ', '-')}"
    save(curves, given.seeds, given.out / name)
    show(curves, f"{given.file.stem}, {len(like)} models, {given.rated} rate, {about}")


def between(text: str) -> range:
    """FIRST:END, without the END; two seeds at least, since intervals are over seeds."""
    first, _, end = text.partition(":")
    seeds = range(int(first), int(end))
    if len(seeds) < 2:
        raise ValueError(text)
    return seeds


def unseen(directory: Path, name: str) -> Path:
    """The prior's directory, unless its record names the file."""
    if name in artifacts.read_manifest(directory).data.get("battles", {}):
        raise SystemExit(f"{directory}: has learned from {name}")
    return directory


def replay(stream: Stream, prior: Factorization, like: dict[str, str], sw: Similarity | None) -> Curves:
    methods = ("ours",) if sw else METHODS
    curves = {method: learn(stream, prior, like, method) for method in methods}
    curves["never learning"] = unmoved(stream, prior, like)
    if sw:
        curves["sw"] = learn(stream, prior, like, "sw", sw)
        curves["sw, never learning"] = unmoved(stream, sw, like)
    return curves


def unmoved(stream: Stream, prior: Router, like: dict[str, str]) -> Floats:
    return np.full(NIGHTS + 1, stream.apgr(prior, list(like.values())))


def learn(
    stream: Stream, prior: Factorization, like: dict[str, str], method: str, sw: Similarity | None = None
) -> Floats:
    """Of what the method learns in MF; or in SW, if that is given."""
    router: Router = sw or prior
    known_as, ridge = list(like.values()), _SEPARATE[3] if method == "naive" else Ridge()
    seen: list[tuple[Ints, Ints, Floats]] = []
    curve = [stream.apgr(router, known_as)]
    for night, day in enumerate(stream.days, start=1):
        if method == "full information":
            answers = np.repeat(day, len(like)), np.tile(np.arange(len(like)), len(day)), np.ones(len(day) * len(like))
        else:
            answers = day, *stream.route(day, router, known_as)
        seen.append(answers)
        evidence = stream.evidence(*(np.concatenate(column) for column in zip(*seen, strict=True)))
        if night in _TUNED_ON and len(evidence) >= refit.LEAST:
            ridge = chosen(prior, evidence, like, method)
        mf = refitted(prior, evidence, like, method, ridge)
        router, known_as = refit.refit_sw(sw, evidence, mf, ladder=list(like), like=like) if sw else mf, list(like)
        curve.append(stream.apgr(router, known_as))
    return np.array(curve)


def chosen(prior: Factorization, evidence: Evidence, like: dict[str, str], method: str) -> Ridge:
    return refit.chosen_ridge(prior, evidence, list(like), like, _SEPARATE if method == "naive" else refit.GRID)


def refitted(
    prior: Factorization, evidence: Evidence, like: dict[str, str], method: str, ridge: Ridge
) -> Factorization:
    if method == "naive":
        return prior.refit(evidence.battles, evidence.prompts, ladder=list(like), like=like, ridge=ridge)
    return refit.refit_mf(prior, evidence, ladder=list(like), like=like, ridge=ridge)


def share(curves: Curves, draws: int = 10_000) -> tuple[float, float, float]:
    """Ours of full information's gain after the last night, and its 95 % interval over seeds (bootstrap)."""
    ours, full = (curves[method][:, -1] - curves["never learning"][:, -1] for method in ("ours", "full information"))
    picked = np.random.default_rng(0).integers(len(ours), size=(draws, len(ours)))
    shares = ours[picked].mean(axis=1) / full[picked].mean(axis=1)
    return float(ours.mean() / full.mean()), *np.quantile(shares, [0.025, 0.975])


def halfwidth(values: Floats) -> Floats:
    """Of the 95 % interval of a mean over seeds (first axis), by Student's t."""
    quantile = stats.t.ppf(0.975, len(values) - 1)
    width: Floats = quantile * values.std(axis=0, ddof=1) / len(values) ** 0.5
    return width


def show(curves: Curves, title: str) -> None:
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    shown.add_column("night")
    for method in curves:
        shown.add_column(method, justify="right", no_wrap=True)
    for night in range(NIGHTS + 1):
        at = [values[:, night] for values in curves.values()]
        shown.add_row(str(night), *(f"{values.mean():.3f} ±{halfwidth(values):.3f}" for values in at))
    console.print(shown)
    if "full information" in curves:
        gained, low, high = share(curves)
        console.print(f"share of full information's gain: {gained:.1%} ({low:.1%}, {high:.1%})")
    for ahead, behind in _COMPARED:
        if {ahead, behind} <= curves.keys():
            lead = curves[ahead][:, -1] - curves[behind][:, -1]
            console.print(f"{ahead} beyond {behind}: {lead.mean():+.4f} ±{halfwidth(lead):.4f}, paired")


def save(curves: Curves, seeds: range, path: Path) -> None:
    """The numbers as CSV, the curves as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "seed", "night", "apgr"])
        for method, values in curves.items():
            writer.writerows([method, seeds[i], night, f"{v:.6f}"] for (i, night), v in np.ndenumerate(values))
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for method, values in curves.items():
        mean, width = values.mean(axis=0), halfwidth(values)
        axes.plot(mean, label=method)
        axes.fill_between(range(NIGHTS + 1), mean - width, mean + width, alpha=0.15)
    axes.set(xlabel="nights", ylabel="held-out APGR", title=path.name)
    axes.legend()
    figure.savefig(path.with_suffix(".png"), dpi=150, bbox_inches="tight")
    pyplot.close(figure)


if __name__ == "__main__":
    main()
