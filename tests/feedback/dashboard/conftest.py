"""A daemon with some nights behind it, over a real socket; made once for the package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from scorer import daemon
from scorer.config import Config
from tests.conftest import served
from tests.feedback.dashboard import nights
from tests.feedback.dashboard.visiting import after_nights


@pytest.fixture(scope="package")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return after_nights(tmp_path_factory.mktemp("nights"), requests=700)


@pytest.fixture(scope="package")
def client(replayed: Config) -> Iterator[httpx.Client]:
    with served(daemon.build(replayed)) as url, httpx.Client(base_url=url, timeout=60) as opened:
        yield opened


@pytest.fixture
def fresh(tmp_path: Path) -> Config:
    """Of a daemon that nothing was asked of."""
    return msgspec.structs.replace(nights.SETTINGS, data_dir=tmp_path)
