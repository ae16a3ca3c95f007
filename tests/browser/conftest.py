"""A browser for each test, and daemons with and without a history."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from feedback.dashboard.commands import Commands
from scorer import daemon, hosting
from scorer.config import Config
from tests.browser.chromium import Browser, browsing, program
from tests.conftest import served
from tests.feedback.dashboard import nights

TOKEN = "a long enough token"
SAYS = [sys.executable, "-c", "import sys; print('said', *sys.argv[1:])"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`.ci/run` installs one first; where there is none, what needs it is left out, and says so."""
    if program() is None:
        for item in items:
            if "/tests/browser/" in str(item.path):
                item.add_marker(pytest.mark.skip(reason="no chromium on this machine: apt-get install chromium"))


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as started:
        yield started


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = msgspec.structs.replace(nights.SETTINGS, data_dir=tmp_path_factory.mktemp("nights"))

    async def fill() -> None:
        store = hosting.open_store(config)
        await nights.replay(store, config, nights=4, requests=500, rated=0.8)
        await store.close()

    asyncio.run(fill())
    return config


@pytest.fixture(scope="session")
def url(told: Config) -> Iterator[str]:
    """Of a daemon with a history and buttons, that needs no login."""
    with served(daemon.build(told, commands=Commands(SAYS, Path("config.yaml")))) as found:
        yield found


@pytest.fixture(scope="session")
def guarded_url(told: Config) -> Iterator[str]:
    config = msgspec.structs.replace(told, token=TOKEN)
    with served(daemon.build(config, commands=Commands(SAYS, Path("config.yaml")))) as found:
        yield found


@pytest.fixture(scope="session")
def empty_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = msgspec.structs.replace(nights.SETTINGS, data_dir=tmp_path_factory.mktemp("empty"))
    with served(daemon.build(config)) as found:
        yield found
