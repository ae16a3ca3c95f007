"""Your own feedback database as a benchmark of `routerd evaluate`: rated decisions, where they explored."""

from __future__ import annotations

import asyncio
import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from scorer.commands.shared import progress
from scorer.config import load
from scorer.tables import DataError

if TYPE_CHECKING:
    from feedback.curves import Curve
    from feedback.logged import Log
    from scorer.routers.base import Encodes

_CONFIGURATIONS = (".yaml", ".yml")


class Database(NamedTuple):
    """name: in tables; models: the ladder's, strongest first; like: stand-ins of those that routers may not know."""

    name: str
    url: str
    models: tuple[str, ...]
    like: Mapping[str, str]


def is_database(place: str) -> bool:
    """Whether a benchmark's place is a database's URL or a configuration file."""
    return "://" in place or Path(place).suffix in _CONFIGURATIONS


def find(name: str, place: str, models: Sequence[str], likes: Sequence[str]) -> Database:
    """A configuration names its own ladder; a URL goes with the one given. Raises ConfigError and DataError."""
    if "://" in place:
        found = Database(name, place, tuple(models), dict(zip(models, likes, strict=True)))
    else:
        config = load(Path(place))
        found = Database(name, config.database_url, config.models, config.like)
    scheme, _, file = found.url.partition(":///")
    if scheme.startswith("sqlite") and not Path(file.partition("?")[0]).is_file():
        raise DataError(f"{name}: {file}: no such database")
    return found


def evaluate(database: Database, routers: Sequence[str], encoder: Encodes, draws: int, out: Path) -> list[Path]:
    """Prints the curves of the routers and of prompt length, and saves them; the files."""
    log = asyncio.run(_read(database))
    usable = log.usable()
    curves = _curves(usable, database, routers, encoder, draws)
    click.echo(f"{text(database, log, curves)}\n")
    best = max((point.size for curve in curves for point in curve.points), default=0)
    if not any(math.isfinite(point.rating.value) for curve in curves for point in curve.points):
        raise DataError(
            f"{database.name}: not enough overlap: the rated decisions that a router would have made alike are worth "
            f"{best:.0f} sessions, 100 are needed; more ratings or more exploration give more"
        )
    return save(database, curves, out)


async def _read(database: Database) -> Log:
    from feedback import logged
    from feedback.migrations import migrate
    from feedback.store import Store

    migrate(database.url)
    store = Store(database.url)
    try:
        with progress(f"reading {database.name}") as shown:
            return await logged.read(store, database.models, progress=lambda read: shown(read, read))
    finally:
        await store.close()


def _curves(log: Log, database: Database, routers: Sequence[str], encoder: Encodes, draws: int) -> list[Curve]:
    from feedback import curves, rescoring
    from scorer import features
    from scorer.evaluation import baselines, methods
    from scorer.routers.base import known_as

    found = []
    for name, router, _ in methods.loaded(routers, encoder):
        ladder = known_as(router, database.models, database.like)
        rates = rescoring.win_rates(log, router, ladder, encoder.id)
        found.append(curves.curve(name, log, rates, draws))
    if log.features.shape[1] == len(features.NAMES):
        length = log.features[:, features.NAMES.index("log_chars")].astype(float)
        found.append(curves.curve("prompt length", log, baselines.on_ladder(length, len(log.models)), draws))
    return found


def text(database: Database, log: Log, curves: Sequence[Curve]) -> str:
    """What was read and left out, and each method's ratings at every share."""
    reasons: dict[str, int] = {}
    for reason in log.left_out.tolist():
        if reason:
            reasons[reason] = reasons.get(reason, 0) + 1
    left_out = ", ".join(f"{count} ({reason})" for reason, count in reasons.items()) or "none"
    title = f"{database.name}: {len(log):,} requests; {' > '.join(database.models)}"
    lines = [title, "=" * len(title), f"left out: {left_out}", "mean rating among raters (SNIPS), by strong share"]
    for curve in curves:
        lines += [
            "",
            f"{curve.method}: {curve.rated:,} rated of {curve.decisions:,} decisions; APGR {_cell(curve.apgr)}",
        ]
        lines += [f"  {point.share:6.1%}  {_cell(point.rating)}  size {point.size:,.0f}" for point in curve.points]
    return "\n".join(lines)


def _cell(found: object) -> str:
    from scorer.evaluation.bootstrap import Interval

    assert isinstance(found, Interval)
    if math.isnan(found.value):
        return "not enough overlap"
    return f"{found.value:.3f} ({found.low:.3f}, {found.high:.3f})"


def save(database: Database, curves: Sequence[Curve], out: Path) -> list[Path]:
    """NAME-feedback.json with everything, NAME-feedback.csv in the form that --points reads."""
    out.mkdir(parents=True, exist_ok=True)
    whole, flat = (out / f"{database.name}-feedback.{kind}" for kind in ("json", "csv"))
    content = [asdict(curve) for curve in curves]
    whole.write_text(json.dumps(_finite(content), indent=1, allow_nan=False) + "\n")
    with flat.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["router", "benchmark", "share", "result", "low", "high", "size"])
        for curve in curves:
            for point in curve.points:
                if math.isfinite(point.rating.value):
                    rating = point.rating
                    row = [point.share, rating.value, rating.low, rating.high, round(point.size, 1)]
                    table.writerow([curve.method, database.name, *row])
    return [whole, flat]


def _finite(value: object) -> object:
    """JSON has no NaN: null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value
