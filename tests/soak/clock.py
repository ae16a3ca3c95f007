"""A clock that can be put forward and back under a running process.

It is the one of Python's time module; the monotonic clock goes on as it is. (libfaketime was tried: beneath it a
decision takes fifty times as long, whatever the time is, and nothing is routed in time.)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_PATCH = """
import os, time
_time, _time_ns = time.time, time.time_ns
def _ahead():
    with open(os.environ["SOAK_CLOCK"]) as file:
        return float(file.read())
time.time = lambda: _time() + _ahead()
time.time_ns = lambda: _time_ns() + int(_ahead() * 1e9)
"""


class Clock:
    """A Python process that is started with this `environment` has it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        site = folder / "site"  # Python runs a module of this name, where it finds one, when it starts
        site.mkdir()
        (site / "sitecustomize.py").write_text(_PATCH)
        path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
        self.environment: Mapping[str, str] = {"PYTHONPATH": path, "SOAK_CLOCK": str(self._file)}
        self.put(0)

    def put(self, ahead: float) -> None:
        """So many seconds ahead of the real time, or behind it."""
        written = self._file.with_suffix(".new")
        written.write_text(str(ahead))
        written.replace(self._file)
