"""`routerd route`: which model a prompt would go to, and why; nothing is logged."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from scorer.commands.shared import FILE
from scorer.config import Config, ConfigError, load

if TYPE_CHECKING:
    from rich.table import Table

    from feedback.explaining import Evidence, Score
    from scorer.decisions import Decision
    from scorer.scoring import Scored

_SHOWN = 60  # characters of a prompt


@click.command()
@click.argument("prompt")
@click.option("--config", "path", type=FILE, default="config.yaml", show_default=True)
@click.option("--model", "name", default="router", show_default=True, help="The virtual name that is asked for.")
@click.option(
    "--explain",
    is_flag=True,
    help="With scores, what they rest on, probabilities, costs and what would change the choice.",
)
def route(prompt: str, path: Path, name: str, explain: bool) -> None:
    """Which model a prompt would go to."""
    decision, explained = asyncio.run(_decide(load(path), name, prompt))
    click.echo(f"{decision.model}: {decision.reason}")
    if explain:
        _print(decision)
        _print_evidence(explained["evidence"])
        for line in explained["otherwise"]:
            click.echo(line)


async def _decide(config: Config, name: str, text: str) -> tuple[Decision, dict[str, Any]]:
    """With the versions that serve, and what fed it; a budget's threshold is that of the default. Raises
    ConfigError."""
    from scorer import hosting
    from scorer.batching import Batcher
    from scorer.budget import Steering
    from scorer.conversations import Conversations
    from scorer.requests import RouteRequest
    from scorer.routers.base import Unscorable
    from scorer.routing import Routing
    from scorer.scoring import Job
    from scorer.web import Problem

    config = msgspec.structs.replace(config, keep="embedding")  # for the explanation; nothing is logged
    scoring, store = hosting.load_scoring(config), hosting.open_store(config)
    await hosting.follow(config, store, scoring)
    batchers: dict[str, Batcher[Job, Scored | Unscorable]] = {one: Batcher(scoring.score) for one in scoring.hosted}
    conversations = Conversations(store.find_pin, store.write_pin)  # never asked: there is no session
    routing = Routing(
        config, scoring.encoder.id, batchers, lambda _: None, store.find_decision, conversations, Steering()
    )
    tasks = [asyncio.create_task(batcher.run()) for batcher in batchers.values()]
    try:
        decision = await routing.decide(RouteRequest(model=name, prompt=text))
        return decision, await hosting.explainer(config, store, scoring).explain(decision)
    except Problem as problem:
        raise ConfigError(problem.message) from None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await store.close()


def _print(decision: Decision) -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"{decision.router} {decision.version}, by {decision.policy}: threshold {decision.threshold:.4f}"
    table = Table(title=title)
    for head in ("model", "win rate", "quality", "$ / 1000", "probability", "left out"):
        table.add_column(head, justify="left" if head in ("model", "left out") else "right")
    for model, rate in decision.win_rates.items():
        quality, costs, guards = decision.quality or {}, decision.costs or {}, decision.guards or {}
        table.add_row(
            model,
            f"{rate:.3f}",
            f"{quality[model]:.3f}" if model in quality else "",
            f"{1000 * costs[model]:.3f}" if model in costs else "",
            f"{decision.probabilities[model]:.3f}" if model in decision.probabilities else "",
            guards.get(model, ""),
        )
    Console().print(table)


def _print_evidence(evidence: Evidence) -> None:
    from rich.console import Console

    console = Console()
    if evidence.why_none:
        console.print(evidence.why_none, highlight=False)
    if evidence.scores:
        console.print(_sums(evidence.scores))
    for score in evidence.scores:
        if score.neighbours:
            console.print(_neighbours(score))
    for one in evidence.alike:
        said = f"{one.model} was rated {one.rating:.2f} on {one.text or one.decision_id}"
        console.print(f"similarity {one.similarity:.2f}: {said}", highlight=False, markup=False)


def _sums(scores: list[Score]) -> Table:
    from rich.table import Table

    table = Table(title=f"what the {scores[0].of} rests on: sigmoid of a sum")
    for head in ("part", *(score.model for score in scores)):
        table.add_column(head, justify="left" if head == "part" else "right")
    for name in scores[0].parts:
        table.add_row(name, *(f"{score.parts[name]:+.3f}" for score in scores))
    if any(score.neighbours for score in scores):
        near = [sum(one.value for one in score.neighbours) for score in scores]
        table.add_row("nearest prompts", *(f"{value:+.3f}" for value in near))
    table.add_row("sum", *(f"{score.total:+.3f}" for score in scores))
    return table


def _neighbours(score: Score) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"nearest prompts, of {score.model}")
    for head in ("similarity", "weight", "adds", "won", "prompt"):
        table.add_column(head, justify="left" if head in ("won", "prompt") else "right")
    for one in score.neighbours:
        won = ", ".join(f"{model} {share:.0%}" for model, share in one.won.items())
        numbers = f"{one.similarity:.2f}", f"{one.share:.1%}", f"{one.value:+.3f}"
        table.add_row(*numbers, escape(won), escape(one.told[:_SHOWN]))
    return table
