"""The `routerd` command. What a person did wrong is one line and exit code 2."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from scorer.artifacts import ArtifactError
from scorer.commands import evaluate, imports, train
from scorer.commands.shared import FILE, progress
from scorer.config import Config, ConfigError, load
from scorer.encoder import EncoderError

if TYPE_CHECKING:
    from feedback.store import Store
    from scorer.calibration import Calibration
    from scorer.encoder import Encoder
    from scorer.routers.base import Prompts

_LEAST_TRAFFIC = 100  # prompts, to calibrate on; fewer say little about a share

T = TypeVar("T")
_EXTRA_OF = {
    "pyarrow": "train",
    "torch": "train",
    "transformers": "export",
    "psycopg": "postgres",
    "matplotlib": "evaluate",
}


class _Commands(click.Group):
    """Tells a person's mistakes from our own: the former need no traceback."""

    def invoke(self, context: click.Context) -> Any:
        from feedback.database import StoreError
        from scorer.tables import DataError

        try:
            return super().invoke(context)
        except (ConfigError, EncoderError, ArtifactError, StoreError, DataError) as error:
            _give_up(str(error))
        except ModuleNotFoundError as error:
            extra = _EXTRA_OF.get((error.name or "").split(".")[0])
            if extra is None:
                raise
            _give_up(f"{error.name} is not installed; this needs: pip install 'routerd[{extra}]'")


def _give_up(fault: str) -> NoReturn:
    click.echo(f"routerd: {fault}", err=True)
    sys.exit(2)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Decides which model answers each request of a LiteLLM proxy, and learns from ratings."""


@cli.command()
@click.option("--config", "path", type=FILE, default="config.yaml", show_default=True)
def serve(path: Path) -> None:
    """Run the scoring daemon."""
    import uvicorn

    from scorer import daemon

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = load(path)
    app = daemon.build(config)
    listening = _listen(config)
    click.echo(f"routerd: {' > '.join(config.models)} on http://{config.listen} ({config.default}, {config.mode})")
    served = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=75,  # longer than the plugin keeps a connection, so that it never meets a closing one
        timeout_graceful_shutdown=10,
    )
    uvicorn.Server(served).run(sockets=[listening])


def _listen(config: Config) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        return socket.create_server((config.host, config.port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(f"listen: {config.listen}: {error.strerror}") from None


@cli.group()
def encoder() -> None:
    """The sentence encoder that all routers read prompts through."""


@encoder.command("export")
@click.option("--source", help="An installed package, a local Hugging Face directory, or a hub name.")
@click.option("--cache", type=FILE, help="Where encoders are kept.")
def export_encoder(source: str | None, cache: Path | None) -> None:
    """Export the encoder to ONNX, once; needs routerd[export]."""
    from scorer import export

    click.echo(f"encoder: {export.export(source or export.SOURCE, cache)}")


@cli.command()
@click.option("--config", "path", type=FILE, default="config.yaml", show_default=True)
@click.option("--router", "name", help="The default's router, unless another one is named.")
@click.option("--strong-share", type=click.FloatRange(0, 1), required=True, help="Of traffic to the strongest model.")
@click.option("--prompts", "file", type=FILE, help="A table with a column `prompt`, instead of logged traffic.")
@click.option("--last", type=click.IntRange(1), default=10_000, show_default=True, help="Logged prompts to take.")
@click.option("--requests", type=click.IntRange(1), default=1000, show_default=True, help="To predict the share of.")
def calibrate(path: Path, name: str | None, strong_share: float, file: Path | None, last: int, requests: int) -> None:
    """Fit what router-<router>-p<share> means to your own traffic.

    Running daemons follow within ten seconds.
    """
    from gateway_plugin import names
    from scorer import calibration, daemon

    config = load(path)
    name = name or names.parse(config.default).router
    if name not in config.routers:
        raise ConfigError(f"--router {name}: {path} lists {', '.join(config.routers)}")
    scoring = daemon.load_scoring(config)
    router = scoring.hosted[name].router
    sample, prompts = _from_file(file, scoring.encoder) if file else _from_traffic(config, scoring.encoder.id, last)
    fitted = calibration.calibrate(router, config.known_as, sample, prompts)
    _keep(config, name, router.version, fitted)
    threshold = fitted.threshold(strong_share)
    low, high = fitted.prediction_interval(threshold, requests)
    click.echo(f"{name} {router.version} on {sample}, {len(prompts)} prompts: threshold {threshold:.4f}")
    click.echo(
        f"{fitted.share(threshold):.1%} of them go to {config.models[0]}; of the next {requests} requests like them "
        f"{low:.1%} to {high:.1%} will (95 % prediction interval)"
    )


def _from_file(file: Path, encoder: Encoder) -> tuple[str, Prompts]:
    """A sample's name and prompts."""
    from scorer import tables, training

    texts = tables.read_table(file).texts("prompt")
    with progress(f"encoding {file.name}") as shown:
        return file.name, training.encode(encoder, texts, shown)


def _from_traffic(config: Config, encoder_id: str, last: int) -> tuple[str, Prompts]:
    """A sample's name and prompts, as they were logged; of the texts, their hashes."""
    import numpy as np

    from scorer.routers.base import Prompts

    logged = _in_store(config, lambda store: store.traffic(encoder_id, last))
    if len(logged) < _LEAST_TRAFFIC:
        raise ConfigError(
            f"{len(logged)} prompts are logged with their embeddings, {_LEAST_TRAFFIC} are needed; give --prompts FILE"
        )
    embeddings = np.array([np.frombuffer(one.embedding, "<f4") for one in logged])
    features = np.array([np.frombuffer(one.features, "<f4") for one in logged])
    return "logged traffic", Prompts([one.text_hash for one in logged], embeddings, features)


def _keep(config: Config, router: str, version: str, fitted: Calibration) -> None:
    from feedback.records import StoredCalibration

    stored = StoredCalibration(
        router=router,
        version=version,
        ladder=config.known_as,
        sample=fitted.sample,
        lowest=fitted.lowest.astype("<f4").tobytes(),
    )
    _in_store(config, lambda store: store.add_calibration(stored))


def _in_store(config: Config, work: Callable[[Store], Awaitable[T]]) -> T:
    from scorer import daemon

    async def run() -> T:
        store = daemon.open_store(config)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


for command in (imports.group, train.group, evaluate.evaluate):
    cli.add_command(command)
