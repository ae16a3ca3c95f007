"""What the buttons do: the `routerd` commands, each in a process of its own at low priority."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

_NICENESS = 10
_LONGEST_OUTPUT = 4000  # characters, of its end


class Busy(Exception):
    """Another command runs."""


class Command(msgspec.Struct, kw_only=True):
    """One that was begun. Times are Unix seconds; code is None while it runs."""

    arguments: tuple[str, ...]
    started_at: float
    finished_at: float | None = None
    code: int | None = None
    output: str = ""

    @property
    def line(self) -> str:
        """As one would type it."""
        return " ".join(("routerd", *self.arguments))


class Commands:
    """Runs them one at a time. program: what `routerd` is called by; config: the file that each is given."""

    def __init__(self, program: Sequence[str], config: Path) -> None:
        self._program = tuple(program)
        self._config = config
        self._task: asyncio.Task[None] | None = None
        self.last: Command | None = None  # of this process

    async def begin(self, *arguments: str, wait: float = 0.0) -> Command:
        """Begins one, and waits so many seconds for its end. Raises Busy."""
        if self._task and not self._task.done():
            raise Busy(self.last.line if self.last else "")
        self.last = command = Command(arguments=arguments, started_at=time.time())
        self._task = asyncio.create_task(self._run(command))
        await asyncio.wait({self._task}, timeout=wait)
        return command

    async def close(self) -> None:
        """Ends what runs."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, command: Command) -> None:
        lower = partial(os.nice, _NICENESS) if sys.platform != "win32" else None
        arguments = (*self._program, *command.arguments, "--config", str(self._config))
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, preexec_fn=lower
            )
        except OSError as error:
            command.output, command.code, command.finished_at = str(error), 1, time.time()
            return
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise
        command.output = output.decode(errors="replace")[-_LONGEST_OUTPUT:].strip()
        command.code, command.finished_at = process.returncode, time.time()
