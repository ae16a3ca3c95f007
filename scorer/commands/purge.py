"""`routerd purge`: what is older than `retention` in the configuration says is deleted, now."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scorer.commands.shared import FILE, in_store
from scorer.config import Config, ConfigError, load

if TYPE_CHECKING:
    from feedback.retention import Cuts
    from feedback.store import Store


@click.command()
@click.option("--config", "path", type=FILE, default="config.yaml", show_default=True)
@click.option(
    "--before",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    help="Everything from before then, UTC, whatever the configuration says.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be deleted.")
@click.option("--vacuum", is_flag=True, help="Give space back to the disk; on SQLite, writes wait meanwhile.")
def purge(path: Path, before: datetime | None, dry_run: bool, vacuum: bool) -> None:
    """Delete requests and prompts that are older than `retention` allows (docs/retention.md).

    Daemons do so every day, if the configuration says for how long things are kept.
    """
    from feedback import removal, retention
    from scorer import hosting

    config = load(path)
    cuts = _cuts(config, before)

    async def work(store: Store) -> Counter[str] | None:
        removed = (
            await retention.purge(store, cuts, dry_run=True)
            if dry_run
            else await retention.run(store, cuts, hosting.open_shelf(config), time.time(), hosting.named(config))
        )
        if vacuum and not dry_run:
            await store.vacuum()
        return removed

    removed = in_store(config, work)
    if removed is None:
        click.echo("another process is purging")
        return
    click.echo(f"{'would delete' if dry_run else 'deleted'}: {removal.told(removed)}; {cuts.text}")


def _cuts(config: Config, before: datetime | None) -> Cuts:
    """Raises ConfigError where nothing says what is old."""
    from feedback.retention import Cuts, Terms

    if before is not None:
        cut = before.replace(tzinfo=UTC).timestamp()
        return Cuts(cut, cut)
    chosen = config.retention
    if chosen.days is None and chosen.prompt_days is None:
        raise ConfigError("retention: nothing says what is old; set days or prompt_days there, or say --before DATE")
    return Terms(chosen.days, chosen.prompt_days).cuts(time.time())
