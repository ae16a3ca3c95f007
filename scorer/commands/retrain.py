"""`routerd retrain`: the nightly run, now or as the daemon's clock starts it."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import click

from scorer.commands.shared import FILE
from scorer.config import Config, load


@click.command()
@click.option("--config", "path", type=FILE, default="config.yaml", show_default=True)
@click.option("--dry-run", is_flag=True, help="Fit and compare; publish nothing and leave no record.")
@click.option("--scheduled-for", type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z"]), hidden=True, help="The time it is due.")
def retrain(path: Path, dry_run: bool, scheduled_for: datetime | None) -> None:
    """Refit mf and sw from all ratings, and let what is shown to be no worse serve (docs/learning.md).

    Running daemons follow within ten seconds.
    """
    asyncio.run(_retrain(load(path), dry_run, scheduled_for.timestamp() if scheduled_for else time.time()))


async def _retrain(config: Config, dry_run: bool, scheduled_for: float) -> None:
    from feedback import agreement, retrain, versions
    from scorer import hosting

    store = hosting.open_store(config)
    try:
        encoder = hosting.load_encoder(config)
        plan, subjects = hosting.plan(config, encoder), await hosting.subjects(config, encoder, store)
        plan = replace(plan, weights=await agreement.weighed(store, plan.weights))
        if dry_run:
            await retrain.retrain(store, plan, subjects, publish=False, say=click.echo)
            return
        holder = f"{socket.gethostname()} {os.getpid()}"
        if await retrain.run(store, plan, subjects, scheduled_for, holder, click.echo) is None:
            click.echo("another process has made this run, or is making one")
            return
        for subject in subjects:
            name = subject.prior.name
            history = await store.activations(name)
            if gone := versions.prune(plan.shelf, name, history, config.retrain.keep_versions):
                click.echo(f"{name}: {len(gone)} old versions deleted")
    finally:
        await store.close()
