"""`routerd artifacts`: the versions of a router, which one serves, and changing that."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scorer.commands.shared import FILE, in_store
from scorer.config import Config, ConfigError, load

if TYPE_CHECKING:
    from feedback.records import Activation
    from feedback.versions import Version

CONFIG = click.option("--config", "path", type=FILE, default="config.yaml", show_default=True)
_CONFIGURED = "configured"  # the version that the configuration names, before anything was learned


@click.group("artifacts")
def group() -> None:
    """The fitted versions of routers: list them, look at one, say which serves."""


@group.command("list")
@CONFIG
@click.option("--router", "name", help="One router alone.")
def show_all(path: Path, name: str | None) -> None:
    """Every version, the newest first; * marks the one that serves."""
    from feedback import versions

    config = load(path)
    for router in [_hosted(config, name)] if name else config.routers:
        found = [*versions.installed(config.data_dir, router), *_configured(config, router)]
        history = in_store(config, lambda store, router=router: store.activations(router))  # type: ignore[misc]
        active = history[0].version if history else found[-1].manifest.version if found else ""
        for version, manifest in ((one.manifest.version, one.manifest) for one in found):
            mark = "*" if version == active else " "
            click.echo(f"{mark} {router:8} {version}  {manifest.created_at}  from {manifest.parent or 'battles'}")


@group.command("show")
@CONFIG
@click.argument("router")
@click.argument("version")
def show_one(path: Path, router: str, version: str) -> None:
    """A version's manifest, and when it served."""
    import msgspec

    config = load(path)
    found = _find(config, _hosted(config, router), version)
    click.echo(msgspec.json.format(msgspec.json.encode(found.manifest), indent=1).decode())
    for one in in_store(config, lambda store: store.activations(router)):
        if one.version == found.manifest.version:
            click.echo(
                f"activated {datetime.fromtimestamp(one.changed_at, UTC):%Y-%m-%d %H:%M:%S} UTC by {one.changed_by}"
            )


@group.command("activate")
@CONFIG
@click.argument("router")
@click.argument("version")
def activate(path: Path, router: str, version: str) -> None:
    """Let a version serve (`configured`: the one in the configuration); running daemons follow within ten seconds."""
    config = load(path)
    _activate(config, router, _find(config, _hosted(config, router), version), "routerd artifacts activate")


@group.command("rollback")
@CONFIG
@click.argument("router")
def rollback(path: Path, router: str) -> None:
    """Let the version before the one that serves serve again."""
    from feedback import versions

    config = load(path)
    history: Sequence[Activation] = in_store(config, lambda store: store.activations(_hosted(config, router)))
    if not history:
        raise ConfigError(f"{router}: the configured artifact serves, and nothing came before it")
    earlier = versions.before(history)
    _activate(config, router, _find(config, router, earlier or _CONFIGURED), "routerd artifacts rollback")


def _hosted(config: Config, router: str) -> str:
    if router not in config.routers:
        raise ConfigError(f"{router}: no such router in the configuration, which lists {', '.join(config.routers)}")
    return router


def _configured(config: Config, router: str) -> list[Version]:
    """The version that the configuration names, if it is an artifact of ours."""
    from feedback.versions import Version
    from scorer import artifacts, catalogue

    where = catalogue.directory(router, config.routers[router].artifact, config.encoder.name)
    return [Version(where, artifacts.read_manifest(where))] if (where / artifacts.MANIFEST).exists() else []


def _find(config: Config, router: str, version: str) -> Version:
    """A version by its name, or by what only its name begins or ends with. Raises ConfigError."""
    from feedback import versions

    configured = _configured(config, router)
    if version == _CONFIGURED and configured:
        return configured[0]
    known = [*versions.installed(config.data_dir, router), *configured]
    found = [one for one in known if version in (one.manifest.version, one.manifest.version.rpartition("-")[2])]
    if len(found) != 1:
        names = ", ".join(one.manifest.version for one in known) or "none"
        raise ConfigError(f"{router}: no version {version!r}; there are {names}")
    return found[0]


def _activate(config: Config, router: str, version: Version, by: str) -> None:
    """Loaded and calibrated first, so that nothing is activated that would not serve."""
    from feedback import retrain
    from feedback.store import Store
    from scorer import catalogue, hosting

    encoder = hosting.load_encoder(config)
    loaded = catalogue.load(router, str(version.directory), encoder)
    plan = hosting.plan(config, encoder)

    async def publish(store: Store) -> None:
        calibration = await retrain.calibrated(store, plan, loaded)
        await retrain.activate(store, plan, loaded, version.directory.resolve(), calibration, by)

    in_store(config, publish)
    click.echo(f"{router}: {loaded.version} serves from now on; running daemons follow within ten seconds")
