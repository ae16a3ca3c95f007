"""A circuit breaker: after consecutive failures nobody waits for a daemon that does not answer."""

import time
from collections.abc import Callable


class Breaker:
    """Closed; open after `failures` consecutive ones; half-open, with one probe under way, after `pause_s`.

    Every admitted call must end in exactly one of succeeded(), failed() and released().
    """

    def __init__(self, failures: int, pause_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.state = "closed"
        self.opened = 0  # times
        self._failures, self._pause_s, self._clock = failures, pause_s, clock
        self._consecutive = 0
        self._retry_at = 0.0

    def admit(self) -> bool:
        """Whether a call may be made now; in a pause's first call after its end, that call is the probe."""
        if self.state == "closed":
            return True
        if self.state == "half-open" or self._clock() < self._retry_at:
            return False
        self.state = "half-open"
        return True

    def succeeded(self) -> None:
        self.state, self._consecutive = "closed", 0

    def failed(self) -> None:
        self._consecutive += 1
        if self.state == "half-open" or (self.state == "closed" and self._consecutive >= self._failures):
            self.state = "open"
            self.opened += 1
            self._retry_at = self._clock() + self._pause_s

    def released(self) -> None:
        """The call was given up before anything was learned from it; the next one may be the probe."""
        if self.state == "half-open":
            self.state = "open"
