"""What a nightly run takes, and what it does to the decisions that are made meanwhile.

    python -m tests.benchmarks.night [--ratings 100000]

A database of made-up ratings, a daemon on it, and `routerd retrain` as the daemon's clock would start it: at low
priority, in a process of its own. Decisions are timed before it and while it runs; read the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import yaml
from rich.console import Console

from feedback.records import Outcome, Rating
from feedback.store import Store
from gateway_plugin import ids
from scorer import hosting
from scorer.config import Config, load
from scorer.decisions import Decision
from scorer.features import NAMES
from tests.demo.__main__ import PROMPTS
from tests.demo.stack import Service, free_port

MODELS = ("gpt-4o", "gpt-4o-mini")
LIKE = ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")
BLOCK = 2000
IDLE = 500  # decisions timed before the run
PAUSE = 0.05  # seconds between two decisions: traffic, not a flood
console = Console(highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratings", type=int, default=100_000)
    count = parser.parse_args().ratings
    with tempfile.TemporaryDirectory(prefix="routerd-bench-") as folder:
        path = configuration(Path(folder))
        config = load(path)
        began = time.perf_counter()
        asyncio.run(fill(config, count))
        console.print(f"{count:,} ratings written in {time.perf_counter() - began:.0f} s")
        command = [sys.executable, "-m", "scorer", "serve", "--config", str(path)]
        daemon = Service("the daemon", command, f"http://{config.listen}/readyz", Path(folder) / "log")
        daemon.start()
        try:
            asyncio.run(measure(config, path))
        finally:
            daemon.stop()


def configuration(folder: Path) -> Path:
    content = {
        "ladder": [{"model": model, "like": like} for model, like in zip(MODELS, LIKE, strict=True)],
        "listen": f"127.0.0.1:{free_port()}",
        "data_dir": str(folder / "data"),
        "routers": {"mf": {}, "sw": {}},
        "retrain": {"cron": None},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


async def fill(config: Config, count: int) -> None:
    encoder = hosting.load_encoder(config)
    store = hosting.open_store(config)
    generator = np.random.default_rng(0)
    truth = generator.standard_normal((len(MODELS), encoder.dimension)).astype(np.float32)
    for start in range(0, count, BLOCK):
        await write(store, encoder.id, generator, truth, range(start, min(start + BLOCK, count)))
    await store.close()


async def write(
    store: Store, encoder_id: str, generator: np.random.Generator, truth: np.ndarray, numbers: range
) -> None:
    n = len(numbers)
    embeddings = generator.standard_normal((n, truth.shape[1]), np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    features = generator.standard_normal((n, len(NAMES)), np.float32)
    chosen = generator.integers(0, len(MODELS), n)
    liked = generator.random(n) < 1 / (1 + np.exp(-3 * (embeddings * truth[chosen]).sum(axis=1)))
    made = [decision(encoder_id, *row) for row in zip(numbers, embeddings, features, chosen, strict=True)]
    await store.add_decisions(made)
    await store.record_outcomes(
        [Outcome(decision_id=one.decision_id, status="success", served=one.model) for one in made]
    )
    await store.take(
        [Rating(decision_id=one.decision_id, value=float(up)) for one, up in zip(made, liked, strict=True)], []
    )


def decision(encoder_id: str, number: int, embedding: np.ndarray, features: np.ndarray, chosen: int) -> Decision:
    decision_id = ids.mint()
    return Decision(
        decision_id=decision_id,
        created_at=time.time(),
        requested="router",
        router="mf",
        version="any",
        mode="route",
        threshold=0.5,
        win_rates=dict.fromkeys(MODELS, 0.5),
        quality=None,
        probabilities=dict.fromkeys(MODELS, 0.5),
        model=MODELS[chosen],
        propensity=0.5,
        explored=False,
        reason="",
        unit=decision_id,
        text_hash=hashlib.sha256(str(number).encode()).hexdigest(),
        encoder_id=encoder_id,
        embedding=embedding.tobytes(),
        features=features.tobytes(),
    )


async def measure(config: Config, path: Path) -> None:
    prompts = [json.loads(line)["prompt"] for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    async with httpx.AsyncClient(base_url=f"http://{config.listen}", timeout=30) as client:
        await timed(client, prompts, lambda done: done < 100)
        idle = await timed(client, prompts, lambda done: done < IDLE)
        began = time.perf_counter()
        night = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "scorer", "retrain", "--config", str(path)), preexec_fn=lambda: os.nice(10)
        )
        busy = await timed(client, prompts, lambda _: night.returncode is None)
        took = time.perf_counter() - began
        after = (await client.get("/v1/routers")).json()["routers"]
    console.print(f"retrain took {took:.1f} s and ended with {night.returncode}; now {after['mf']['version']} serves")
    for name, spans in (("idle", idle), ("while it runs", busy)):
        p50, p95 = np.percentile(spans, [50, 95])
        ratio = p95 / np.percentile(idle, 95)
        console.print(
            f"{name:14} {len(spans):6} decisions  p50 {p50:6.1f} ms  p95 {p95:6.1f} ms  {ratio:.2f} of idle's"
        )


async def timed(client: httpx.AsyncClient, prompts: list[str], goes_on: Callable[[int], bool]) -> list[float]:
    """Milliseconds of decisions, one after the other."""
    spans: list[float] = []
    for prompt in cycle(prompts):
        if not goes_on(len(spans)):
            return spans
        began = time.perf_counter()
        answer = await client.post("/v1/route", json={"model": "router-mf-p50", "prompt": prompt})
        answer.raise_for_status()
        spans.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(PAUSE)
    raise AssertionError("a cycle does not end")


def cycle(prompts: list[str]) -> Iterator[str]:
    while True:
        yield from prompts


if __name__ == "__main__":
    main()
