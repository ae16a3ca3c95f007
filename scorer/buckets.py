"""Rate limits: a token bucket for every name."""

from __future__ import annotations

import time
from collections.abc import Callable

_MOST = 100_000  # names that are remembered


class Buckets:
    """Each lets `burst` through at once and `per_second` in the long run.

    Of a bucket one number is kept, the time at which it will be full again; a full one needs none.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._each = 1 / per_second  # seconds that one takes to come back
        self._whole = burst / per_second  # and that an empty bucket takes
        self._full_at: dict[str, float] = {}
        self._clock = clock

    def take(self, name: str) -> float:
        """Takes one and returns 0, or takes none and returns the seconds after which there will be one."""
        now = self._clock()
        full_at = max(self._full_at.get(name, now), now) + self._each
        wait = full_at - now - self._whole
        if wait > 1e-6:  # more than rounding
            return wait
        self._full_at[name] = full_at
        if len(self._full_at) > _MOST:
            self._forget(now)
        return 0.0

    def _forget(self, now: float) -> None:
        """What is full; and of what is left, should it be too much, the fuller half."""
        kept = sorted(((at, name) for name, at in self._full_at.items() if at > now), reverse=True)
        self._full_at = {name: at for at, name in kept[: _MOST // 2]}
