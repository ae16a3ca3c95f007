"""`routerd train`: battles to a router's artifact."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scorer.commands.shared import FILE, load_encoder, mapping, progress, split, with_encoder, with_ray

if TYPE_CHECKING:
    from scorer.routers.base import Encodes
    from scorer.routers.bert import Bert
    from scorer.routers.causal import Causal
    from scorer.training import TrainingSet


@click.group("train")
def group() -> None:
    """Fit a router from battles; needs routerd[train]."""


def _learns(command: Callable[..., None]) -> Callable[..., None]:
    """The options that all routers are trained with."""
    for option in (
        with_encoder,
        with_ray,
        click.option("--out", type=FILE, required=True, help="The artifact's directory; it must not exist yet."),
        click.option("--least", type=int, default=1, show_default=True, help="Battles a model needs to be learned."),
        click.option("--evaluation", type=FILE, multiple=True, help="Tables whose `prompt`s must not be learned from."),
        click.option("--battles", type=FILE, multiple=True, required=True, help="Battles; may be given repeatedly."),
    ):
        command = option(command)
    return command


def _reads_text(base: str, strong: str, weak: str) -> Callable[[Callable[..., Bert | Causal]], Callable[..., None]]:
    """A command of a router that reads texts: given battles, it fits. No sample of vectors does to calibrate it, so
    that goes with it. base, strong, weak: help of these options."""

    def decorate(fit: Callable[..., Bert | Causal]) -> Callable[..., None]:
        @wraps(fit)
        def command(
            battles: tuple[Path, ...],
            evaluation: tuple[Path, ...],
            least: int,
            out: Path,
            sample: tuple[Path, ...],
            sample_name: str,
            **chosen: object,
        ) -> None:
            texts = _texts(sample)
            data = _training_set(load_encoder(), battles, evaluation, least)
            with progress("reading prompts") as shown:
                router = fit(data, shown, **chosen)
            _save_sampled(router, sample_name, texts, out)

        for option in (
            click.option("--sample-name", default="sample", show_default=True),
            click.option(
                "--sample", type=FILE, multiple=True, help="Tables whose `prompt`s calibrate it until there is traffic."
            ),
            click.option("--weak", default="mixtral-8x7b-instruct-v0.1", show_default=True, help=weak),
            click.option("--strong", default="gpt-4-1106-preview", show_default=True, help=strong),
            click.option("--base", "source", help=f"A directory, an installed package or a hub name; {base}."),
        ):
            command = option(command)
        return _learns(command)

    return decorate


@group.command("mf")
@_learns
@click.option("--start", type=FILE, help="Refit this artifact, as firmly as it is believed, instead of fitting anew.")
@click.option("--like", "likes", multiple=True, metavar="NEW=KNOWN", help="With --start: where a new model begins.")
@click.option("--seeds", type=int, default=0, help="Also say how much of the fit is luck, from so many seeds;")
@click.option("--pair", metavar="STRONG,WEAK", help="whose APGR on held-out prompts is said with it.")
def train_mf(
    battles: tuple[Path, ...],
    evaluation: tuple[Path, ...],
    least: int,
    out: Path,
    start: Path | None,
    likes: tuple[str, ...],
    seeds: int,
    pair: str | None,
) -> None:
    """Fit matrix factorization; needs PyTorch, except with --start."""
    from scorer import features
    from scorer.routers.factorization import Factorization

    like = _likes(likes)
    models = split(pair or "")
    if seeds and len(models) != 2:
        raise click.UsageError("--seeds takes --pair STRONG,WEAK, too")
    encoder = load_encoder()
    prior = Factorization.load(start, encoder.id) if start else None
    data = _training_set(encoder, battles, evaluation, least)
    if seeds:
        _say_luck(data, (models[0], models[1]), seeds, encoder.id)
    if prior:
        router = prior.refit(data.battles, data.prompts, ladder=list(like), like=like, data=data.record)
        click.echo(f"{router.save(out)}: version {router.version}, refitted from {prior.version}")
        return
    router = Factorization.fit(
        data.battles,
        data.prompts,
        encoder_id=encoder.id,
        features=features.NAMES,
        data=data.record,
        progress=lambda restart, epoch, loss: click.echo(f"restart {restart}, epoch {epoch}: held-out loss {loss:.4f}"),
    )
    click.echo(f"{router.save(out)}: version {router.version}")


def _likes(given: tuple[str, ...]) -> dict[str, str]:
    """NEW=KNOWN, as often as it is given."""
    pairs = [one.partition("=") for one in given]
    for new, sign, known in pairs:
        if not (new and sign and known):
            raise click.UsageError(f"--like {new}{sign}{known}: expected NEW=KNOWN")
    return {new: known for new, _, known in pairs}


def _say_luck(data: TrainingSet, pair: tuple[str, str], seeds: int, encoder_id: str) -> None:
    import numpy as np

    from scorer import features
    from scorer.seeds import spread

    found = []
    for luck in spread(data.battles, data.prompts, pair, seeds, encoder_id, features.NAMES):
        click.echo(f"seed {luck.seed}: held-out loss {luck.loss:.4f}, APGR {luck.apgr:.4f}")
        found.append((luck.loss, luck.apgr))
    mean, sd = np.mean(found, axis=0), np.std(found, axis=0, ddof=min(1, seeds - 1))
    click.echo(f"{seeds} seeds: held-out loss {mean[0]:.4f}, sd {sd[0]:.4f}; APGR {mean[1]:.4f}, sd {sd[1]:.4f}")


@group.command("sw")
@_learns
@click.option("--variant", type=click.Choice(["sharp", "upstream"]), default="sharp", show_default=True)
@click.option("--most-rows", type=click.IntRange(1), help="`upstream`: prompts that are kept of more, about; 200,000.")
def train_sw(
    battles: tuple[Path, ...], evaluation: tuple[Path, ...], least: int, out: Path, variant: str, most_rows: int | None
) -> None:
    """Collect battles for similarity-weighted ranking; RouteLLM's own form is `upstream`."""
    from scorer import features, sharding
    from scorer.routers.similarity import Similarity
    from scorer.routers.variants import Sharp, Upstream

    if most_rows and variant != "upstream":
        raise click.UsageError("--most-rows goes with --variant upstream")
    upstream = Upstream(most_rows=most_rows) if most_rows else Upstream()
    encoder = load_encoder()
    data = _training_set(encoder, battles, evaluation, least)
    router = Similarity.fit(
        data.battles,
        data.prompts,
        encoder_id=encoder.id,
        features=features.NAMES,
        chosen=Sharp() if variant == "sharp" else upstream,
        data=data.record,
        gather=partial(sharding.summed, mapping()),
    )
    click.echo(f"{router.save(out)}: version {router.version}")


