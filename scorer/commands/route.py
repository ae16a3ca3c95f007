"""`routerd route`: which model a prompt would go to, and why; nothing is logged."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scorer.commands.shared import FILE
from scorer.config import Config, ConfigError, load

if TYPE_CHECKING:
    from scorer.decisions import Decision
    from scorer.scoring import Scored


@click.command()
@click.argument("prompt")
@click.option("--config", "path", type=FILE, default="config.yaml", show_default=True)
@click.option("--model", "name", default="router", show_default=True, help="The virtual name that is asked for.")
@click.option("--explain", is_flag=True, help="With scores, probabilities, costs and what would change the choice.")
def route(prompt: str, path: Path, name: str, explain: bool) -> None:
    """Which model a prompt would go to."""
    decision = asyncio.run(_decide(load(path), name, prompt))
    click.echo(f"{decision.model}: {decision.reason}")
    if explain:
        _print(decision)


async def _decide(config: Config, name: str, text: str) -> Decision:
    """With the versions that serve; a budget's threshold is that of the default. Raises ConfigError."""
    from scorer import hosting
    from scorer.batching import Batcher
    from scorer.budget import Steering
    from scorer.conversations import Conversations
    from scorer.requests import RouteRequest
    from scorer.routers.base import Unscorable
    from scorer.routing import Routing
    from scorer.scoring import Job
    from scorer.web import Problem

    scoring, store = hosting.load_scoring(config), hosting.open_store(config)
    await hosting.follow(config, store, scoring)
    batchers: dict[str, Batcher[Job, Scored | Unscorable]] = {one: Batcher(scoring.score) for one in scoring.hosted}
    conversations = Conversations(store.find_pin, store.write_pin)  # never asked: there is no session
    routing = Routing(
        config, scoring.encoder.id, batchers, lambda _: None, store.find_decision, conversations, Steering()
    )
    tasks = [asyncio.create_task(batcher.run()) for batcher in batchers.values()]
    try:
        return await routing.decide(RouteRequest(model=name, prompt=text))
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

    from scorer.explanation import explain

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
    console = Console()
    console.print(table)
    for line in explain(decision)["otherwise"]:
        console.print(line, highlight=False)
