"""The `routerd` command. What a person did wrong is one line and exit code 2."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from scorer.artifacts import ArtifactError
from scorer.commands import (
    artifacts,
    augment,
    calibrate,
    encode,
    erase,
    evaluate,
    feedback,
    imports,
    pretrain,
    purge,
    report,
    retrain,
    route,
    sample,
    train,
    tune,
)
from scorer.commands.shared import FILE
from scorer.config import Config, ConfigError, load
from scorer.encoder import EncoderError

_EXTRA_OF = {
    "pyarrow": "train",
    "torch": "train",
    "transformers": "export",
    "psycopg": "postgres",
    "matplotlib": "evaluate",
    "xgboost": "boosted",
    "peft": "text",
    "gguf": "text",
    "accelerate": "text",
    "opentelemetry": "telemetry",
    "fsspec": "objects",
    "ray": "ray",
}


class _Commands(click.Group):
    """Tells a person's mistakes from our own: the former need no traceback."""

    def invoke(self, context: click.Context) -> Any:
        from feedback.database import StoreError
        from scorer.routers.base import Unscorable
        from scorer.tables import DataError

        try:
            return super().invoke(context)
        except (ConfigError, EncoderError, ArtifactError, StoreError, DataError, Unscorable) as error:
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
    from threadpoolctl import threadpool_limits

    from feedback.dashboard.commands import Commands
    from scorer import daemon, logs, serving

    config = load(path)
    options = serving.options(config)
    logs.configure(config.log)
    threadpool_limits(1, "blas")  # products for a few prompts are too small to share: threads would wait for each other
    program = [sys.executable, "-m", "scorer"]
    jobs = {job: [*program, job, "--config", str(path)] for job in ("retrain", "erase")}
    app = daemon.build(config, jobs["retrain"], Commands(program, path), jobs["erase"])
    listening = _listen(config)
    url = f"{'https' if config.tls else 'http'}://{config.listen}"
    click.echo(f"routerd: {' > '.join(config.models)} on {url} ({config.default}, {config.mode})")
    uvicorn.Server(uvicorn.Config(app, **options)).run(sockets=[listening])


def _listen(config: Config) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        return socket.create_server((config.host, config.port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(f"listen: {config.listen}: {error.strerror}") from None


imports.group.add_command(feedback.import_feedback)
for command in (
    encode.group,
    imports.group,
    feedback.export,
    augment.augment,
    train.group,
    pretrain.pretrain,
    sample.sample,
    calibrate.calibrate,
    evaluate.evaluate,
    report.report,
    route.route,
    tune.tune,
    retrain.retrain,
    artifacts.group,
    purge.purge,
    erase.erase,
):
    cli.add_command(command)
