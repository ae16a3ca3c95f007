"""Reads and writes. Every write is committed, and synced to disk, when its method returns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, and_, case, delete, exists, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.elements import KeyedColumnElement

from feedback import calibrations
from feedback.database import Unavailable, failures, open_engine, shown, writing
from feedback.records import LoggedPrompt, Outcome, Rating, Receipt, Record, ReportedOutcome, StoredCalibration
from feedback.schema import DecisionRow, IdempotencyKeyRow, OutcomeRow, RatingRow
from gateway_plugin import ids
from scorer.decisions import Decision

PENDING_SECONDS = 600.0  # how long an id that nobody has heard of may still be on its way
KEY_SECONDS = 24 * 3600.0  # how long an Idempotency-Key is remembered

_READERS, _WRITERS = 2, 4  # threads, each with a connection
_DEADLINE_SECONDS = 10.0
_PAGE = 1000
_LATE_SECONDS = 3600.0  # by which a decision may be written after it was made, and still expires
_CHARACTERS = 1000  # of any text in an outcome; longer ones are cut, lest one costs a batch its place
_RANK = {"rejected": 0, "failure": 1, "success": 2, "fallback": 3}  # the status that stays when reports meet

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)


class UnknownDecision(Exception):
    """Nobody has heard of the decision, and it is too old to be still on its way."""


class KeyReused(Exception):
    """The Idempotency-Key came before, with another body."""


class Idempotency(NamedTuple):
    """A caller's key for one request, and the SHA-256 (hex) of the body it came with."""

    key: str
    digest: str


