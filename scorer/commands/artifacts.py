"""`routerd artifacts`: the versions of a router, which one serves, how it is rated, and changing that."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scorer.commands.shared import FILE, in_store
from scorer.config import Config, ConfigError, load

if TYPE_CHECKING:
    from feedback.holdback import Finding
    from feedback.records import Activation, Holdback
    from feedback.store import Store
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
    """Every version, the newest first: * serves, - is held back beside it, x was rolled back by itself."""
    from feedback import versions
    from scorer import hosting

    config = load(path)
    for router in [_hosted(config, name)] if name else config.routers:
        found = [*versions.installed(hosting.open_shelf(config), router), *_configured(config, router)]
        history = _history(config, router)
        marks = _marks(history, found)
        for version, manifest in ((one.manifest.version, one.manifest) for one in found):
            mark = marks.get(version, " ")
            click.echo(f"{mark} {router:8} {version}  {manifest.created_at}  from {manifest.parent or 'battles'}")
        _tell(config, router, history)


@group.command("show")
@CONFIG
@click.argument("router")
@click.argument("version")
def show_one(path: Path, router: str, version: str) -> None:
    """A version's manifest, when it served, and how it is rated beside the one before."""
    import msgspec

    config = load(path)
    found = _find(config, _hosted(config, router), version)
    click.echo(msgspec.json.format(msgspec.json.encode(found.manifest), indent=1).decode())
    history = _history(config, router)
    for one in history:
        if one.version == found.manifest.version:
            click.echo(f"activated {_date(one.changed_at)} by {one.changed_by}{_holdback(one, history)}")
    if history and history[0].version == found.manifest.version:
        _tell(config, router, history)


@group.command("activate")
@CONFIG
@click.option("--holdback", "share", type=click.FloatRange(0, 0.5), default=0.0, help="That the one before keeps.")
@click.argument("router")
@click.argument("version")
def activate(path: Path, share: float, router: str, version: str) -> None:
    """Let a version serve (`configured`: the one in the configuration); running daemons follow within ten seconds."""
    from feedback.records import Holdback

    config = load(path)
    found = _find(config, _hosted(config, router), version)
    holdback = Holdback(share, config.rollback.days) if share else None
    _activate(config, router, found, "routerd artifacts activate", holdback)


@group.command("rollback")
@CONFIG
@click.argument("router")
def rollback(path: Path, router: str) -> None:
    """Let the version before the one that serves serve again."""
    from feedback import versions

    config = load(path)
    history = _history(config, _hosted(config, router))
    if not history:
        raise ConfigError(f"{router}: the configured artifact serves, and nothing came before it")
    earlier = versions.before(history)
    _activate(config, router, _find(config, router, earlier or _CONFIGURED), "routerd artifacts rollback")


@group.command("watch")
@CONFIG
def watch(path: Path) -> None:
    """Compare what serves with what is held back, and go back where ratings are worse; daemons do so by themselves."""
    from feedback.rollback import watch
    from scorer import hosting

    config = load(path)
    configured, error_rate = hosting.configured(config), config.rollback.error_rate

    async def look(store: Store) -> Mapping[str, Finding]:
        return await watch(store, configured, error_rate)

    findings = in_store(config, look)
    for router, finding in findings.items():
        click.echo(f"{router}: {'rolled back: ' if finding.alarm else ''}{finding.text}")
    if not findings:
        click.echo("no router has a holdback")


def _hosted(config: Config, router: str) -> str:
    if router not in config.routers:
        raise ConfigError(f"{router}: no such router in the configuration, which lists {', '.join(config.routers)}")
    return router


def _history(config: Config, router: str) -> list[Activation]:
    """Newest first."""

    async def read(store: Store) -> list[Activation]:
        return await store.activations(router)

    return in_store(config, read)


def _configured(config: Config, router: str) -> list[Version]:
    """The version that the configuration names, if it is an artifact of ours."""
    from scorer import hosting

    found = hosting.configured(config).get(router)
    return [found] if found else []


def _find(config: Config, router: str, version: str) -> Version:
    """A version by its name, or by what only its name begins or ends with. Raises ConfigError."""
    from feedback import versions
    from scorer import hosting

    configured = _configured(config, router)
    if version == _CONFIGURED and configured:
        return configured[0]
    known = [*versions.installed(hosting.open_shelf(config), router), *configured]
    found = [one for one in known if version in (one.manifest.version, one.manifest.version.rpartition("-")[2])]
    if len(found) != 1:
        names = ", ".join(one.manifest.version for one in known) or "none"
        raise ConfigError(f"{router}: no version {version!r}; there are {names}")
    return found[0]


def _marks(history: list[Activation], found: list[Version]) -> dict[str | None, str]:
    """How versions are marked; of the versions found the configured one is the last."""
    import time

    from feedback import versions

    configured = found[-1].manifest.version if found else None
    if not history:
        return {configured: "*"}
    active = history[0]
    marks = dict.fromkeys(versions.undone(history), "x")
    if active.holds_back(time.time()):
        marks[versions.began(history).previous or configured] = "-"
    return {**marks, active.version: "*"}


def _tell(config: Config, router: str, history: list[Activation]) -> None:
    """Prints what ratings say of the one that serves, while there is a holdback."""
    from feedback.rollback import judged

    configured = _configured(config, router)
    if not configured:
        return

    async def look(store: Store) -> Finding | None:
        return await judged(store, history, configured[0], config.rollback.error_rate)

    finding = in_store(config, look)
    if finding:
        click.echo(f"  {router:8} {finding.text}")


def _holdback(one: Activation, history: list[Activation]) -> str:
    if one.holdback_until is None:
        return ""
    began = next(each for each in history if each.number == one.holdback_since)
    earlier = began.previous or _CONFIGURED
    return f"; until {_date(one.holdback_until)} {100 * one.holdback:g} % stay with {earlier}"


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _activate(config: Config, router: str, version: Version, by: str, holdback: Holdback | None = None) -> None:
    """Loaded and calibrated first, so that nothing is activated that would not serve."""
    from feedback import retrain
    from scorer import catalogue, hosting

    encoder = hosting.load_encoder(config)
    directory = hosting.located(config, router, version.manifest.version, str(version.directory.resolve()))
    loaded = catalogue.load(router, str(directory), encoder)
    plan = hosting.plan(config, encoder)

    async def publish(store: Store) -> None:
        calibration = await retrain.calibrated(store, plan, loaded)
        await retrain.activate(store, plan, loaded, directory, calibration, by, holdback=holdback)

    in_store(config, publish)
    click.echo(f"{router}: {loaded.version} serves from now on; running daemons follow within ten seconds")
