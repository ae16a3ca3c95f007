"""What routing costs: the daemon beside the bare encoder, and the proxy with the hook beside the proxy without it.

    python -m tests.benchmarks.latency [--requests 300]

Everything is measured in one run, in alternating blocks of the same requests; read the ratios, not the milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import aiohttp
import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from scorer import encoder
from tests.demo.__main__ import CONFIG, PROMPTS, PROXY_CONFIG
from tests.demo.stack import KEY, Stack, running

BLOCK = 50  # requests of one kind before it is the other's turn

Request = Callable[[aiohttp.ClientSession, str], Awaitable[None]]
console = Console(highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300, help="of each kind")
    count = parser.parse_args().requests
    prompts = [json.loads(line)["prompt"] for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory(prefix="routerd-bench-") as folder:
        with_hook, without = Path(folder) / "hook", Path(folder) / "plain"
        with_hook.mkdir()
        without.mkdir()
        bare = without / "litellm.yaml"
        settings = yaml.safe_load(PROXY_CONFIG.read_text())
        del settings["litellm_settings"]["callbacks"]
        bare.write_text(yaml.safe_dump(settings))
        instant = {"STRONG": 0.0, "WEAK": 0.0}
        with (
            running(with_hook, CONFIG, PROXY_CONFIG, instant) as hooked,
            running(without, CONFIG, bare, instant) as plain,
        ):
            asyncio.run(measure(hooked, plain, prompts, count))


async def measure(hooked: Stack, plain: Stack, prompts: Sequence[str], count: int) -> None:
    forward = bare_encoder(prompts, count)
    async with aiohttp.ClientSession() as session:
        route, hook, group = posts(hooked), completes(hooked), completes(plain)
        for request in (route, hook, group):  # connections, caches and LiteLLM's lazy imports
            await timed(session, request, itertools.islice(itertools.cycle(prompts), 60), 1)
        one = await timed(session, route, repeat(prompts, count), 1)
        eight = await timed(session, route, repeat(prompts, count), 8)
        with_hook, without = await alternately(session, hook, group, prompts, count, 1)
        with_hook_8, without_8 = await alternately(session, hook, group, prompts, count, 8)
        with_hook_32, without_32 = await alternately(session, hook, group, prompts, count, 32)
    table(
        "POST /v1/route, mf, beside the bare encoder",
        forward,
        [
            ("encoder alone, tokens to embedding", forward),
            ("route, concurrency 1", one),
            ("route, concurrency 8", eight),
        ],
    )
    table(
        "proxy, chat completions, concurrency 1",
        without,
        [("without the hook", without), ("with the hook", with_hook)],
    )
    table(
        "proxy, chat completions, concurrency 8",
        without_8,
        [
            ("without the hook", without_8),
            ("with the hook", with_hook_8),
        ],
    )
    table(
        "proxy, chat completions, concurrency 32",
        without_32,
        [
            ("without the hook", without_32),
            ("with the hook", with_hook_32),
        ],
    )


def bare_encoder(prompts: Sequence[str], count: int) -> list[float]:
    """Milliseconds of one text's encoding in this process, features included."""
    loaded = encoder.Encoder.load(encoder.resolve())
    loaded.encode(prompts)
    spans = []
    for prompt in repeat(prompts, count):
        began = time.perf_counter()
        loaded.encode([prompt])
        spans.append((time.perf_counter() - began) * 1000)
    return spans


def posts(stack: Stack) -> Request:
    async def request(session: aiohttp.ClientSession, prompt: str) -> None:
        async with session.post(
            f"{stack.daemon}/v1/route", json={"model": "router-mf-p50", "prompt": prompt}
        ) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()

    return request


def completes(stack: Stack) -> Request:
    url, headers = f"{stack.proxy}/v1/chat/completions", {"authorization": f"Bearer {KEY}"}

    async def request(session: aiohttp.ClientSession, prompt: str) -> None:
        body = {"model": "router-mf-p50", "messages": [{"role": "user", "content": prompt}]}
        async with session.post(url, json=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()

    return request


async def alternately(
    session: aiohttp.ClientSession,
    first: Request,
    second: Request,
    prompts: Sequence[str],
    count: int,
    workers: int,
) -> tuple[list[float], list[float]]:
    """Both kinds in turn, so that whatever else the machine does strikes both."""
    spans: tuple[list[float], list[float]] = ([], [])
    for _ in range(0, count, BLOCK):
        for kind, request in enumerate((first, second)):
            spans[kind].extend(await timed(session, request, repeat(prompts, BLOCK), workers))
    return spans


async def timed(session: aiohttp.ClientSession, request: Request, prompts: Iterator[str], workers: int) -> list[float]:
    """Milliseconds of each request, with so many under way at once."""
    spans: list[float] = []

    async def work() -> None:
        for prompt in prompts:  # one iterator, shared
            began = time.perf_counter()
            await request(session, prompt)
            spans.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(work() for _ in range(workers)))
    return spans


def repeat(prompts: Sequence[str], count: int) -> Iterator[str]:
    return itertools.islice(itertools.cycle(prompts), count)


def table(title: str, baseline: Sequence[float], rows: Sequence[tuple[str, Sequence[float]]]) -> None:
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("", "n", "p50 ms", "p95 ms", "p50 ratio", "p95 ratio"):
        shown.add_column(column, justify="right" if column else "left", no_wrap=True)
    base = np.percentile(baseline, [50, 95])
    for name, spans in rows:
        p50, p95 = np.percentile(spans, [50, 95])
        shown.add_row(name, str(len(spans)), f"{p50:.2f}", f"{p95:.2f}", f"{p50 / base[0]:.2f}", f"{p95 / base[1]:.2f}")
    console.print(shown)
    console.print()


if __name__ == "__main__":
    main()
