"""`routerd export feedback` and `routerd import feedback`: what people said, out of the database and into it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scorer.commands.shared import FILE, in_store, progress
from scorer.config import Config, load

if TYPE_CHECKING:
    from scorer.decisions import KeptPrompt

CONFIG = click.option("--config", "path", type=FILE, default="config.yaml", show_default=True)
_DAY = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])


@click.group("export")
def export() -> None:
    """Write what the daemon has logged to a file."""


@export.command("feedback")
@CONFIG
@click.option("--out", type=FILE, required=True, help="A .jsonl or .parquet file.")
@click.option("--vectors", is_flag=True, help="With embeddings and features.")
@click.option("--after", type=_DAY, help="Only what was decided from then on, UTC.")
@click.option("--before", type=_DAY, help="Only what was decided before, UTC.")
def export_feedback(path: Path, out: Path, vectors: bool, after: datetime | None, before: datetime | None) -> None:
    """Decisions with their outcomes, current ratings, and comparisons."""
    from feedback import exports

    start, end = _seconds(after, 0.0), _seconds(before, math.inf)
    with progress("exporting") as shown:
        written = in_store(
            load(path),
            lambda store: exports.write(
                out, store, vectors=vectors, after=start, before=end, progress=lambda rows: shown(rows, rows)
            ),
        )
    click.echo(f"{out}: {written.decisions} decisions, {written.ratings} ratings, {written.comparisons} comparisons")


@click.command("feedback")
@click.argument("file", type=FILE)
@CONFIG
def import_feedback(file: Path, path: Path) -> None:
    """Take over ratings and comparisons (docs/feedback.md), all of a file or nothing.

    What is there already is not taken twice. Prompts are kept as `keep` in the configuration says.
    """
    from feedback import imports

    config = load(path)
    read = imports.read(file, lambda texts: _kept(config, texts), time.time())
    taken = in_store(config, lambda store: store.take(read.ratings, read.comparisons))
    click.echo(f"{file}: took {taken.ratings} ratings and {taken.comparisons} comparisons")
    dropped = {
        "there already": taken.repeated,
        "of decisions that nobody has heard of": taken.unknown,
        "decisions, which are not imported": read.decisions,
    }
    reasons = ", ".join(f"{count} ({reason})" for reason, count in dropped.items() if count)
    click.echo(f"dropped rows: {reasons or 'none'}")


def _kept(config: Config, texts: Sequence[str]) -> list[KeptPrompt]:
    """What is kept of prompts, read as those of requests are."""
    from gateway_plugin import prompt
    from scorer import hosting, training
    from scorer.decisions import kept

    asked = [prompt.extract({"prompt": text}).text for text in texts]
    if config.keep == "hash":
        return [kept("hash", text, "", b"", b"") for text in asked]
    encoder = hosting.load_encoder(config)
    with progress("encoding") as shown:
        prompts = training.encode(encoder, asked, shown)
    vectors = zip(prompts.embeddings.astype("<f4"), prompts.features.astype("<f4"), strict=True)
    return [
        kept(config.keep, text, encoder.id, embedding.tobytes(), features.tobytes())
        for text, (embedding, features) in zip(asked, vectors, strict=True)
    ]


def _seconds(day: datetime | None, otherwise: float) -> float:
    return otherwise if day is None else day.replace(tzinfo=UTC).timestamp()
