"""The `routerd` command. The only module that prints; what a person did wrong is one line and exit code 2."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from scorer.artifacts import ArtifactError
from scorer.config import Config, ConfigError, load
from scorer.encoder import EncoderError

if TYPE_CHECKING:
    from scorer.battles import Battles
    from scorer.encoder import Encoder

_FILE = click.Path(path_type=Path)
_EXTRA_OF = {"pyarrow": "train", "torch": "train", "transformers": "export", "psycopg": "postgres"}


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
@click.option("--config", "path", type=_FILE, default="config.yaml", show_default=True)
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
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, log_level="warning", access_log=False, timeout_graceful_shutdown=10)
    )
    server.run(sockets=[listening])


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
@click.option("--cache", type=_FILE, help="Where encoders are kept.")
def export_encoder(source: str | None, cache: Path | None) -> None:
    """Export the encoder to ONNX, once; needs routerd[export]."""
    from scorer import export

    click.echo(f"encoder: {export.export(source or export.SOURCE, cache)}")


@cli.group("import")
def import_() -> None:
    """Turn judgements published elsewhere into battles (docs/battles.md)."""


@import_.command("matrix")
@click.argument("file", type=_FILE)
@click.option("--out", type=_FILE, required=True, help="A .jsonl or .parquet file.")
@click.option("--models", help="The models' columns, comma-separated; all others but --metadata by default.")
@click.option("--metadata", default="", help="Columns that are no models, comma-separated.")
@click.option("--without", multiple=True, metavar="COLUMN=VALUE", help="Rows to leave out; may be given repeatedly.")
@click.option("--weight", type=float, default=1.0, show_default=True)
def import_matrix(
    file: Path, out: Path, models: str | None, metadata: str, without: tuple[str, ...], weight: float
) -> None:
    """One row a prompt, one column a model: correct or not, or a score from 0 to 1."""
    from scorer import importers

    columns = _split(models) if models else None
    left_out: dict[str, list[str]] = {}
    for condition in without:
        column, equals, value = condition.partition("=")
        if not equals:
            raise click.UsageError(f"--without {condition!r}: expected COLUMN=VALUE")
        left_out.setdefault(column, []).append(value)
    battles = importers.response_matrix(
        file, models=columns, metadata=_split(metadata), without=left_out, weight=weight
    )
    _write(battles, out)


@import_.command("pairs")
@click.argument("file", type=_FILE)
@click.option("--out", type=_FILE, required=True, help="A .jsonl or .parquet file.")
@click.option("--weight", type=float, default=1.0, show_default=True)
def import_pairs(file: Path, out: Path, weight: float) -> None:
    """One row a pair of answers: model_a, model_b, preference_b, the probability that b's is better."""
    from scorer import importers

    _write(importers.judged_pairs(file, weight=weight), out)


@import_.command("scores")
@click.argument("file", type=_FILE)
@click.option("--out", type=_FILE, required=True, help="A .jsonl or .parquet file.")
@click.option("--bar", type=float, required=True, help="The score, from 1 to 10, that is just good enough.")
@click.option("--weight", type=float, default=1.0, show_default=True)
def import_scores(file: Path, out: Path, bar: float, weight: float) -> None:
    """One row an answer: model, and a judge's score."""
    from scorer import importers

    _write(importers.judged_answers(file, bar=bar, weight=weight), out)


@import_.command("thumbs")
@click.argument("file", type=_FILE)
@click.option("--out", type=_FILE, required=True, help="A .jsonl or .parquet file.")
@click.option("--weight", type=float, default=1.0, show_default=True)
def import_thumbs(file: Path, out: Path, weight: float) -> None:
    """One row a pair of answers: a thumb for each, and which is better."""
    from scorer import importers

    _write(importers.thumbs_pairs(file, weight=weight), out)


@cli.group()
def train() -> None:
    """Fit a router from battles; needs routerd[train]."""


@train.command("mf")
@click.option("--battles", type=_FILE, multiple=True, required=True, help="Battles; may be given repeatedly.")
@click.option("--evaluation", type=_FILE, multiple=True, help="Tables whose `prompt`s must not be learned from.")
@click.option("--least", type=int, default=1, show_default=True, help="Battles a model needs to be learned.")
@click.option("--out", type=_FILE, required=True, help="The artifact's directory; it must not exist yet.")
def train_mf(battles: tuple[Path, ...], evaluation: tuple[Path, ...], least: int, out: Path) -> None:
    """Fit matrix factorization and write its artifact."""
    from scorer import features, training
    from scorer.routers.factorization import Factorization

    encoder = _encoder()
    with _progress("encoding") as shown:
        data = training.training_set(battles, encoder, evaluation_files=evaluation, least_battles=least, progress=shown)
    click.echo(
        f"{len(data.battles)} battles on {len(data.prompts)} prompts between {len(data.battles.players)} players"
    )
    click.echo(
        f"dropped: {data.dropped_by_text} prompts that hold an evaluation prompt, {data.dropped_by_cosine} close to one"
    )
    router = Factorization.fit(
        data.battles,
        data.prompts,
        encoder_id=encoder.id,
        features=features.NAMES,
        data=data.record,
        progress=lambda restart, epoch, loss: click.echo(f"restart {restart}, epoch {epoch}: held-out loss {loss:.4f}"),
    )
    click.echo(f"{router.save(out)}: version {router.version}")


@cli.command()
@click.argument("files", type=_FILE, nargs=-1, required=True)
@click.option("--router", "name", default="mf", show_default=True, help="mf or random.")
@click.option("--artifact", default="pretrained", show_default=True, help="Its directory, or the shipped one.")
@click.option("--strong", default="gpt-4-1106-preview", show_default=True, help="The strong model's column.")
@click.option("--weak", default="mixtral-8x7b-instruct-v0.1", show_default=True, help="The weak model's column.")
def evaluate(files: tuple[Path, ...], name: str, artifact: str, strong: str, weak: str) -> None:
    """APGR and CPT of a router on response matrices, with 95 % bootstrap intervals, beside baselines."""
    from scorer import catalogue, training
    from scorer.evaluation import benchmarks

    encoder, rows = _encoder(), []
    router = catalogue.load(name, artifact, encoder.id)
    for file in files:
        benchmark = benchmarks.load(file, (strong, weak))
        with _progress(f"encoding {file.name}") as shown:
            prompts = training.encode(encoder, benchmark.prompts, shown)
        rows += benchmarks.evaluate(router, prompts, benchmark)
    click.echo(f"{name} {router.version}, {strong} over {weak}; 95 % intervals from 1000 resamples of the prompts")
    click.echo(benchmarks.table(rows))


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _write(battles: Battles, out: Path) -> None:
    from scorer import battles as format_

    format_.write(out, battles)
    click.echo(
        f"{out}: {len(battles)} battles on {len(battles.prompts)} prompts between {len(battles.players)} players"
    )


def _encoder() -> Encoder:
    from scorer.encoder import Encoder, resolve

    return Encoder.load(resolve())


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing elsewhere; called with how much is done of how much."""
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
