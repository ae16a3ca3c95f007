"""`routerd calibrate`: what a share means, fitted to one's own traffic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from scorer.commands.shared import FILE, in_store, progress
from scorer.config import Config, ConfigError, load, unhurried
from scorer.sections import ENCODERS, EncoderConfig

if TYPE_CHECKING:
    from scorer.routers.base import Encodes, Prompts


@click.command()
@click.option("--config", "path", type=FILE, default="config.yaml", show_default=True)
@click.option("--router", "name", help="The default's router, unless another one is named.")
@click.option("--strong-share", type=click.FloatRange(0, 1), required=True, help="Of traffic to the strongest model.")
@click.option("--prompts", "file", type=FILE, help="A table with a column `prompt`, instead of logged traffic.")
@click.option("--last", type=click.IntRange(1), default=10_000, show_default=True, help="Logged prompts to take.")
@click.option("--requests", type=click.IntRange(1), default=1000, show_default=True, help="To predict the share of.")
@click.option("--encoder", type=click.Choice(ENCODERS), help="Another one than the configuration's.")
def calibrate(
    path: Path,
    name: str | None,
    strong_share: float,
    file: Path | None,
    last: int,
    requests: int,
    encoder: str | None,
) -> None:
    """Fit what router-<router>-p<share> means to your own traffic.

    Running daemons follow within ten seconds.
    """
    from feedback import calibrations
    from gateway_plugin import names
    from scorer import calibration, hosting
    from scorer.routers.base import ReadsText

    config = unhurried(load(path))
    if encoder:
        config = msgspec.structs.replace(config, encoder=EncoderConfig(encoder, threads=config.encoder.threads))
    name = name or names.parse(config.default).router
    if name not in config.routers:
        raise ConfigError(f"--router {name}: {path} lists {', '.join(config.routers)}")
    scoring = hosting.load_scoring(config)
    in_store(config, lambda store: hosting.follow(config, store, scoring))
    router, ladder = scoring.hosted[name].router, scoring.hosted[name].ladder
    if isinstance(router, ReadsText):
        sample, prompts = _texts(config, file, last)
    else:
        sample, prompts = _from_file(file, scoring.encoder) if file else _from_traffic(config, scoring.encoder.id, last)
    with progress(f"scoring {sample}") as shown:
        fitted = calibration.calibrate(router, ladder, sample, prompts, shown)
    in_store(config, lambda store: store.add_calibration(calibrations.stored(router, ladder, fitted)))
    threshold = fitted.threshold(strong_share)
    low, high = fitted.prediction_interval(threshold, requests)
    click.echo(f"{name} {router.version} on {sample}, {len(prompts)} prompts: threshold {threshold:.4f}")
    click.echo(
        f"{fitted.share(threshold):.1%} of them go to {config.models[0]}; of the next {requests} requests like them "
        f"{low:.1%} to {high:.1%} will (95 % prediction interval)"
    )


def _texts(config: Config, file: Path | None, last: int) -> tuple[str, Prompts]:
    """A sample's name and prompts for a router that reads texts: without vectors."""
    import numpy as np

    from feedback import calibrations
    from scorer import tables
    from scorer.routers.base import Prompts

    if file:
        sample, texts = file.name, tables.read_table(file).texts("prompt")
    else:
        sample, texts = calibrations.TRAFFIC, in_store(config, lambda store: store.texts(last))
        if len(texts) < calibrations.LEAST_TRAFFIC:
            raise ConfigError(
                f"{len(texts)} prompts are logged with their texts (`keep: text`), {calibrations.LEAST_TRAFFIC} are"
                " needed; give --prompts FILE"
            )
    nothing = np.zeros((len(texts), 0), np.float32)
    return sample, Prompts(texts, nothing, nothing)


def _from_file(file: Path, encoder: Encodes) -> tuple[str, Prompts]:
    """A sample's name and prompts."""
    from scorer import tables, training

    texts = tables.read_table(file).texts("prompt")
    with progress(f"encoding {file.name}") as shown:
        return file.name, training.encode(encoder, texts, shown)


def _from_traffic(config: Config, encoder_id: str, last: int) -> tuple[str, Prompts]:
    """A sample's name and prompts, as they were logged; of the texts, their hashes."""
    from feedback import calibrations

    logged = in_store(config, lambda store: store.traffic(encoder_id, last))
    if len(logged) < calibrations.LEAST_TRAFFIC:
        raise ConfigError(
            f"{len(logged)} prompts are logged with their embeddings, {calibrations.LEAST_TRAFFIC} are needed;"
            " give --prompts FILE"
        )
    return calibrations.TRAFFIC, calibrations.prompts(logged)
