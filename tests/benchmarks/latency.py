"""What routing costs: the daemon beside the bare encoder, and the proxy with the hook beside the proxy without it.

    python -m tests.benchmarks.latency [--requests 300] [--policy]

With --policy the daemon has a budget, rules, sessions and a canary; each prompt is a conversation that comes back, so
that a request finds its pin or writes it. Everything is measured in one run, in alternating blocks of the same
requests; read the ratios, not the milliseconds. "fell back" are answers that the daemon was too late for.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from scorer import encoder
from tests.demo.__main__ import CONFIG, PROMPTS, PROXY_CONFIG
from tests.demo.stack import KEY, Stack, running

WHOLE = {
    "policy": {"budget": {"daily_dollars": 40}},
    "rules": [
        {"name": "law", "model": "gpt-4o", "keywords": ["contract", "non-disclosure agreement"]},
        {"name": "sql", "router": "router-mf-p20", "regex": r"(?i)\bselect\b.*\bfrom\b"},
    ],
    "sessions": {"margin": 0.05},
    "canary": {"share": 0.1, "router": "random"},
}
BLOCK = 50  # requests of one kind before it is the other's turn

Request = Callable[[aiohttp.ClientSession, str], Awaitable[bool]]  # whether the gateway fell back
console = Console(highlight=False, width=120)


@dataclass
class Measured:
    """Milliseconds of each request, and how many fell back."""

    spans: list[float] = field(default_factory=list)
    fell_back: int = 0

    def add(self, other: Measured) -> None:
        self.spans += other.spans
        self.fell_back += other.fell_back


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300, help="of each kind")
    parser.add_argument("--policy", action="store_true", help="with everything on that a policy can have")
    arguments = parser.parse_args()
    count = arguments.requests
    prompts = [json.loads(line)["prompt"] for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory(prefix="routerd-bench-") as folder:
        with_hook, without = Path(folder) / "hook", Path(folder) / "plain"
        with_hook.mkdir()
        without.mkdir()
        bare = without / "litellm.yaml"
        settings = yaml.safe_load(PROXY_CONFIG.read_text())
        del settings["litellm_settings"]["callbacks"]
        bare.write_text(yaml.safe_dump(settings))
        config = with_hook / "routerd.yaml"
        config.write_text(yaml.safe_dump(yaml.safe_load(CONFIG.read_text()) | (WHOLE if arguments.policy else {})))
        instant = {"STRONG": 0.0, "WEAK": 0.0}
        with (
            running(with_hook, config, PROXY_CONFIG, instant) as hooked,
            running(without, CONFIG, bare, instant) as plain,
        ):
            asyncio.run(measure(hooked, plain, prompts, count, "router" if arguments.policy else "router-mf-p50"))


async def measure(hooked: Stack, plain: Stack, prompts: Sequence[str], count: int, model: str) -> None:
    forward = bare_encoder(prompts, count)
    async with aiohttp.ClientSession() as session:
        route, hook, group = posts(hooked, model), completes(hooked, model), completes(plain, model)
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


def bare_encoder(prompts: Sequence[str], count: int) -> Measured:
    """Milliseconds of one text's encoding in this process, features included."""
    loaded = encoder.Encoder.load(encoder.resolve())
    loaded.encode(prompts)
    spans = []
    for prompt in repeat(prompts, count):
        began = time.perf_counter()
        loaded.encode([prompt])
        spans.append((time.perf_counter() - began) * 1000)
    return Measured(spans)


def posts(stack: Stack, model: str) -> Request:
    async def request(session: aiohttp.ClientSession, prompt: str) -> bool:
        async with session.post(f"{stack.daemon}/v1/route", json={"model": model, "prompt": prompt}) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()
            return False

    return request


def completes(stack: Stack, model: str) -> Request:
    url, headers = f"{stack.proxy}/v1/chat/completions", {"authorization": f"Bearer {KEY}"}

    async def request(session: aiohttp.ClientSession, prompt: str) -> bool:
        body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
        async with session.post(url, json=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()
            return answer.headers.get("x-routerd-status") == "fallback"

    return request


async def alternately(
    session: aiohttp.ClientSession,
    first: Request,
    second: Request,
    prompts: Sequence[str],
    count: int,
    workers: int,
) -> tuple[Measured, Measured]:
    """Both kinds in turn, so that whatever else the machine does strikes both."""
    both = Measured(), Measured()
    for _ in range(0, count, BLOCK):
        for kind, request in enumerate((first, second)):
            both[kind].add(await timed(session, request, repeat(prompts, BLOCK), workers))
    return both


async def timed(session: aiohttp.ClientSession, request: Request, prompts: Iterator[str], workers: int) -> Measured:
    """With so many requests under way at once."""
    measured = Measured()

    async def work() -> None:
        for prompt in prompts:  # one iterator, shared
            began = time.perf_counter()
            measured.fell_back += await request(session, prompt)
            measured.spans.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(work() for _ in range(workers)))
    return measured


def repeat(prompts: Sequence[str], count: int) -> Iterator[str]:
    return itertools.islice(itertools.cycle(prompts), count)


def table(title: str, baseline: Measured, rows: Sequence[tuple[str, Measured]]) -> None:
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("", "n", "p50 ms", "p95 ms", "p50 ratio", "p95 ratio", "fell back"):
        shown.add_column(column, justify="right" if column else "left", no_wrap=True)
    base = np.percentile(baseline.spans, [50, 95])
    for name, measured in rows:
        p50, p95 = np.percentile(measured.spans, [50, 95])
        ratios = f"{p50 / base[0]:.2f}", f"{p95 / base[1]:.2f}"
        count, fell_back = str(len(measured.spans)), str(measured.fell_back)
        shown.add_row(name, count, f"{p50:.2f}", f"{p95:.2f}", *ratios, fell_back)
    console.print(shown)
    console.print()


if __name__ == "__main__":
    main()