class Store:
    """Decisions, outcomes and ratings in a migrated database. Every method may raise Unavailable."""

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url, connections=_READERS + _WRITERS)
        self._writing = writing(self._engine)
        # SQLite lets one writer in and has the others poll: a queue for one thread is quicker, and fair.
        writers = 1 if self._engine.dialect.name == "sqlite" else _WRITERS
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="store-reader")
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="store-writer")
        self._expired_to = 0.0  # decisions made before are settled, so that a pass need not look at all of them

    async def add_decisions(self, decisions: Sequence[Decision]) -> None:
        """Adds those whose id is new; the others stay as they are."""
        await self._write(partial(_add_decisions, decisions))

    async def find_decision(self, decision_id: str) -> Decision | None:
        """The decision as it was made, or None."""
        return await self._read(partial(_find_decision, decision_id))

    async def decision(self, decision_id: str, unwritten: Decision | None = None) -> Record | None:
        """All that is known under the id, or None; `unwritten` is the decision if it may not be added yet."""
        return await self._read(partial(_record, decision_id, unwritten))

    async def record_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Merges reports into what is known; the same reports again change nothing."""
        await self._write(partial(_record_outcomes, outcomes))

    async def rate(self, rating: Rating, idempotency: Idempotency | None = None, known: bool = False) -> Receipt:
        """Makes this the current rating of its decision, source and user.

        `known` vouches for a decision that has not been written yet. Raises UnknownDecision and KeyReused.
        """
        return await self._write(partial(_rate, rating, idempotency, known))

    async def expire(self, older_than: float) -> int:
        """Gives up decisions made more than `older_than` seconds ago that have no outcome; how many."""
        before, count = time.time() - older_than, 0
        start = self._expired_to - _LATE_SECONDS
        while (end := await self._read(partial(_page_end, start, before))) is not None:
            count += await self._write(partial(_expire, start, end))
            start = end
        self._expired_to = before
        return count

    async def forget_keys(self) -> int:
        """Deletes idempotency keys older than a day; how many."""
        return await self._write(_forget_keys)

    async def traffic(self, encoder_id: str, limit: int) -> list[LoggedPrompt]:
        """The newest routed prompts that were encoded so, newest first."""
        return await self._read(partial(calibrations.traffic, encoder_id, limit))

    async def add_calibration(self, calibration: StoredCalibration) -> None:
        """From now on the one that counts for its router, version and ladder."""
        await self._write(partial(calibrations.add, calibration))

    async def calibration(self, router: str, version: str, ladder: Sequence[str]) -> StoredCalibration | None:
        """The newest one, or None."""
        return await self._read(partial(calibrations.newest, router, version, ladder))

    async def ping(self) -> None:
        """Raises Unavailable unless the database answers and has our tables."""
        await self._read(lambda connection: connection.execute(select(DecisionRow.decision_id).limit(1)).first())

    async def close(self) -> None:
        """Waits for what is running and disconnects."""
        await asyncio.to_thread(self._writers.shutdown)
        await asyncio.to_thread(self._readers.shutdown)
        self._engine.dispose()

    async def _read(self, work: Callable[[Connection], T]) -> T:
        return await self._run(self._readers, self._reading, work)

    async def _write(self, work: Callable[[Connection], T]) -> T:
        return await self._run(self._writers, self._committing, work)

    async def _run(
        self,
        threads: ThreadPoolExecutor,
        transact: Callable[[Callable[[Connection], T]], T],
        work: Callable[[Connection], T],
    ) -> T:
        """In one of the threads, in time; what still waits for a thread when its time is up never starts."""
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(threads, transact, work)
        except TimeoutError:
            url = shown(self._engine.url)
            raise Unavailable(f"{url}: no answer within {_DEADLINE_SECONDS:g} seconds") from None

    def _reading(self, work: Callable[[Connection], T]) -> T:
        with failures(self._engine), self._engine.connect() as connection:
            return work(connection)

    def _committing(self, work: Callable[[Connection], T]) -> T:
        with failures(self._engine), self._writing.begin() as connection:
            return work(connection)


# Decisions


def _add_decisions(decisions: Sequence[Decision], connection: Connection) -> None:
    if decisions:
        insert = _insert(connection, DecisionRow).on_conflict_do_nothing()
        connection.execute(insert, [msgspec.structs.asdict(decision) for decision in decisions])


def _find_decision(decision_id: str, connection: Connection) -> Decision | None:
    row = _decision_row(decision_id, connection)
    return _record_of(Decision, row) if row else None


def _record(decision_id: str, unwritten: Decision | None, connection: Connection) -> Record | None:
    row = _decision_row(decision_id, connection)
    decision = _record_of(Decision, row) if row else unwritten
    outcome = _find_outcome(decision_id, connection)
    if decision is None and outcome is None:
        return None
    return Record(
        decision=decision,
        expired=row is not None and row["expired_at"] is not None,
        outcome=outcome,
        ratings=_current_ratings(decision_id, connection),
    )


def _decision_row(decision_id: str, connection: Connection) -> RowMapping | None:
    query = select(DecisionRow).where(DecisionRow.decision_id == decision_id)
    return connection.execute(query).mappings().first()


def _is_known(decision_id: str, connection: Connection) -> bool:
    """An outcome is enough: the gateway reports fallbacks, which have no decision."""
    decided = exists().where(DecisionRow.decision_id == decision_id)
    reported = exists().where(OutcomeRow.decision_id == decision_id)
    return bool(connection.execute(select(decided | reported)).scalar_one())


def _page_end(start: float, before: float, connection: Connection) -> float | None:
    """When the last decision of the next page was made, after `start` and before `before`; None: no more."""
    made = DecisionRow.created_at
    page = select(made).where(made > start, made < before).order_by(made).limit(_PAGE).subquery()
    end: float | None = connection.execute(select(func.max(page.c.created_at))).scalar_one()
    return end


def _expire(start: float, end: float, connection: Connection) -> int:
    reported = exists().where(OutcomeRow.decision_id == DecisionRow.decision_id)
    made = DecisionRow.created_at
    unsettled = update(DecisionRow).where(made > start, made <= end, DecisionRow.expired_at.is_(None), ~reported)
    return connection.execute(unsettled.values(expired_at=time.time())).rowcount


# Outcomes


def _record_outcomes(outcomes: Sequence[Outcome], connection: Connection) -> None:
    """Reports come repeatedly, out of order and from several processes, so the database does the merging."""
    if not outcomes:
        return
    now = time.time()
    in_order = sorted(outcomes, key=lambda outcome: outcome.decision_id)  # everybody's, so that nobody deadlocks
    rows = [{**_shortened(outcome), "reported_at": now} for outcome in in_order]
    insert = _insert(connection, OutcomeRow)
    merge = insert.on_conflict_do_update(index_elements=["decision_id"], set_=_merged(insert.excluded))
    connection.execute(merge, rows)


def _merged(report: ReadOnlyColumnCollection[str, KeyedColumnElement[Any]]) -> dict[str, ColumnElement[Any]]:
    """The higher status stays. Facts are the newest ones, but those of a failed attempt only fill gaps."""
    known = OutcomeRow.__table__.c
    reported_rank, known_rank = case(_RANK, value=report.status), case(_RANK, value=known.status)
    fills_gaps = and_(reported_rank < _RANK["success"], known_rank >= _RANK["success"])
    merged = {
        name: case(
            (fills_gaps, func.coalesce(known[name], report[name])),
            else_=func.coalesce(report[name], known[name]),
        )
        for name in Outcome.__struct_fields__
        if name not in ("decision_id", "status")
    }
    status = case((reported_rank > known_rank, report.status), else_=known.status)
    return {**merged, "status": status, "reported_at": report.reported_at}


def _shortened(outcome: Outcome) -> dict[str, object]:
    facts = msgspec.structs.asdict(outcome)
    return {name: fact[:_CHARACTERS] if isinstance(fact, str) else fact for name, fact in facts.items()}


def _find_outcome(decision_id: str, connection: Connection) -> ReportedOutcome | None:
    row = connection.execute(select(OutcomeRow).where(OutcomeRow.decision_id == decision_id)).mappings().first()
    return _record_of(ReportedOutcome, row) if row else None


# Ratings


def _rate(rating: Rating, idempotency: Idempotency | None, known: bool, connection: Connection) -> Receipt:
    known = known or _is_known(rating.decision_id, connection)
    receipt = Receipt(rating.feedback_id, "stored" if known else "pending")
    if idempotency and (earlier := _claim(idempotency, receipt, connection)):
        return earlier
    if not known and abs(time.time() - ids.minted_at(rating.decision_id)) > PENDING_SECONDS:
        raise UnknownDecision(rating.decision_id)  # which takes the claim back, too
    _supersede(rating, connection)
    connection.execute(_insert(connection, RatingRow).values(msgspec.structs.asdict(rating)))
    return receipt


def _claim(idempotency: Idempotency, receipt: Receipt, connection: Connection) -> Receipt | None:
    """The answer given under the key, or None: it is now ours. Waits for whoever is just claiming it."""
    now = time.time()
    key, digest = idempotency
    mine = IdempotencyKeyRow.key == key
    connection.execute(delete(IdempotencyKeyRow).where(mine, IdempotencyKeyRow.created_at < now - KEY_SECONDS))
    row = {"key": key, "digest": digest, "answer": msgspec.structs.asdict(receipt), "created_at": now}
    claim = _insert(connection, IdempotencyKeyRow).values(row).on_conflict_do_nothing()
    if connection.execute(claim.returning(IdempotencyKeyRow.key)).first():
        return None
    query = select(IdempotencyKeyRow.digest, IdempotencyKeyRow.answer).where(mine)
    their_digest, answer = connection.execute(query).one()
    if their_digest != digest:
        raise KeyReused(key)
    return msgspec.convert(answer, Receipt)


def _supersede(rating: Rating, connection: Connection) -> None:
    """Retires the current rating, if there is one; ratings of one decision take turns."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(rating.decision_id, 0))))
    current = update(RatingRow).where(
        RatingRow.decision_id == rating.decision_id,
        RatingRow.source == rating.source,
        RatingRow.user == rating.user,
        RatingRow.superseded_at.is_(None),
    )
    connection.execute(current.values(superseded_at=rating.created_at))


def _current_ratings(decision_id: str, connection: Connection) -> list[Rating]:
    query = (
        select(RatingRow)
        .where(RatingRow.decision_id == decision_id, RatingRow.superseded_at.is_(None))
        .order_by(RatingRow.created_at, RatingRow.feedback_id)
    )
    return [_record_of(Rating, row) for row in connection.execute(query).mappings()]


def _forget_keys(connection: Connection) -> int:
    old = delete(IdempotencyKeyRow).where(IdempotencyKeyRow.created_at < time.time() - KEY_SECONDS)
    return connection.execute(old).rowcount


def _insert(connection: Connection, table: type[DeclarativeBase]) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def _record_of(kind: type[R], row: RowMapping) -> R:
    return kind(**{name: row[name] for name in kind.__struct_fields__})
