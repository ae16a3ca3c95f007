"""`routerd import`: what is published elsewhere, into battles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scorer.commands.shared import FILE, split

if TYPE_CHECKING:
    from scorer.importers import Imported


@click.group("import")
def group() -> None:
    """Turn judgements published elsewhere into battles (docs/battles.md), or take feedback over."""


def _converts(command: Callable[..., None]) -> Callable[..., None]:
    """What every import takes: a file, where its battles go, and what each weighs."""
    for option in (
        click.option("--weight", type=float, default=1.0, show_default=True, help="Of every battle."),
        click.option("--out", type=FILE, required=True, help="A .jsonl or .parquet file."),
        click.argument("file", type=FILE),
    ):
        command = option(command)
    return command


@group.command("matrix")
@_converts
@click.option("--models", help="The models' columns, comma-separated; all others but --metadata by default.")
@click.option("--metadata", default="", help="Columns that are no models, comma-separated.")
@click.option("--without", multiple=True, metavar="COLUMN=VALUE", help="Rows to leave out; may be given repeatedly.")
@click.option("--pairs", is_flag=True, help="Every two models against each other, instead of each against the bar.")
def import_matrix(
    file: Path, out: Path, models: str | None, metadata: str, without: tuple[str, ...], pairs: bool, weight: float
) -> None:
    """One row a prompt, one column a model: correct or not, or a score from 0 to 1."""
    from scorer import importers

    columns = split(models) if models else None
    left_out: dict[str, list[str]] = {}
    for condition in without:
        column, equals, value = condition.partition("=")
        if not equals:
            raise click.UsageError(f"--without {condition!r}: expected COLUMN=VALUE")
        left_out.setdefault(column, []).append(value)
    imported = importers.response_matrix(
        file, models=columns, metadata=split(metadata), without=left_out, pairs=pairs, weight=weight
    )
    _write(imported, out)


@group.command("pairs")
@_converts
def import_pairs(file: Path, out: Path, weight: float) -> None:
    """One row a pair of answers: model_a, model_b, preference_b, the probability that b's is better."""
    from scorer import importers

    _write(importers.judged_pairs(file, weight=weight), out)


@group.command("scores")
@_converts
@click.option("--bar", type=float, required=True, help="The score, from 1 to 10, that is just good enough.")
def import_scores(file: Path, out: Path, bar: float, weight: float) -> None:
    """One row an answer: model, and a judge's score."""
    from scorer import importers

    _write(importers.judged_answers(file, bar=bar, weight=weight), out)


@group.command("thumbs")
@_converts
def import_thumbs(file: Path, out: Path, weight: float) -> None:
    """One row a pair of answers: a thumb for each, and which is better."""
    from scorer import importers

    _write(importers.thumbs_pairs(file, weight=weight), out)


@group.command("arena")
@_converts
def import_arena(file: Path, out: Path, weight: float) -> None:
    """Chatbot Arena's battles (its CSV), or RouteLLM's judge battles, which have the same columns."""
    from scorer import importers

    _write(importers.arena(file, weight=weight), out)


def _write(imported: Imported, out: Path) -> None:
    """The battles, and how many rows they come from and do not."""
    from scorer import battles as format_
    from scorer.tables import DataError

    battles, rows, dropped = imported
    reasons = ", ".join(f"{count} ({reason})" for reason, count in dropped.items())
    if not len(battles):
        raise DataError(f"none of {rows} rows is a battle: {reasons or 'the file is empty'}")
    format_.write(out, battles)
    click.echo(f"{out}: {battles.summary}")
    click.echo(f"took {rows - sum(dropped.values())} of {rows} rows")
    click.echo(f"dropped rows: {reasons or 'none'}")
