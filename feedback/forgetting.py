"""The part of the store about what is deleted: because it is old, or because a user asks for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection

from feedback import erasures, removal
from feedback.connected import LONG_SECONDS, Connected
from feedback.database import failures
from feedback.records import Activation, Erasure
from feedback.removal import Found, Place
from feedback.schema import Base

PAGE = 500  # decisions that are deleted in one transaction, and that a rating may have to wait for

_Next = Callable[[Place, float, int, Connection], list[Place]]


class Forgetting(Connected):
    """Old data, users' data, and the erasures on record. A page is found in one transaction and deleted in another."""

    # What is older than it may be (Unix seconds)

    async def outlived(self, before: float) -> AsyncIterator[Found]:
        """All that was made before, in pages, oldest first; what hangs on a decision goes with that."""
        async for decisions in self._places(removal.old_decisions, before):
            yield Found(decision_ids=decisions)
        last = ""
        while orphans := await self._read(partial(removal.old_orphans, last, before, PAGE), LONG_SECONDS):
            yield Found(decision_ids=orphans)
            last = orphans[-1]
        async for compared in self._places(removal.old_comparisons, before):
            yield Found(comparison_ids=compared)

    async def outlived_prompts(self, after: float, before: float) -> AsyncIterator[Found]:
        """Decisions and comparisons made between two times whose prompts are kept, in pages."""
        async for decisions in self._places(removal.old_prompts, before, after):
            yield Found(decision_ids=decisions)
        async for compared in self._places(removal.old_compared_prompts, before, after):
            yield Found(comparison_ids=compared)

    async def strip(self, found: Found) -> int:
        """Deletes what is kept of the prompts, but their hashes; how many."""
        return await self._write(partial(removal.strip, found.decision_ids, found.comparison_ids))

    async def remove(self, found: Found, strongest: str | None = None) -> Counter[str]:
        """Deletes a page; how many rows of each table. strongest: as in removal.remove."""
        return await self._write(lambda connection: removal.remove(found, connection, strongest))

    async def count(self, found: Found) -> Counter[str]:
        """What `remove` would delete."""
        return await self._read(partial(removal.count, found), LONG_SECONDS)

    async def vacuum(self) -> None:
        """Gives the space of what was deleted back to the disk. On SQLite writes wait meanwhile, and may give up."""
        tables = ", ".join(Base.metadata.tables)
        await self._alone("VACUUM" if self._engine.dialect.name == "sqlite" else f"VACUUM (ANALYZE) {tables}")

    async def truncate_log(self) -> None:
        """Of SQLite, the write-ahead log, where deleted pages may still stand; as far as no reader needs it."""
        if self._engine.dialect.name == "sqlite":
            await self._alone("PRAGMA wal_checkpoint(TRUNCATE)")

    # What is one user's

    async def of_user(self, user: str, until: float) -> Found:
        """All that was made up to a time (Unix seconds)."""
        return await self._read(partial(removal.of_user, user, until), LONG_SECONDS)

    async def said_since(self, found: Found) -> float | None:
        """Since when routers may have learned from it (Unix seconds); None: there was nothing to learn."""
        times = [await self._read(partial(removal.said_since, page), LONG_SECONDS) for page in found.chunks(PAGE)]
        return min((time for time in times if time is not None), default=None)

    async def remove_pins(self, user: str, found: Found) -> int:
        """Of the user's conversations; how many."""
        pages = [page.decision_ids for page in found.chunks(PAGE)] or [[]]
        return sum([await self._write(partial(removal.remove_pins, user, page)) for page in pages])

    # Erasures

    async def ask_erasure(self, user: str | None, versions: Mapping[str, Sequence[str]] | None = None) -> Erasure:
        """Puts it on record; from then on it will be carried out, whoever is killed."""
        return await self._write(partial(erasures.ask, user, versions))

    async def erasure(self, erasure_id: str) -> Erasure | None:
        return await self._read(partial(erasures.find, erasure_id))

    async def due_erasures(self) -> list[Erasure]:
        return await self._read(erasures.due)

    async def wants_erasure(self, job: str, expiry_seconds: float) -> bool:
        """Whether something is due, and the job whose lock it takes does not run."""
        return await self._read(partial(erasures.free, job, expiry_seconds))

    async def note_erasure(self, erasure_id: str, versions: Mapping[str, Collection[str]]) -> None:
        """Which versions are to go."""
        await self._write(partial(erasures.note, erasure_id, versions))

    async def erasure_removed(self, erasure_id: str, rows: Counter[str], last: bool = False) -> None:
        """Adds to what it has deleted. last: there is no more."""
        await self._write(partial(erasures.removed, erasure_id, rows, last))

    async def erasures_rebuilt(self, erasure_ids: Sequence[str]) -> None:
        """No version is left that they name."""
        await self._write(partial(erasures.rebuilt, erasure_ids))

    async def erase_versions(self, router: str, versions: Collection[str]) -> None:
        """From now on nothing goes back to them."""
        await self._write(partial(erasures.erase_versions, router, versions))

    async def activated(self) -> dict[str, list[Activation]]:
        """The histories of all routers, newest first."""
        return await self._read(erasures.activated)

    async def _places(self, following: _Next, before: float, after: float = 0.0) -> AsyncIterator[list[str]]:
        last = Place(after)
        while page := await self._read(partial(following, last, before, PAGE), LONG_SECONDS):
            yield [place.key for place in page]
            last = page[-1]

    async def _alone(self, statement: str) -> None:
        """Outside of any transaction, on a connection that nobody uses afterwards."""

        def work(_: object) -> None:
            with failures(self._engine):
                pooled = self._engine.raw_connection()
                try:
                    connection: Any = pooled.driver_connection
                    if self._engine.dialect.name == "postgresql":
                        connection.autocommit = True
                    connection.execute(statement)
                finally:
                    pooled.invalidate()

        await self._run(self._writers, work, lambda _: None, LONG_SECONDS)
