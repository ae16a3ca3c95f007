"""`routerd evaluate`: routers on benchmarks, beside baselines."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scorer.commands.shared import FILE, load_encoder, progress, split, with_encoder

if TYPE_CHECKING:
    from scorer.evaluation.benchmarks import Benchmark
    from scorer.evaluation.methods import Method
    from scorer.evaluation.metrics import Floats
    from scorer.routers.base import Encodes, Prompts


@click.command()
@click.option(
    "--benchmark",
    "named",
    multiple=True,
    required=True,
    metavar="NAME=PATH",
    help="May be given repeatedly; PATH: also a database's URL or a configuration, for its rated decisions.",
)
@click.option("--routers", default="mf,random", show_default=True, help="Comma-separated; NAME=DIRECTORY: an artifact.")
@click.option(
    "--strong", default="gpt-4-1106-preview", show_default=True, help="The strong model; MODEL=LIKE: as below."
)
@click.option("--weak", default="mixtral-8x7b-instruct-v0.1", show_default=True, help="The weak model.")
@click.option("--ladder", help="Two or more models instead, strongest first; MODEL=LIKE names one that routers know.")
@click.option("--prices", type=FILE, help="JSON of dollars per million tokens, where a benchmark has no costs.")
@click.option("--neighbours", type=FILE, help="Known results for kNN; without, the benchmark's own, cross-fitted.")
@click.option("--points", "published", type=FILE, help="CSV of other routers' points to draw.")
@with_encoder
@click.option("--draws", type=click.IntRange(2), default=1000, show_default=True, help="Bootstrap samples.")
@click.option("--out", type=FILE, required=True, help="Where report.json, report.csv and the plots go.")
def evaluate(
    named: tuple[str, ...],
    routers: str,
    strong: str,
    weak: str,
    ladder: str | None,
    prices: Path | None,
    neighbours: Path | None,
    published: Path | None,
    draws: int,
    out: Path,
) -> None:
    """Routers beside baselines and the oracle, with 95 % intervals, tests and plots (docs/evaluation.md)."""
    from scorer.commands import databases
    from scorer.evaluation import benchmarks, methods, output, plots, points, report

    models, likes = _ladder(split(ladder) if ladder else [strong, weak])
    places = [_named(one) for one in named]
    logs = [databases.find(*one, models, likes) for one in places if databases.is_database(one[1])]
    files = [(name, Path(place)) for name, place in places if not databases.is_database(place)]
    loaded = benchmarks.load_all(files, models, prices)
    known = benchmarks.load("labels", neighbours, models) if neighbours else None
    others = points.read(published) if published else []
    points.check(others, [benchmark.name for benchmark in loaded])
    plots.require()
    encoder = load_encoder()
    routed = methods.routers(split(routers), likes, encoder)
    compared = [*routed, methods.prompt_length(), *methods.litellm()]
    compared.append(methods.neighbours(known, _encoding(known, encoder) if known else None, encoder.id))
    reports = []
    for benchmark in loaded:
        encoded = _encoding(benchmark, encoder)
        scores = {method.name: _scored(method, benchmark, encoded, out) for method in compared}
        contestants = [method.name for method in routed if method.name != "random"]
        with progress(f"resampling {benchmark.name}") as shown:
            found = report.evaluate(benchmark, scores, contestants, points=others, draws=draws, progress=shown)
        reports.append(found)
        click.echo(f"{output.text(found)}\n")
    about = {method.name: method.identity for method in compared}
    saved = output.save(reports, about, out) if reports else []
    saved += [path for found in reports for path in plots.save(found, out)]
    for log in logs:
        saved += databases.evaluate(log, split(routers), encoder, draws, out)
    for path in saved:
        click.echo(path)


def _scored(method: Method, benchmark: Benchmark, encoded: Callable[[], Prompts], out: Path) -> Floats:
    from scorer.evaluation import methods

    with progress(f"{method.name} on {benchmark.name}") as shown:
        return methods.score(method, benchmark, encoded, out / "scores", shown)


def _ladder(given: list[str]) -> tuple[list[str], list[str]]:
    """The benchmark's names of the models, and the names that routers know them by."""
    pairs = [name.partition("=") for name in given]
    return [model for model, _, _ in pairs], [like or model for model, _, like in pairs]


def _named(benchmark: str) -> tuple[str, str]:
    """Its name and place; a URL may hold an equals sign of its own."""
    name, equals, place = benchmark.partition("=")
    if equals and "://" not in name:
        return name, place
    return ("feedback" if "://" in benchmark else Path(benchmark).stem), benchmark


def _encoding(benchmark: Benchmark, encoder: Encodes) -> Callable[[], Prompts]:
    """Encodes the benchmark's prompts when first called, and never again."""
    from scorer import training

    @cache
    def encoded() -> Prompts:
        with progress(f"encoding {benchmark.name}") as shown:
            return training.encode(encoder, benchmark.prompts, shown)

    return encoded
