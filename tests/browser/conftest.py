"""A browser for each test, and daemons with and without a history."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

from scorer import daemon
from scorer.config import Config
from tests.browser.chromium import Browser, browsing, program
from tests.conftest import served
from tests.feedback.dashboard import nights
from tests.feedback.dashboard.visiting import SAYS, TOKEN, after_nights, with_buttons


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
    return after_nights(tmp_path_factory.mktemp("nights"), requests=500)


@pytest.fixture(scope="session")
def url(told: Config) -> Iterator[str]:
    """Of a daemon with a history and buttons, that needs no login; the newest decision is one of its own."""
    with with_buttons(told, SAYS) as client:
        client.post("/v1/route", json={"model": "router", "prompt": "What is the capital of France?"})
        yield str(client.base_url)


@pytest.fixture(scope="session")
def guarded_url(told: Config) -> Iterator[str]:
    with with_buttons(msgspec.structs.replace(told, token=TOKEN), SAYS) as client:
        yield str(client.base_url)


@pytest.fixture(scope="session")
def empty_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = msgspec.structs.replace(nights.SETTINGS, data_dir=tmp_path_factory.mktemp("empty"))
    with served(daemon.build(config)) as found:
        yield found
