"""`routerd report`: what routing did, and what another policy would have done."""

from __future__ import annotations

import asyncio
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway_plugin import names
from scorer.commands.shared import FILE, progress
from scorer.config import Config, ConfigError, load

if TYPE_CHECKING:
    from feedback.logged import Log
    from feedback.report import WhatIf
    from feedback.store import Store
    from scorer.scoring import Hosted, Scoring

_DAY = 24 * 3600.0


@click.command()
@click.option("--config", "path", type=FILE, default="config.yaml", show_default=True)
@click.option("--days", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True, help="To go by.")
@click.option("--what-if", "asked", metavar="NAME", help="Another policy, such as router-mf-p20.")
@click.option("--artifact", type=FILE, help="Another version of its router: an artifact's directory.")
@click.option("--json", "out", type=FILE, help="A file for all the figures.")
def report(path: Path, days: float, asked: str | None, artifact: Path | None, out: Path | None) -> None:
    """What happened: shares, cost, ratings. With --what-if: what it would have cost and what raters would have said.

    Means are printed with their 95 % intervals (docs/off-policy.md).
    """
    config = load(path)
    asyncio.run(_report(config, days, asked, artifact, out))


async def _report(config: Config, days: float, asked: str | None, artifact: Path | None, out: Path | None) -> None:
    from feedback import logged, report
    from scorer import hosting

    store, after = hosting.open_store(config), time.time() - days * _DAY
    try:
        with progress("reading") as shown:
            log = await logged.read(store, config.models, after, progress=lambda read: shown(read, read))
        happened = report.happened(log)
        click.echo(report.text(happened))
        content: dict[str, object] = {"happened": report.plain(happened)}
        if config.judge:
            content["judge"] = await _judged(store, after)
        if config.drift:
            content["drift"] = await _drift(store, days)
        if asked:
            log = log.usable()  # which lets go of the rest
            found = await _what_if(config, store, log, asked, artifact)
            click.echo(report.what_if_text(found))
            content["what_if"] = report.plain(found)
    finally:
        await store.close()
    if out:
        _save(out, content)


async def _drift(store: Store, days: float) -> list[object]:
    """Prints what daemons found in these days, whether traffic has drifted; the evaluations, the newest first."""
    import msgspec

    from feedback import drift, report

    found = await drift.history(store, math.ceil(days))
    click.echo(report.drift_text(found))
    return [msgspec.to_builtins(each) for each in found]


async def _judged(store: Store, after: float) -> dict[str, object]:
    """Prints how judging went, and how far people agree with it; the figures."""
    from feedback import agreement

    counts, found = await store.judging(after), await agreement.measure(store)
    click.echo(f"{counts.text}\n{found.text}")
    tables = {"pairs": found.pairs.tolist(), "answers": found.answers.tolist(), "weight": found.weight}
    return {**counts._asdict(), "agreement": tables}


async def _what_if(config: Config, store: Store, log: Log, asked: str, artifact: Path | None) -> WhatIf:
    from feedback import report, rescoring
    from scorer import hosting
    from scorer.scoring import uncalibrated

    named = _named(config, asked)
    assert named.router is not None
    scoring = hosting.load_scoring(config)
    hosted = await _hosted(config, store, scoring, named.router, artifact)
    threshold = named.threshold
    if threshold is None:
        assert named.share is not None
        if hosted.calibration is None:
            raise ConfigError(f"--what-if {asked}: {uncalibrated(named.router)}")
        threshold = hosted.calibration.threshold(named.share)
    rates = rescoring.win_rates(log, hosted.router, hosted.ladder, scoring.encoder.id)
    click.echo(f"\n{asked}: {hosted.router.name} {hosted.router.version}, threshold {threshold:.4f}")
    return report.what_if(log, asked, rates, threshold, config.exploration)


def _named(config: Config, asked: str) -> names.VirtualModel:
    """A router, and a threshold or a share; the configuration's default fills in what is not said."""
    default = names.parse(config.default)
    try:
        named = names.parse(asked)
    except names.BadName as error:
        raise ConfigError(f"--what-if: {error}") from None
    if named.router not in (None, *config.routers):
        raise ConfigError(f"--what-if {asked}: the configuration lists {', '.join(config.routers)}")
    if named.threshold is not None or named.share is not None:
        return named
    if named.router not in (None, default.router):
        raise ConfigError(f"--what-if {asked}: say a threshold or a share, such as {asked}-p20")
    return default


async def _hosted(config: Config, store: Store, scoring: Scoring, name: str, artifact: Path | None) -> Hosted:
    """The router as it serves, or the version in a directory, with what its scores mean."""
    from scorer import hosting

    if artifact:
        return await hosting.calibrated(store, hosting.load_version(config, scoring, name, artifact))
    await hosting.follow(config, store, scoring)
    return scoring.hosted[name]


def _save(out: Path, content: dict[str, object]) -> None:
    try:
        out.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--json {out}: {error.strerror}") from None
