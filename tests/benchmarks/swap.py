"""Versions that change under load: what was sent, what failed, and which version answered.

    python -m tests.benchmarks.swap [--clients 16] [--seconds 12]

A daemon as `routerd serve` starts it, on the static encoder, and clients that ask one decision after the other, while
versions of mf are activated, one of them with a broken artifact, and one is rolled back. Read the ratios, not the
milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import copy
import itertools
import math
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import aiohttp
import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from feedback import calibrations, retrain, versions
from feedback.retrain import Plan
from feedback.store import Store
from scorer import artifacts, hosting
from scorer.calibration import Calibration
from scorer.config import Config, load
from scorer.routers.factorization import Factorization
from tests.benchmarks.champions import thumbs
from tests.demo.stack import Service, free_port
from tests.scorer.conftest import TWO

PROMPTS = ("What is the capital of France?", "Prove that every finite integral domain is a field.", "Write a poem.")
POLL_SECONDS = 5.0  # after which a daemon looks for what was activated
PAUSE_SECONDS = 0.02  # of a client between two requests: traffic, not a flood
SHARE = 0.5
BROKEN, FAILED = "broken", ""

console = Console(highlight=False, width=150)


class Fitted(NamedTuple):
    """A version on disk, and what its scores mean."""

    router: Factorization
    directory: Path
    calibration: Calibration


class Answer(NamedTuple):
    """Times are of the monotonic clock; version FAILED: there was none."""

    client: int
    began: float
    ended: float
    version: str
    threshold: float


class Step(NamedTuple):
    """What was activated, by its version, and when that was committed."""

    what: str
    version: str
    committed: float


class Swap(NamedTuple):
    """A step that led to another version: when that was first answered, and until when it served."""

    step: Step
    first: float
    until: float

    @property
    def lag(self) -> float:
        return self.first - self.step.committed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=12.0, help="between two steps, beyond the poll interval")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="routerd-bench-") as folder:
        path = configuration(Path(folder))
        config = load(path)
        command = [sys.executable, "-m", "scorer", "serve", "--config", str(path)]
        daemon = Service("the daemon", command, f"http://{config.listen}/readyz", Path(folder) / "log")
        fitted = prepare(config, 3)
        daemon.start()
        try:
            steps, answers = asyncio.run(
                drive(config, f"http://{config.listen}", fitted, chosen.clients, chosen.seconds)
            )
        finally:
            daemon.stop()
        report(steps, answers, faults(steps, answers, fitted, POLL_SECONDS + 3))


def configuration(folder: Path) -> Path:
    content = {
        "ladder": [{"model": rung.model, "like": rung.like} for rung in TWO],
        "listen": f"127.0.0.1:{free_port()}",
        "data_dir": str(folder / "data"),
        "encoder": "static",
        "routers": {"mf": {}},
        "default": "router-mf-p50",
        "retrain": {"cron": None},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def prepare(config: Config, count: int) -> list[Fitted]:
    """So many versions of mf, each fitted on other ratings; the first is active."""
    encoder = hosting.load_encoder(config)
    plan = hosting.plan(config, encoder)

    async def work() -> list[Fitted]:
        store = hosting.open_store(config)
        fitted = []
        for number in range(count):
            said = thumbs(encoder, config.models, 8 + 4 * number)
            router = plan.mf.refit(said.battles, said.prompts, ladder=config.models, like=config.like)
            directory = router.save(plan.shelf.place(router.name, router.version))
            made = await retrain.calibrated(store, plan, router)
            calibration = calibrations.restored(calibrations.stored(router, config.models, made))
            fitted.append(Fitted(router, directory, calibration))
        await activate(store, plan, fitted[0])
        await store.close()
        return fitted

    return asyncio.run(work())


async def activate(store: Store, plan: Plan, one: Fitted) -> float:
    """When it was committed."""
    await retrain.activate(store, plan, one.router, one.directory, one.calibration, "a person")
    return time.monotonic()


async def drive(
    config: Config, url: str, fitted: Sequence[Fitted], clients: int, seconds: float
) -> tuple[list[Step], list[Answer]]:
    """All versions one after the other, then one that cannot be loaded, then back, under load; seconds: between two."""
    plan = await asyncio.to_thread(lambda: hosting.plan(config, hosting.load_encoder(config)))
    store, answers, over = Store(config.database_url), list[Answer](), asyncio.Event()
    steps = [Step("serves", fitted[0].router.version, time.monotonic())]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        asking = [asyncio.create_task(ask(session, url, client, answers, over)) for client in range(clients)]
        await asyncio.sleep(seconds)
        for one in fitted[1:]:
            steps.append(Step("activate", one.router.version, await activate(store, plan, one)))
            await asyncio.sleep(seconds)
        steps.append(Step("activate, broken", BROKEN, await activate(store, plan, broken(fitted[-1]))))
        await asyncio.sleep(seconds)
        target = versions.before((await store.activations(fitted[0].router.name))[1:])  # of what serves
        back = next(one for one in fitted if one.router.version == target)
        steps.append(Step("roll back", back.router.version, await activate(store, plan, back)))
        await asyncio.sleep(seconds)
        over.set()
        await asyncio.gather(*asking)
    await store.close()
    return steps, answers


def broken(like: Fitted) -> Fitted:
    """A version whose tensors were cut short after it was written."""
    directory = like.directory.with_name(BROKEN)
    shutil.copytree(like.directory, directory)
    tensors = directory / artifacts.TENSORS
    tensors.write_bytes(tensors.read_bytes()[:-1])
    router = copy.copy(like.router)
    router.version = BROKEN
    return Fitted(router, directory, like.calibration)


async def ask(
    session: aiohttp.ClientSession, url: str, client: int, answers: list[Answer], over: asyncio.Event
) -> None:
    """One decision after the other."""
    for prompt in itertools.cycle(PROMPTS):
        if over.is_set():
            return
        began, version, threshold = time.monotonic(), FAILED, 0.0
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with session.post(f"{url}/v1/route", json={"model": "router-mf-p50", "prompt": prompt}) as answer:
                if answer.status == 200:
                    body = await answer.json()
                    version, threshold = body["version"], body["threshold"]
        answers.append(Answer(client, began, time.monotonic(), version, threshold))
        await asyncio.sleep(PAUSE_SECONDS)


def swaps(steps: Sequence[Step], answers: Sequence[Answer]) -> list[Swap]:
    """Of every step that should lead to another version. Infinite: it was never answered."""
    found = []
    for step, following in itertools.pairwise([*steps, Step("", "", math.inf)]):
        if step.version != BROKEN and step.what != "serves":
            ended = [
                one.ended
                for one in answers
                if one.version == step.version and step.committed < one.ended < following.committed
            ]
            found.append(Swap(step, min(ended, default=math.inf), following.committed))
    return found


def faults(
    steps: Sequence[Step], answers: Sequence[Answer], fitted: Sequence[Fitted], most_seconds: float
) -> list[str]:
    """What should not be, a line each; most_seconds: by which an activated version answers."""
    found = []
    if failed := sum(one.version == FAILED for one in answers):
        found.append(f"{failed} requests failed")
    thresholds = {one.router.version: one.calibration.threshold(SHARE) for one in fitted}
    wrong = {(one.version, one.threshold) for one in answers if one.version != FAILED} - set(thresholds.items())
    found += [f"{version} answered with threshold {threshold}" for version, threshold in sorted(wrong)]
    expected = [step.version for step in steps if step.version != BROKEN]
    for client in {one.client for one in answers}:
        seen = [version for version, _ in itertools.groupby(one.version for one in answers if one.client == client)]
        if seen != expected:
            found.append(f"client {client} was answered by {seen}, in this order")
    for swap in swaps(steps, answers):
        if not swap.lag < most_seconds:
            found.append(f"{swap.step.version} answered {swap.lag:.1f} s after it was activated")
        stale = [one for one in answers if swap.first < one.began < swap.until and one.version != swap.step.version]
        if stale:
            found.append(f"{len(stale)} requests were sent after {swap.step.version} had answered, and met another")
    return found


def report(steps: Sequence[Step], answers: Sequence[Answer], found: Sequence[str]) -> None:
    known = {swap.step: swap for swap in swaps(steps, answers)}
    table = Table(title=f"{len(answers)} requests, {sum(a.version == FAILED for a in answers)} failed", box=None)
    for column in ("step", "version", "lag s", "sent", "failed", "by the one before", "by it", "by others"):
        table.add_column(column, justify="left" if column in ("step", "version") else "right", no_wrap=True)
    serving = ""
    for step, following in itertools.pairwise([*steps, Step("", "", math.inf)]):
        sent = [one.version for one in answers if step.committed <= one.began < following.committed]
        by = Counter(sent)
        counts = len(sent), by[FAILED], by[serving], by[step.version]
        lag = f"{known[step].lag:.2f}" if step in known else ""
        table.add_row(step.what, step.version, lag, *map(str, counts), str(len(sent) - sum(counts[1:])))
        serving = serving if step.version == BROKEN else step.version
    console.print(table)
    latency(answers, [(swap.step.committed, swap.first) for swap in known.values()])
    for fault in found:
        console.print(f"BROKEN {fault}", markup=False)
    if not found:
        console.print("every client saw every version in order, each with its own thresholds; nothing failed")


def latency(answers: Sequence[Answer], swapping: Sequence[tuple[float, float]]) -> None:
    """Milliseconds of requests before the first swap, during swaps (from the activation to its first answer), between
    them, and after the last."""
    first, last = swapping[0][0], swapping[-1][1]
    spans: dict[str, list[float]] = {"before": [], "during": [], "between": [], "after": []}
    for one in answers:
        during = any(one.ended > start and one.began < end for start, end in swapping)
        when = "during" if during else "before" if one.ended <= first else "after" if one.began >= last else "between"
        spans[when].append((one.ended - one.began) * 1000)
    base = np.percentile(spans["before"], [50, 95])
    for when, milliseconds in spans.items():
        if milliseconds:
            p50, p95 = np.percentile(milliseconds, [50, 95])
            console.print(
                f"{when:8} {len(milliseconds):7} requests  p50 {p50:6.1f} ms  p95 {p95:6.1f} ms  "
                f"{p50 / base[0]:.2f} and {p95 / base[1]:.2f} of before"
            )


if __name__ == "__main__":
    main()
