"""What the gateway plugins say about themselves."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from typing import Annotated

import msgspec

_INSTANCES = 1000  # remembered; beyond it the one silent for longest is forgotten

EVENTS = ("opened", "timeouts", "errors", "fallbacks", "dropped")  # that plugins count

_log = logging.getLogger(__name__)

Label = Annotated[str, msgspec.Meta(max_length=256)]


class PluginReport(msgspec.Struct, frozen=True):
    """One plugin instance's state: its circuit breaker's, and its counters since it started."""

    instance: Label
    breaker: Label = "closed"
    counters: Annotated[dict[Label, float], msgspec.Meta(max_length=256)] = {}


class Plugins:
    """The newest report of each instance, in memory.

    `counted` adds up what instances have counted since they were first heard of here, whatever restarts in between.
    """

    def __init__(self) -> None:
        self._newest: OrderedDict[str, PluginReport] = OrderedDict()
        self.counted = Counter(dict.fromkeys(EVENTS, 0))

    def report(self, report: PluginReport) -> None:
        """Keeps the report; logs when the instance's breaker has changed its state."""
        earlier = self._newest.pop(report.instance, None)
        before = earlier.breaker if earlier else "closed"
        if report.breaker != before:
            _log.warning("plugin %r: circuit breaker %r, was %r", report.instance, report.breaker, before)
        self._newest[report.instance] = report
        if earlier:
            self._count(earlier.counters, report.counters)
        if len(self._newest) > _INSTANCES:
            self._newest.popitem(last=False)

    def _count(self, before: dict[str, float], now: dict[str, float]) -> None:
        """A counter that is lower than it was has begun anew."""
        for name in filter(now.__contains__, EVENTS):
            grown = now[name] - before.get(name, 0.0)
            self.counted[name] += int(grown if grown >= 0 else now[name])

    @property
    def newest(self) -> list[PluginReport]:
        return list(self._newest.values())
