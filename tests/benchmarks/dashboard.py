"""What looking at the dashboard costs those who ask for decisions: latency alone, and while its figures are found.

    python -m tests.benchmarks.dashboard

A daemon with 10,000 requests behind it, the static encoder and SQLite; one client asks for decisions one after the
other, in blocks: alone, and while another loads figures of ever other days, so that none are kept. Blocks alternate.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import numpy as np
import yaml

from scorer import hosting
from tests.conftest import free_port
from tests.feedback.dashboard import nights

_ASKED = {"model": "router", "prompt": "Prove that every finite integral domain is a field."}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--requests", type=int, default=300, help="a block")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, daemon(Path(folder)) as url, httpx.Client(base_url=url) as client:
        days = itertools.count(20)
        alone: list[float] = []
        beside: list[float] = []
        took: list[float] = []
        for _ in range(chosen.blocks):
            alone += [ask(client) for _ in range(chosen.requests)]
            with looking(url, days, took):
                beside += [ask(client) for _ in range(chosen.requests)]
        show("decisions alone", alone)
        show("decisions while figures are found", beside)
        show(f"figures of 10,000 requests ({len(took)} times)", took)
        first = time.perf_counter()
        client.get("/", timeout=60)
        again = time.perf_counter()
        size = len(client.get("/", timeout=60).content)
        print(f"first page {again - first:.2f} s, again {time.perf_counter() - again:.3f} s, {size / 1000:.1f} kB")


@contextmanager
def daemon(folder: Path) -> Iterator[str]:
    """In a process of its own."""
    listen = f"127.0.0.1:{free_port()}"
    ladder = [{"model": rung.model, "like": rung.like} for rung in nights.LADDER]
    config = {"ladder": ladder, "encoder": "static", "exploration": 0.1, "data_dir": str(folder), "listen": listen}
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "retrain": {"cron": None}, "drift": None}))
    asyncio.run(fill(folder))
    process = subprocess.Popen([sys.executable, "-m", "scorer", "serve", "--config", str(folder / "config.yaml")])
    try:
        until_ready(f"http://{listen}")
        yield f"http://{listen}"
    finally:
        process.terminate()
        process.wait(20)


async def fill(folder: Path) -> None:
    config = msgspec.structs.replace(nights.SETTINGS, data_dir=folder)
    store = hosting.open_store(config)
    await nights.replay(store, config)
    await store.close()


def until_ready(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError("the daemon did not start")


def ask(client: httpx.Client) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    client.post("/v1/route", json=_ASKED).raise_for_status()
    return 1000 * (time.perf_counter() - began)


@contextmanager
def looking(url: str, days: Iterator[int], took: list[float]) -> Iterator[None]:
    """Figures are asked for all the time, each time for another number of days."""
    done = threading.Event()

    def look() -> None:
        with httpx.Client(base_url=url, timeout=120) as client:
            while not done.is_set():
                began = time.perf_counter()
                client.get(f"/v1/report/{next(days)}").raise_for_status()
                took.append(1000 * (time.perf_counter() - began))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def show(what: str, milliseconds: list[float]) -> None:
    p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99])
    print(f"{what}: p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms")


if __name__ == "__main__":
    main()
