"""`routerd train`: battles to a router's artifact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scorer.commands.shared import FILE, load_encoder, progress

if TYPE_CHECKING:
    from scorer.encoder import Encoder
    from scorer.training import TrainingSet


@click.group("train")
def group() -> None:
    """Fit a router from battles; needs routerd[train]."""


def _learns(command: Callable[..., None]) -> Callable[..., None]:
    """The options that all routers are trained with."""
    for option in (
        click.option("--out", type=FILE, required=True, help="The artifact's directory; it must not exist yet."),
        click.option("--least", type=int, default=1, show_default=True, help="Battles a model needs to be learned."),
        click.option("--evaluation", type=FILE, multiple=True, help="Tables whose `prompt`s must not be learned from."),
        click.option("--battles", type=FILE, multiple=True, required=True, help="Battles; may be given repeatedly."),
    ):
        command = option(command)
    return command


@group.command("mf")
@_learns
def train_mf(battles: tuple[Path, ...], evaluation: tuple[Path, ...], least: int, out: Path) -> None:
    """Fit matrix factorization; needs PyTorch."""
    from scorer import features
    from scorer.routers.factorization import Factorization

    encoder = load_encoder()
    data = _training_set(encoder, battles, evaluation, least)
    router = Factorization.fit(
        data.battles,
        data.prompts,
        encoder_id=encoder.id,
        features=features.NAMES,
        data=data.record,
        progress=lambda restart, epoch, loss: click.echo(f"restart {restart}, epoch {epoch}: held-out loss {loss:.4f}"),
    )
    click.echo(f"{router.save(out)}: version {router.version}")


@group.command("sw")
@_learns
@click.option("--variant", type=click.Choice(["sharp", "upstream"]), default="sharp", show_default=True)
def train_sw(battles: tuple[Path, ...], evaluation: tuple[Path, ...], least: int, out: Path, variant: str) -> None:
    """Collect battles for similarity-weighted ranking; RouteLLM's own form is `upstream`."""
    from scorer import features
    from scorer.routers.similarity import Sharp, Similarity, Upstream

    encoder = load_encoder()
    data = _training_set(encoder, battles, evaluation, least)
    router = Similarity.fit(
        data.battles,
        data.prompts,
        encoder_id=encoder.id,
        features=features.NAMES,
        chosen=Sharp() if variant == "sharp" else Upstream(),
        data=data.record,
    )
    click.echo(f"{router.save(out)}: version {router.version}")


def _training_set(encoder: Encoder, battles: tuple[Path, ...], evaluation: tuple[Path, ...], least: int) -> TrainingSet:
    """The battles, cleared and encoded; says what was taken and what was dropped."""
    from scorer import training

    with progress("encoding") as shown:
        data = training.training_set(battles, encoder, evaluation_files=evaluation, least_battles=least, progress=shown)
    players = len(data.battles.players)
    click.echo(f"{len(data.battles)} battles on {len(data.prompts)} prompts between {players} players")
    click.echo(
        f"dropped: {data.dropped_by_text} prompts that hold an evaluation prompt, {data.dropped_by_cosine} close to one"
    )
    return data
