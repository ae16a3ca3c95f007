"""What the tests of RouteLLM's checkpoints share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scorer.routellm.endpoint import Endpoint


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    running = Endpoint()
    yield running
    running.stop()
