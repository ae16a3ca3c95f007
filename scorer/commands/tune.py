"""`routerd tune`: which threshold, or which price of quality, meets a target on the logged traffic."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway_plugin import names
from scorer.commands.shared import FILE, progress
from scorer.config import Config, ConfigError, load

if TYPE_CHECKING:
    from feedback.frontier import Point
    from feedback.ope import Estimate
    from feedback.store import Store

_DAY = 24 * 3600.0
_SHOWN = 5  # of so many levels one is printed


@click.command()
@click.option("--config", "path", type=FILE, default="config.yaml", show_default=True)
@click.option("--days", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True, help="To go by.")
@click.option("--dollars-a-day", "dollars", type=click.FloatRange(min=0, min_open=True), help="Target: to spend.")
@click.option("--rating", type=click.FloatRange(0, 1), help="Target: the mean rating among raters.")
@click.option("--strong-share", "share", type=click.FloatRange(0, 1), help="Target: of calls to the strongest model.")
def tune(path: Path, days: float, dollars: float | None, rating: float | None, share: float | None) -> None:
    """What the default router's levels would have cost and been rated, and the one that meets a target.

    Figures are of requests with a choice, with 95 % intervals where there is overlap enough (docs/off-policy.md).
    """
    if (dollars, rating, share).count(None) != 2:
        raise ConfigError("say one target: --dollars-a-day, --rating or --strong-share")
    config = load(path)
    points, calls = asyncio.run(_measured(config, time.time() - days * _DAY))
    if not points:
        raise ConfigError("nothing is logged that an estimate can use: decisions with exploration and an outcome")
    _print(points, calls)
    for kind in ("threshold", "lambda"):
        some = [point for point in points if point.policy == kind]
        if some:
            click.echo(_advice(config, kind, _chosen(some, calls, dollars, rating, share)))


async def _measured(config: Config, after: float) -> tuple[list[Point], float]:
    """The frontier, and how many calls there are a day."""
    from feedback import frontier, logged, rescoring
    from scorer import hosting

    scoring, store = hosting.load_scoring(config), hosting.open_store(config)
    router = names.parse(config.default).router
    assert router is not None  # the configuration's default names one
    try:
        await hosting.follow(config, store, scoring)
        with progress("reading") as shown:
            log = await logged.read(store, config.models, after, progress=lambda read: shown(read, read))
        calls, hosted = await _calls(config, store), scoring.hosted[router]
    finally:
        await store.close()
    log = log.usable()
    rates = rescoring.win_rates(log, hosted.router, hosted.ladder, scoring.encoder.id)
    return frontier.frontier(log, rates, config.exploration), calls


async def _calls(config: Config, store: Store) -> float:
    """A day, over the last week or as long as there are any."""
    now = time.time()
    slots = await store.spend(config.models[0], now)
    return sum(slot.calls for slot in slots) / max((now - slots[0].start) / _DAY, 1.0) if slots else 0.0


def _chosen(
    points: list[Point], calls: float, dollars: float | None, rating: float | None, share: float | None
) -> Point | None:
    from feedback import frontier

    if dollars is not None:
        return frontier.for_dollars(points, dollars / max(calls, 1.0))
    if rating is not None:
        return frontier.for_rating(points, rating)
    assert share is not None
    return frontier.for_share(points, share)


def _print(points: list[Point], calls: float) -> None:
    click.echo(f"{'policy':<24}{'strong %':>9}  {'$ a day':<28}raters say")
    for place, point in enumerate(points):
        if place % _SHOWN == 0:
            name = f"{point.policy} {point.level:.4g}"
            cost, rating = _cell(point.cost, calls, 2), _cell(point.rating, 1, 3)
            click.echo(f"{name:<24}{100 * point.share:9.1f}  {cost:<28}{rating}")


def _cell(number: Estimate, scale: float, digits: int) -> str:
    value = f"{scale * number.value:.{digits}f}"
    return f"{value} ({scale * number.low:.{digits}f}, {scale * number.high:.{digits}f})" if number.enough else value


def _advice(config: Config, kind: str, point: Point | None) -> str:
    """The line to paste."""
    if point is None:
        return f"{kind}: no level meets the target"
    router = names.parse(config.default).router
    if kind == "threshold":
        line = f"default: router-{router}-{point.level:.4f}"
    else:
        line = f"policy: {{lambda: {point.level:.4g}}}"
    return f"{line}    # {100 * point.share:.0f} % strong"
