"""Processes that are killed with SIGKILL at a named point, and what is seen of them from outside."""

from __future__ import annotations

import mmap
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from functools import wraps
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import event
from sqlalchemy.engine import Engine

from feedback.store import Store

_LABEL = slice(1, 256)


class Point(NamedTuple):
    """The n-th time, from 1, that a step is reached."""

    step: str
    time: int


class Stuck(Exception):
    """Something that was waited for did not come."""


class Watch:
    """Steps that a process takes, its stages among them: the newest is seen by the process that forked it, and the
    process ends itself at a given one. Made before the fork; nothing counts until it is armed."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 256)
        self._counts: Counter[str] = Counter()
        self._kill_at: Point | None = None
        self._journal: Path | None = None

    def arm(self) -> None:
        self._shared[0] = 1

    @property
    def at(self) -> str:
        """The newest step."""
        return self._shared[_LABEL].rstrip(b"\0").decode()

    def follow(self, stages: Mapping[str, tuple[Any, str]], kill_at: Point | None, journal: Path | None = None) -> None:
        """In the forked process. stages: by name, an object and the name of its function that is one; journal: where
        every step is written down, a line each."""
        self._kill_at, self._journal = kill_at, journal
        for stage, (owner, name) in stages.items():
            setattr(owner, name, self._stage(getattr(owner, name), stage))
        for name in ("fsync", "rename"):
            setattr(os, name, self._around(getattr(os, name), name))
        Store._committing = self._around(Store._committing, "transaction")  # type: ignore[method-assign]
        event.listen(Engine, "commit", lambda _: self._step("before commit"))

    def _stage(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        @wraps(function)
        def begun(*arguments: Any, **named: Any) -> Any:
            self._shown = name
            self._step("begins")
            return function(*arguments, **named)

        return begun

    def _around(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        @wraps(function)
        def surrounded(*arguments: Any, **named: Any) -> Any:
            self._step(f"before {name}")
            result = function(*arguments, **named)
            self._step(f"after {name}")
            return result

        return surrounded

    _shown = "start"

    def _step(self, what: str) -> None:
        if not self._shared[0]:
            return
        label = f"{self._shown}: {what}"
        self._shared[_LABEL] = label.encode().ljust(255, b"\0")
        self._counts[label] += 1
        if self._journal:
            with self._journal.open("a") as file:
                file.write(f"{label}\n")
        if self._kill_at == Point(label, self._counts[label]):
            os.kill(os.getpid(), signal.SIGKILL)


def points(journal: Path) -> list[Point]:
    """Every step that a process took, in order."""
    counts: Counter[str] = Counter()
    taken = []
    for step in journal.read_text().splitlines():
        counts[step] += 1
        taken.append(Point(step, counts[step]))
    return taken


def forked(work: Callable[..., object], *arguments: object) -> BaseProcess:
    """A copy of this process, warm as it is, that does the work and ends. This one may have no other threads."""
    process = get_context("fork").Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


def killed(process: BaseProcess) -> bool:
    """Waits for a process; whether SIGKILL ended it."""
    process.join(60)
    if process.is_alive():
        process.kill()
        process.join()
        raise Stuck("a process did not come to its end")
    return process.exitcode == -signal.SIGKILL
