"""Retention: what is older than it may be is deleted, a page at a time, once a day on one replica (docs/retention.md).

Requests go with their outcomes, ratings, comparisons and judgements; earlier already, if so configured, what is kept of
their prompts. What was spent, runs, and versions with their history stay, but for versions that hold prompts: those are
handed to erasure, which refits what serves.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from feedback import removal, schedule, versions
from feedback.records import Run
from feedback.runs import Lost
from feedback.schedule import Cron
from feedback.store import Store
from scorer.shelf import Shelf

JOB = "purge"
EXPIRY_SECONDS = 600.0
HOLDS_PROMPTS = ("sw",)  # routers whose artifacts have a row for every prompt

_DAY = 24 * 3600.0
_BEAT_SECONDS = 60.0
_REST = 1.0  # after each page, in units of the time it took: writers of other processes poll for SQLite's lock
_LEAST_REST_SECONDS = 0.02


@dataclass(frozen=True)
class Terms:
    """How long things are kept, in days; None: for good. prompt_days: embeddings, too."""

    days: float | None
    prompt_days: float | None

    def cuts(self, now: float) -> Cuts:
        before = 0.0 if self.days is None else now - self.days * _DAY
        prompts = 0.0 if self.prompt_days is None else now - self.prompt_days * _DAY
        return Cuts(before, max(before, prompts))


@dataclass(frozen=True)
class Cuts:
    """What was made before them is old (Unix seconds); 0: nothing is."""

    before: float
    prompts_before: float

    @property
    def text(self) -> str:
        """In a few words."""
        cuts = [(what, datetime.fromtimestamp(cut, UTC)) for what, cut in self._named if cut]
        return " and ".join(f"{what} from before {cut:%Y-%m-%d %H:%M} UTC" for what, cut in cuts) or "nothing"

    @property
    def _named(self) -> tuple[tuple[str, float], ...]:
        if self.before == self.prompts_before:
            return (("requests and their prompts", self.before),)
        return ("requests", self.before), ("prompts", self.prompts_before)


async def keep(store: Store, cron: Cron, terms: Terms, shelf: Shelf, named: Collection[Path] = ()) -> None:
    """Makes the purge that is due, unless another replica has. To be called often."""

    async def wanted(scheduled_for: float) -> bool:
        return await store.wants_run(JOB, scheduled_for, EXPIRY_SECONDS)

    async def make(scheduled_for: datetime) -> int:
        await run(store, terms.cuts(scheduled_for.timestamp()), shelf, scheduled_for.timestamp(), named)
        return 0

    await schedule.keep(cron, store.clock, wanted, make)


async def run(
    store: Store, cuts: Cuts, shelf: Shelf, scheduled_for: float, named: Collection[Path] = ()
) -> Counter[str] | None:
    """`purge` as a run, once for its time (Unix seconds) whatever other processes try; None: not ours. named: versions'
    directories that the configuration names, which stay.

    Raises Lost, and Unavailable after recording it; what was deleted before stays deleted.
    """
    held = await store.claim_run(JOB, scheduled_for, f"{socket.gethostname()} {os.getpid()}", EXPIRY_SECONDS)
    if held is None:
        return None
    began = time.monotonic()
    try:
        removed = await purge(store, cuts, held)
        asked = await _hand_over(store, cuts, shelf, named)
    except Exception as error:
        await store.finish_run(held.run_id, "failed", f"{type(error).__name__}: {error}")
        raise
    record: dict[str, Any] = {"before": cuts.before, "prompts_before": cuts.prompts_before, "removed": dict(removed)}
    record |= {"versions": asked, "seconds": round(time.monotonic() - began, 3)}
    await store.finish_run(held.run_id, "purged", f"{removal.told(removed)}; {cuts.text}", record)
    return removed


async def purge(store: Store, cuts: Cuts, held: Run | None = None, dry_run: bool = False) -> Counter[str]:
    """Deletes what is old, page by page, between which others write; how many rows of each table, and `prompts`.

    held: the run that this is; raises Lost where another process has taken it over. dry_run: only counts.
    """
    removed: Counter[str] = Counter()
    pages = _Pages(store, held)
    act = store.count if dry_run else store.remove
    async for found in store.outlived(cuts.before):
        removed += await pages.work(partial(act, found))
    if cuts.prompts_before > cuts.before:
        async for found in store.outlived_prompts(cuts.before, cuts.prompts_before):
            if not dry_run:
                await pages.work(partial(store.strip, found))
            removed["prompts"] += len(found.decision_ids) + len(found.comparison_ids)
    if not dry_run:
        await store.truncate_log()
    return removed


class _Pages:
    """Works page by page, with rests and a heartbeat."""

    def __init__(self, store: Store, held: Run | None) -> None:
        self._store, self._held = store, held
        self._beaten = time.monotonic()

    async def work(self, page: Callable[[], Any]) -> Any:
        """What the page comes to. Raises Lost."""
        began = time.monotonic()
        found = await page()
        took = time.monotonic() - began
        if self._held and began - self._beaten > _BEAT_SECONDS:
            self._beaten = began
            if not await self._store.beat(self._held.run_id):
                raise Lost("the purge was taken over")
        await asyncio.sleep(max(_REST * took, _LEAST_REST_SECONDS))
        return found


async def _hand_over(store: Store, cuts: Cuts, shelf: Shelf, named: Collection[Path]) -> dict[str, list[str]]:
    """Asks for the erasure of versions that were fitted before the cut for prompts and hold some; they, by router."""
    lying = {router: await asyncio.to_thread(versions.lying, shelf, router) for router in HOLDS_PROMPTS}
    old = {
        router: sorted(
            name
            for name, made in versions.items()
            if made < cuts.prompts_before and shelf.place(router, name).resolve() not in named
        )
        for router, versions in lying.items()
    }
    asked = {router: versions for router, versions in old.items() if versions}
    if asked:
        await store.ask_erasure(None, asked)
    return asked
