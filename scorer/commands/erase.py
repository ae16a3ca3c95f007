"""`routerd erase`: a user's data go, and every version that may have learned from them."""

from __future__ import annotations

import os
import socket
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scorer.commands.shared import FILE, in_store
from scorer.config import Config, ConfigError, load

if TYPE_CHECKING:
    from feedback.store import Store


@click.command()
@click.option("--config", "path", type=FILE, default="config.yaml", show_default=True)
@click.option("--user", help="The user's id, as decisions have it. Without one: what was asked for and waits.")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted; record nothing.")
@click.option("--vacuum", is_flag=True, help="Rewrite the database at the end; on SQLite, writes wait meanwhile.")
@click.option("--scheduled-for", type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z"]), hidden=True, help="As daemons call it.")
def erase(path: Path, user: str | None, dry_run: bool, vacuum: bool, scheduled_for: datetime | None) -> None:
    """Erase all that is known of a user, and refit what learned from it (docs/retention.md).

    Should this be killed, daemons carry it to its end, or the same command again.
    """
    if dry_run and user is None:
        raise click.UsageError("--dry-run needs --user")
    config = load(path)
    if dry_run:
        in_store(config, lambda store: _preview(config, store, str(user)))
    else:
        in_store(config, lambda store: _erase(config, store, user, vacuum))


async def _preview(config: Config, store: Store, user: str) -> None:
    from feedback import erasure, removal
    from scorer import hosting

    rows, gone = await erasure.preview(store, hosting.erasing(config, store), user)
    named = "; ".join(f"{router} {', '.join(sorted(some))}" for router, some in gone.items())
    click.echo(f"would delete: {removal.told(rows)}; versions that may know them: {named or 'none'}")


async def _erase(config: Config, store: Store, user: str | None, vacuum: bool) -> None:
    from feedback import erasure
    from scorer import hosting

    terms = hosting.erasing(config, store)
    if user is not None:
        asked = await store.ask_erasure(user)
        click.echo(f"erasure {asked.erasure_id}")
    try:
        night = await erasure.run(store, terms, f"{socket.gethostname()} {os.getpid()}", click.echo)
    except erasure.Configured as error:
        raise ConfigError(str(error)) from None
    if night is None:
        click.echo("nothing waits to be erased")
        return
    click.echo(night.verdict)
    if vacuum:
        await store.vacuum()
