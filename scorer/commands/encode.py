"""`routerd encoder`: what prompts are read through."""

from __future__ import annotations

from pathlib import Path

import click

from scorer.commands.shared import FILE, progress
from scorer.sections import ENCODERS


@click.group("encoder")
def group() -> None:
    """The encoder that routers read prompts through."""


@group.command("export")
@click.argument("name", type=click.Choice(ENCODERS), default="minilm")
@click.option("--source", help="An installed package, a local Hugging Face directory, or a hub name.")
@click.option("--cache", type=FILE, help="Where encoders are kept.")
@click.option("--precision", type=click.Choice(["fp32", "int8"]), default="fp32", show_default=True)
@click.option("--check", type=FILE, help="A table with a column `prompt`, to compare int8 with fp32 on.")
@click.option("--out", type=FILE, help="With static: its directory, instead of one in the cache.")
def export_encoder(
    name: str, source: str | None, cache: Path | None, precision: str, check: Path | None, out: Path | None
) -> None:
    """Export the sentence encoder to ONNX (minilm), once, or distil it (static); needs routerd[export].

    The static encoder ships with the package: only one of another source needs this.
    """
    from scorer import distil, export

    if name == "static":
        if precision == "int8" or check:
            raise click.UsageError("--precision and --check are of minilm; static is int8 as it is")
        click.echo(f"encoder: {distil.distil(source or export.SOURCE, cache, out=out)}")
        return
    if out:
        raise click.UsageError("--out is of static; minilm goes into the cache")
    if check and precision == "fp32":
        raise click.UsageError("--check goes with --precision int8")
    exported = export.export(source or export.SOURCE, cache)
    if precision == "int8":
        _reduce(exported, check)
    click.echo(f"encoder: {exported}")


def _reduce(exported: Path, check: Path | None) -> None:
    """To int8, or says why not."""
    from scorer import precision, tables

    texts = tables.read_table(check).texts("prompt") if check else precision.PROBES
    with progress("comparing int8 with fp32") as shown:
        agreement = precision.reduce(exported, texts, shown)
    verdict = "int8 is kept" if agreement.passes else "too far apart: fp32 is kept"
    click.echo(f"int8 beside fp32 on {len(texts)} prompts: cosine {agreement.mean:.4f} in the mean and at least")
    click.echo(f"{agreement.least:.4f}; {precision.MEAN} and {precision.LEAST} are asked for: {verdict}")
