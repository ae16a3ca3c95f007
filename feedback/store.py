"""Reads and writes. Every write is committed, and synced to disk, when its method returns."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from feedback import (
    activations,
    calibrations,
    comparisons,
    decisions,
    history,
    intake,
    judgements,
    keys,
    outcomes,
    ratings,
    runs,
)
from feedback.comparisons import Place
from feedback.database import Unavailable, failures, open_engine, shown, writing
from feedback.judgements import Counts
from feedback.keys import Idempotency
from feedback.records import (
    Activation,
    Comparison,
    ComparisonReceipt,
    Judgement,
    LoggedPrompt,
    Outcome,
    Rating,
    Receipt,
    Record,
    Run,
    StoredCalibration,
    Taken,
)
from feedback.schema import DecisionRow
from scorer.decisions import Decision

_READERS, _WRITERS = 2, 4  # threads, each with a connection
_DEADLINE_SECONDS = 10.0
_LONG_SECONDS = 3600.0  # for a page of history that takes some finding, and for a whole file
_PAGE = 1000
_LATE_SECONDS = 3600.0  # by which a decision may be written after it was made, and still expires

T = TypeVar("T")


class Store:
    """All that is kept in a migrated database. Every method may raise Unavailable."""

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url, connections=_READERS + _WRITERS)
        self._writing = writing(self._engine)
        # SQLite lets one writer in and has the others poll: a queue for one thread is quicker, and fair.
        writers = 1 if self._engine.dialect.name == "sqlite" else _WRITERS
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="store-reader")
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="store-writer")
        self._expired_to = 0.0  # decisions made before are settled, so that a pass need not look at all of them

    async def add_decisions(self, made: Sequence[Decision]) -> None:
        """Adds those whose id is new; the others stay as they are."""
        await self._write(partial(decisions.add, made))

    async def find_decision(self, decision_id: str) -> Decision | None:
        """The decision as it was made, or None."""
        return await self._read(partial(decisions.find, decision_id))

    async def decision(self, decision_id: str, unwritten: Decision | None = None) -> Record | None:
        """All that is known under the id, or None; `unwritten` is the decision if it may not be added yet."""
        return await self._read(partial(history.record, decision_id, unwritten))

    async def record_outcomes(self, reports: Sequence[Outcome]) -> None:
        """Merges reports into what is known; the same reports again change nothing."""
        await self._write(partial(outcomes.record, reports))

    async def expire(self, older_than: float) -> int:
        """Gives up decisions made more than `older_than` seconds ago that have no outcome; how many."""
        before, count = time.time() - older_than, 0
        start = self._expired_to - _LATE_SECONDS
        while (end := await self._read(partial(decisions.page_end, start, before))) is not None:
            count += await self._write(partial(decisions.expire, start, end))
            start = end
        self._expired_to = before
        return count

    # What people say

    async def rate(self, rating: Rating, idempotency: Idempotency | None = None, known: bool = False) -> Receipt:
        """Makes this the current rating of its decision, source and user.

        `known` vouches for a decision that has not been written yet. Raises UnknownDecision and KeyReused.
        """
        return await self._write(partial(ratings.rate, rating, idempotency, known))

    async def rate_call(
        self, call_id: str, rating: Rating, idempotency: Idempotency | None = None, unwritten: Collection[str] = ()
    ) -> Receipt:
        """Rates the one decision on a LiteLLM call, whatever decision the rating names.

        `unwritten` are ids of the call's decisions that may not be added yet. Raises UnknownCall, AmbiguousCall and
        KeyReused.
        """
        return await self._write(partial(ratings.rate_call, call_id, unwritten, rating, idempotency))

    async def compare(
        self, comparison: Comparison, idempotency: Idempotency | None = None, known: bool = False
    ) -> ComparisonReceipt:
        """Adds a comparison; arguments and errors as for `rate`."""
        return await self._write(partial(comparisons.add, comparison, idempotency, known))

    async def take(self, rated: Sequence[Rating], compared: Sequence[Comparison]) -> Taken:
        """Takes over ratings and comparisons from elsewhere, all or none; others' writes wait meanwhile."""
        return await self._write(partial(intake.take, rated, compared), _LONG_SECONDS)

    async def forget_keys(self) -> int:
        """Deletes idempotency keys older than a day; how many."""
        return await self._write(keys.forget)

    # Pages to learn from

    def rated(
        self,
        after: float = 0.0,
        before: float = math.inf,
        *,
        signals: Collection[str] = (),
        page: int = _PAGE,
        vectors: bool = True,
    ) -> AsyncIterator[list[Record]]:
        """Everything with a current rating or one of the signals (feedback/signals.py), in pages, oldest first.

        From the ids minted at `after` on to those minted before `before`, in Unix seconds. Nothing is left out:
        fallbacks, retractions, expired and lost decisions are there for the caller to tell.
        Without `vectors` embeddings and features are None.
        """
        return self._pages(partial(history.telling, signals), after, before, page, vectors)

    def logged(
        self, after: float = 0.0, before: float = math.inf, *, page: int = _PAGE, vectors: bool = True
    ) -> AsyncIterator[list[Record]]:
        """Everything, rated or not; otherwise as `rated`."""
        return self._pages(history.everything, after, before, page, vectors)

    async def comparisons(
        self, after: float = 0.0, before: float = math.inf, *, page: int = _PAGE, vectors: bool = True
    ) -> AsyncIterator[list[Comparison]]:
        """Those made from `after` on and before `before` (Unix seconds), in pages, oldest first.

        With all that is kept of their prompts; of an unknown decision's prompt nothing is.
        """
        place = Place(after, "")
        while found := await self._read(partial(comparisons.page, place, before, page, vectors)):
            yield found
            place = Place(found[-1].created_at, found[-1].comparison_id)

    # Versions and their calibrations

    async def activate(
        self, router: str, version: str, directory: str, fitted: Sequence[StoredCalibration], by: str
    ) -> Activation:
        """Makes the version active and its calibrations current, in one transaction."""
        return await self._write(partial(activations.activate, router, version, directory, fitted, by))

    async def active(self, router: str) -> Activation | None:
        """The router's active version; None: the configured artifact."""
        return await self._read(partial(activations.active, router))

    async def activations(self, router: str, limit: int = 100) -> list[Activation]:
        """The router's versions, newest first."""
        return await self._read(partial(activations.newest, router, limit))

    async def traffic(self, encoder_id: str, limit: int) -> list[LoggedPrompt]:
        """The newest routed prompts that were encoded so, newest first."""
        return await self._read(partial(calibrations.traffic, encoder_id, limit))

    async def texts(self, limit: int) -> list[str]:
        """The newest routed prompts whose text was kept, newest first."""
        return await self._read(partial(calibrations.texts, limit))

    async def add_calibration(self, calibration: StoredCalibration) -> None:
        """From now on the one that counts for its router, version and ladder."""
        await self._write(partial(calibrations.add, calibration))

    async def calibration(self, router: str, version: str, ladder: Sequence[str]) -> StoredCalibration | None:
        """The newest one, or None."""
        return await self._read(partial(calibrations.newest, router, version, ladder))

    # Runs of scheduled jobs

    async def claim_run(self, job: str, scheduled_for: float, holder: str, expiry_seconds: float) -> Run | None:
        """A run for the holder alone; None: it was made, or the job is running, with a heartbeat younger than that."""
        return await self._write(partial(runs.claim, job, scheduled_for, holder, expiry_seconds))

    async def beat(self, run_id: str) -> bool:
        """Says that the holder lives. False: the run was taken over or given up; its holder should stop."""
        return await self._write(partial(runs.beat, run_id))

    async def finish_run(self, run_id: str, status: str, verdict: str, record: dict[str, Any] | None = None) -> bool:
        """Writes a run's end. False: it was taken over or given up, and nothing is written."""
        return await self._write(partial(runs.finish, run_id, status, verdict, record))

    async def runs(self, job: str, limit: int = 100) -> list[Run]:
        """The job's runs, the last scheduled first."""
        return await self._read(partial(runs.newest, job, limit))

    # What waits for the judge (feedback/judgements.py)

    async def queue_judgements(self, new: Sequence[Judgement]) -> int:
        """Adds those whose decision is new, while there is room; how many."""
        return await self._write(partial(judgements.queue, new))

    async def claim_judgement(self, expiry_seconds: float) -> Judgement | None:
        """One for the caller alone until the claim expires; None: nothing is due."""
        return await self._write(partial(judgements.claim, expiry_seconds))

    async def keep_judgement(self, one: Judgement, expiry_seconds: float) -> bool:
        """Keeps its steps and renews the claim. False, here and below: it is another's by now."""
        return await self._write(partial(judgements.keep, one, expiry_seconds))

    async def finish_judgement(self, one: Judgement) -> bool:
        """Makes the verdicts a comparison, and lets go of the texts, in one transaction."""
        return await self._write(partial(judgements.finish, one))

    async def give_up_judgement(self, one: Judgement, why: str) -> bool:
        """For good."""
        return await self._write(partial(judgements.give_up, one, why))

    async def retry_judgement(self, one: Judgement, seconds: float) -> bool:
        """After so many seconds."""
        return await self._write(partial(judgements.retry, one, seconds))

    async def postpone_judgement(self, one: Judgement) -> bool:
        """To the next day (UTC)."""
        return await self._write(partial(judgements.postpone, one))

    async def tidy_judgements(self) -> int:
        """Gives up what has waited too long; how many."""
        return await self._write(judgements.tidy)

    async def reserve_call(self, call_id: str, decision_id: str, model: str, estimate: float, cap: float) -> bool:
        """Books a call at its estimate in dollars. False: today's would exceed the cap."""
        return await self._write(partial(judgements.reserve, call_id, decision_id, model, estimate, cap))

    async def settle_call(self, call_id: str, cost: float) -> None:
        """What it did cost."""
        await self._write(partial(judgements.settle, call_id, cost))

    async def judging(self, after: float = 0.0) -> Counts:
        """How judging goes: of what was finished from then on (Unix seconds), and of what waits."""
        return await self._read(partial(judgements.counts, after))

    # The connection

    async def ping(self) -> None:
        """Raises Unavailable unless the database answers and has our tables."""
        await self._read(lambda connection: connection.execute(select(DecisionRow.decision_id).limit(1)).first())

    async def close(self) -> None:
        """Waits for what is running and disconnects."""
        await asyncio.to_thread(self._writers.shutdown)
        await asyncio.to_thread(self._readers.shutdown)
        self._engine.dispose()

    async def _pages(
        self,
        choose: Callable[[str, str, int, Connection], list[str]],
        after: float,
        before: float,
        page: int,
        vectors: bool,
    ) -> AsyncIterator[list[Record]]:
        last, end = history.first_id(after), history.first_id(before)

        def following(connection: Connection) -> list[Record]:
            return history.records(choose(last, end, page, connection), connection, vectors)

        while found := await self._read(following, _LONG_SECONDS):
            yield found
            last = found[-1].decision_id

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
        except TimeoutError:
            url = shown(self._engine.url)
            raise Unavailable(f"{url}: no answer within {seconds:g} seconds") from None

    def _reading(self, work: Callable[[Connection], T]) -> T:
        with failures(self._engine), self._engine.connect() as connection:
            return work(connection)

    def _committing(self, work: Callable[[Connection], T]) -> T:
        with failures(self._engine), self._writing.begin() as connection:
            return work(connection)
