"""The ladder, learned from the daemon and remembered while the daemon is away."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from gateway_plugin.client import PROTOCOL, Unavailable

logger = logging.getLogger(__name__)

REFRESH_S = 30.0

Fetch = Callable[[float], Awaitable[Mapping[str, object]]]
Tags = Mapping[str, str]

_NO_TAGS: Mapping[str, Tags] = MappingProxyType({})


class Ladder(NamedTuple):
    models: tuple[str, ...] = ()  # strongest first
    observing: bool = False  # the daemon decides, the proxy changes nothing
    tags: Mapping[str, Tags] = _NO_TAGS  # of the models that have any

    def has(self, model: str, needed: Tags) -> bool:
        """Whether the model has all of the tags."""
        return needed.items() <= self.tags.get(model, {}).items()


class Learned:
    """Asks for the ladder once before the first answer, and later in the background."""

    def __init__(self, fetch: Fetch) -> None:
        self.last: Ladder | None = None
        self._fetch = fetch
        self._due = 0.0
        self._refresh: asyncio.Task[None] | None = None
        self._skew: object = PROTOCOL

    async def get(self, deadline: float) -> Ladder:
        """Raises Unavailable while no ladder was ever learned. `deadline` is in the loop's time."""
        if self.last is None:
            return await self._learn(deadline)
        if time.monotonic() >= self._due and (self._refresh is None or self._refresh.done()):
            self._refresh = asyncio.create_task(self._relearn())
        return self.last

    @property
    def observing(self) -> bool:
        """Whether the daemon, when last heard, wanted the proxy to change nothing."""
        return self.last is not None and self.last.observing

    def expire(self) -> None:
        """The next get() asks again."""
        self._due = 0.0

    async def _relearn(self) -> None:
        self._due = time.monotonic() + REFRESH_S
        try:
            await self._learn(asyncio.get_running_loop().time() + 5)
        except Unavailable as error:
            logger.info("routerd: the ladder was not refreshed: %s", error)
        except Exception:
            logger.exception("routerd: the ladder was not refreshed")

    async def _learn(self, deadline: float) -> Ladder:
        ladder = self._parse(await self._fetch(deadline))
        self.last, self._due = ladder, time.monotonic() + REFRESH_S
        return ladder

    def _parse(self, answer: Mapping[str, object]) -> Ladder:
        protocol = answer.get("protocol")
        if protocol != self._skew:
            logger.warning("routerd: the daemon speaks protocol %r, this plugin %r", protocol, PROTOCOL)
            self._skew = protocol
        steps = answer.get("ladder")
        if not isinstance(steps, list):
            raise Unavailable("bad answer")
        models = [step.get("model") if isinstance(step, Mapping) else None for step in steps]
        named = tuple(model for model in models if isinstance(model, str) and model)
        if not named or len(named) < len(models):
            raise Unavailable("bad answer")
        tags = {step["model"]: step["tags"] for step in steps if isinstance(step.get("tags"), Mapping)}
        return Ladder(named, answer.get("mode") == "observe", tags)
