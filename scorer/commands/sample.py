"""`routerd sample`: prompts to set thresholds by, as an encoder reads them."""

from __future__ import annotations

from pathlib import Path

import click

from scorer.commands.shared import FILE, load_encoder, progress, with_encoder


@click.command()
@click.option("--prompts", "files", type=FILE, multiple=True, required=True, help="Tables with a column `prompt`.")
@click.option("--name", required=True, help="What it is called, before the number of its prompts.")
@click.option("--out", type=FILE, required=True, help="The artifact's directory; it must not exist yet.")
@with_encoder
def sample(files: tuple[Path, ...], name: str, out: Path) -> None:
    """Keep a sample of prompts to calibrate by, as ships: embeddings, features and hashes, never the texts."""
    from scorer import calibration, features, tables, training

    texts = list(dict.fromkeys(text for file in files for text in tables.read_table(file).texts("prompt")))
    if not texts:
        raise tables.DataError(f"{', '.join(map(str, files))}: no prompts")
    encoder = load_encoder()
    with progress("encoding") as shown:
        prompts = training.encode(encoder, texts, shown)
    name = f"{name}-{len(texts)}"
    click.echo(f"{calibration.save_sample(out, encoder.id, features.NAMES, prompts, name)}: {name}")