@group.command("boosted")
@_learns
@click.option("--strong", default="gpt-4-1106-preview", show_default=True, help="Whose battles with the weak model,")
@click.option("--weak", default="mixtral-8x7b-instruct-v0.1", show_default=True, help="or with the bar, are learned.")
def train_boosted(
    battles: tuple[Path, ...], evaluation: tuple[Path, ...], least: int, out: Path, strong: str, weak: str
) -> None:
    """Grow boosted trees that know one pair of models; needs routerd[boosted]."""
    from scorer import features
    from scorer.routers.boosted import Boosted

    encoder = load_encoder()
    data = _training_set(encoder, battles, evaluation, least)
    router = Boosted.fit(
        data.battles,
        data.prompts,
        strong=strong,
        weak=weak,
        encoder_id=encoder.id,
        features=features.NAMES,
        data=data.record,
    )
    click.echo(f"{router.save(out)}: version {router.version}")


@group.command("bert")
@_reads_text("default all-MiniLM-L6-v2", strong="One side: this model and its peers.", weak="The other side, likewise.")
def train_bert(
    data: TrainingSet, reading: Callable[[int, int], None], source: str | None, strong: str, weak: str
) -> Bert:
    """Tune an encoder to tell a strong side's wins, ties and losses; needs routerd[text]."""
    from scorer import pairing
    from scorer.routers.bert import Bert, Hyperparameters

    for side, models in zip(("strong", "weak"), pairing.peers(data.battles, strong, weak), strict=True):
        click.echo(f"{side}: {', '.join(models)}")
    return Bert.fit(
        data.battles,
        strong=strong,
        weak=weak,
        chosen=Hyperparameters(source) if source else Hyperparameters(),
        data=data.record,
        reading=reading,
        told=_tell,
    )


@group.command("causal")
@click.option("--prompts", type=click.IntRange(20), help="To learn from at most; the small sources are taken whole.")
@_reads_text(
    "by default SmolLM2-135M-Instruct",
    strong="The model that weak ones are below.",
    weak="The model whose answers are graded, and its peers with it; or several, comma-separated: these alone.",
)
def train_causal(
    data: TrainingSet,
    reading: Callable[[int, int], None],
    source: str | None,
    strong: str,
    weak: str,
    prompts: int | None,
) -> Causal:
    """Tune a causal language model to grade the weak model's answers; needs routerd[text]."""
    from scorer import bases, pairing
    from scorer.routers.causal import Causal, Hyperparameters

    named = split(weak)
    graded = named if len(named) > 1 else pairing.peers(data.battles, strong, *named)[1]
    click.echo(f"graded: {', '.join(graded)}")
    return Causal.fit(
        data.battles,
        base=bases.load(source or bases.SOURCE),
        weak=graded,
        chosen=Hyperparameters(prompts=prompts) if prompts else Hyperparameters(),
        data=data.record,
        reading=reading,
        told=_tell,
    )


def _tell(epoch: int, loss: float) -> None:
    click.echo(f"epoch {epoch}: held-out loss {loss:.4f}")


def _texts(sample: tuple[Path, ...]) -> list[str]:
    """The sample's prompts, each once."""
    from scorer import tables

    return list(dict.fromkeys(text for file in sample for text in tables.read_table(file).texts("prompt")))


def _save_sampled(router: Bert | Causal, name: str, texts: list[str], out: Path) -> None:
    """With its win rates on the sample, if there is one."""
    if texts:
        with progress("scoring the sample") as shown:
            router = router.sampled(name, texts, shown)
    click.echo(f"{router.save(out)}: version {router.version}")


def _training_set(encoder: Encodes, battles: tuple[Path, ...], evaluation: tuple[Path, ...], least: int) -> TrainingSet:
    """The battles, cleared and encoded; says what was taken and what was dropped."""
    from scorer import training

    with progress("encoding") as shown:
        data = training.training_set(battles, encoder, evaluation_files=evaluation, least_battles=least, progress=shown)
    click.echo(data.battles.summary)
    click.echo(
        f"dropped: {data.dropped_by_text} prompts that hold an evaluation prompt, {data.dropped_by_cosine} close to one"
    )
    return data
