"""`routerd augment`: your own prompts and models to battles, by a judge."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway_plugin import names
from scorer.commands.shared import FILE, progress, split
from scorer.config import ConfigError
from scorer.tables import DataError, read_table

if TYPE_CHECKING:
    from feedback.augmentation import Augmenter, Estimate, Result, Task
    from feedback.budget import Price
    from feedback.chat import Chat


@click.command()
@click.option("--prompts", "file", type=FILE, required=True, help="A table with a column `prompt`.")
@click.option("--models", required=True, metavar="A,B", help="Who answers: two models or more.")
@click.option("--judge", required=True, help="The model that compares the answers.")
@click.option("--url", envvar="OPENAI_BASE_URL", required=True, help="An OpenAI-compatible endpoint. [OPENAI_BASE_URL]")
@click.option("--key", envvar="OPENAI_API_KEY", help="Its key; better as a variable. [OPENAI_API_KEY]")
@click.option("--out", type=FILE, required=True, help="Battles, .jsonl or .parquet; the calls are kept beside it.")
@click.option("--prices", type=FILE, help="JSON: model_api_name, input_token_price, output_token_price.")
@click.option("--answer-tokens", type=click.IntRange(1), default=2048, show_default=True, help="Most of an answer.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=120.0, show_default=True, help="Seconds.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=8, show_default=True, help="Calls at once.")
@click.option("--yes", is_flag=True, help="Do not ask whether it may cost that.")
def augment(
    file: Path,
    models: str,
    judge: str,
    url: str,
    key: str | None,
    out: Path,
    prices: Path | None,
    answer_tokens: int,
    timeout: float,
    concurrency: int,
    yes: bool,
) -> None:
    """Every model answers every prompt, and a judge compares the answers in both orders (docs/judge.md).

    What was paid for is kept in OUT.calls.jsonl: run again, it goes on where it was interrupted.
    """
    from feedback.augmentation import Augmenter
    from feedback.chat import Chat
    from feedback.journal import Journal
    from scorer import battles

    task = _task(file, split(models), judge, answer_tokens)
    if out.suffix not in (".jsonl", ".parquet"):
        raise DataError(f"{out}: suffix {out.suffix!r}; battles are kept in .jsonl or .parquet files")
    priced = _prices(prices, (*task.models, judge))
    with closing(Journal(out.with_name(f"{out.name}.calls.jsonl"))) as journal:
        chat = Chat(url, key, timeout)
        augmenter = Augmenter(task, chat, journal, priced)
        expected = augmenter.estimate()
        click.echo(_expected(task, expected))
        if expected.calls and not yes:
            click.confirm("go on?", abort=True)
        result = asyncio.run(_run(augmenter, chat, concurrency, journal.path))
    if not result.rows:
        raise DataError(f"no battles; {_skipped(result)}")
    battles.write(out, result.battles)
    click.echo(_made(out, result, priced=bool(priced)))


async def _run(augmenter: Augmenter, chat: Chat, concurrency: int, kept: Path) -> Result:
    from feedback.chat import ChatError

    try:
        with progress("prompts") as shown:
            return await augmenter.run(concurrency, shown)
    except ChatError as error:
        raise DataError(f"{error}; what was answered so far is in {kept}: run again to go on") from None
    finally:
        await chat.close()


def _task(file: Path, models: list[str], judge: str, answer_tokens: int) -> Task:
    """Raises ConfigError and DataError."""
    from feedback.augmentation import Task

    if len(models) < 2 or len(set(models)) < len(models):
        raise ConfigError(f"--models {','.join(models)}: expected two different models or more")
    for model in (*models, judge):
        if names.is_virtual(model):
            raise ConfigError(f"{model!r} is a virtual model, and routed; name a model")
    prompts = tuple(dict.fromkeys(text for text in read_table(file).texts("prompt") if text.strip()))
    if not prompts:
        raise DataError(f"{file}: no prompts")
    return Task(prompts, tuple(models), judge, answer_tokens)


def _prices(file: Path | None, models: tuple[str, ...]) -> dict[str, Price]:
    from feedback.budget import Price
    from scorer.evaluation import prices

    if file is None:
        return {}
    return {model: Price(*row) for model, row in zip(models, prices.read(file, models).tolist(), strict=True)}


def _expected(task: Task, found: Estimate) -> str:
    asked = f"{len(task.prompts)} prompts, {len(task.models)} models: {found.calls} calls"
    if found.calls < found.all_calls:
        asked += f" ({found.all_calls - found.calls} more are made already)"
    if found.about is None or found.most is None:
        return f"{asked}; what they cost is not known without --prices"
    return f"{asked}, about ${found.about:.2f}, at most ${found.most:.2f}"


def _made(out: Path, result: Result, priced: bool) -> str:
    from feedback import verdicts

    count = len(result.rows)
    agreeing = verdicts.share(result.agreeing, count)
    ties = sum(row[-1] == 0.5 for row in result.rows) / count
    lines = [
        f"{out}: {result.battles.summary}",
        f"the judge agrees with itself on {agreeing.value:.1%} ({agreeing.low:.1%}, {agreeing.high:.1%}); "
        f"{ties:.1%} ties",
    ]
    if result.skipped:
        lines.append(_skipped(result))
    if priced:
        lines.append(f"this run's calls cost ${result.dollars:.2f}")
    return "\n".join(lines)


def _skipped(result: Result) -> str:
    return "skipped: " + ", ".join(f"{count} ({reason})" for reason, count in result.skipped.items())
