"""LiteLLM looks for a newer price map on the network when it is imported, unless it is told not to.

One proxy serves all modules that need an ordinary one: it takes some seconds and 350 MB.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.gateway_plugin.stack import Stack

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    from tests.gateway_plugin.stack import launched

    configured = {"fallbacks": [{"gpt-4o": ["gpt-4o-mini"]}], "disable_cooldowns": True, "num_retries": 0}
    with launched(tmp_path_factory.mktemp("proxy"), {"router_settings": configured}) as stack:
        yield stack


@pytest.fixture
def stack(running: Stack) -> Iterator[Stack]:
    running.settle()
    yield running
    assert running.daemon.faults == []
