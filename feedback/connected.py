"""The connection to a migrated database: a few threads that read, a few that write, each in time or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from sqlalchemy import Connection, select

from feedback import migrations, statements
from feedback.database import Unavailable, failures, open_engine, shown, writing
from feedback.schema import DecisionRow

LONG_SECONDS = 3600.0  # for a page of history that takes some finding, and for a whole file

_READERS, _WRITERS = 2, 4  # threads, each with a connection
_DEADLINE_SECONDS = 10.0

T = TypeVar("T")


class Listener(Protocol):
    """Who is told of what is taken, and of a database that does not answer."""

    def rated(self, kind: str, source: str, status: str) -> None: ...

    def reported(self, status: str) -> None: ...

    def unavailable(self) -> None: ...


class Connected:
    """What the parts of the store share. Every method may raise Unavailable."""

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url, connections=_READERS + _WRITERS)
        self._writing = writing(self._engine)
        # SQLite lets one writer in and has the others poll: a queue for one thread is quicker, and fair.
        writers = 1 if self._engine.dialect.name == "sqlite" else _WRITERS
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="store-reader")
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="store-writer")
        self.listener: Listener | None = None

    async def clock(self) -> float:
        """Unix seconds by the clock that all users of the database share."""
        return await self._read(statements.now)

    async def ping(self) -> None:
        """Raises Unavailable unless the database answers and has our tables."""
        await self._read(lambda connection: connection.execute(select(DecisionRow.decision_id).limit(1)).first())

    async def ahead(self) -> str | None:
        """What there is to say where a newer routerd has upgraded the database; None: it has not."""
        return await self._read(migrations.ahead)

    async def close(self) -> None:
        """Waits for what is running and disconnects."""
        await asyncio.to_thread(self._writers.shutdown)
        await asyncio.to_thread(self._readers.shutdown)
        self._engine.dispose()

    async def _read(self, work: Callable[[Connection], T], seconds: float | None = None) -> T:
        return await self._run(self._readers, self._reading, work, seconds)

    async def _write(self, work: Callable[[Connection], T], seconds: float | None = None) -> T:
        return await self._run(self._writers, self._committing, work, seconds)

    async def _run(
        self,
        threads: ThreadPoolExecutor,
        transact: Callable[[Callable[[Connection], T]], T],
        work: Callable[[Connection], T],
        seconds: float | None,
    ) -> T:
        """In one of the threads, in time; what still waits for a thread when its time is up never starts."""
        seconds = _DEADLINE_SECONDS if seconds is None else seconds
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.get_running_loop().run_in_executor(threads, transact, work)
        except (TimeoutError, Unavailable) as error:
            if self.listener:
                self.listener.unavailable()
            if isinstance(error, Unavailable):
                raise
            url = shown(self._engine.url)
            raise Unavailable(f"{url}: no answer within {seconds:g} seconds") from None

    def _reading(self, work: Callable[[Connection], T]) -> T:
        with failures(self._engine), self._engine.connect() as connection:
            return work(connection)

    def _committing(self, work: Callable[[Connection], T]) -> T:
        with failures(self._engine), self._writing.begin() as connection:
            return work(connection)
