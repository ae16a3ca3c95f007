"""What tests of the pages share: addresses, a token, daemons with nights behind them, the store, and patience."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import msgspec

from feedback.dashboard.commands import Commands
from feedback.records import Outcome, Rating
from feedback.store import Store
from scorer import daemon, hosting
from scorer.config import Config
from scorer.decisions import Decision
from tests.conftest import served
from tests.feedback.dashboard import nights

PAGES = ("/", "/decisions", "/runs", "/versions")
TOKEN = "a long enough token"
SAYS = [sys.executable, "-c", "import sys; print('said', *sys.argv[1:])"]


def after_nights(data_dir: Path, requests: int) -> Config:
    """Settings of a daemon with four nights of so many requests behind it, most of them rated."""
    config = msgspec.structs.replace(nights.SETTINGS, data_dir=data_dir)

    async def fill() -> None:
        async with opened(config) as store:
            await nights.replay(store, config, nights=4, requests=requests, rated=0.8)

    asyncio.run(fill())
    return config


@contextmanager
def with_buttons(config: Config, program: list[str]) -> Iterator[httpx.Client]:
    """A client of a daemon whose buttons run the program."""
    commands = Commands(program, Path("config.yaml"))
    with served(daemon.build(config, commands=commands)) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Store]:
    store = hosting.open_store(config)
    yield store
    await store.close()


def put(config: Config, decisions: list[Decision], outcomes: list[Outcome], ratings: list[Rating]) -> None:
    async def work() -> None:
        async with opened(config) as store:
            await store.add_decisions(decisions)
            await store.record_outcomes(outcomes)
            for rating in ratings:
                await store.rate(rating)

    asyncio.run(work())


def wait_for(happened: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
