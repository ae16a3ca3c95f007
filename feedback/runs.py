"""Statements about runs of scheduled jobs. A run's row is its lock, with a heartbeat, and then its record.

Times are by the database's clock where it has one, so that replicas whose clocks differ agree on what has expired.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, func, insert, or_, select, update

from feedback import statements
from feedback.records import Run
from feedback.schema import DecisionRow, RunRow
from gateway_plugin import ids

RUNNING, ABANDONED = "running", "abandoned"
_ATTEMPTS = 3  # at a run that its holders do not survive


class Lost(Exception):
    """The run is another process's, which believed its holder dead."""


def claim(job: str, scheduled_for: float, holder: str, expiry_seconds: float, connection: Connection) -> Run | None:
    """A run that is the holder's alone; None: it was made, or the job runs already.

    A run whose heartbeat is older than `expiry_seconds` is abandoned; the one for the same time is taken over.
    """
    statements.take_turns(f"run of {job}", connection)
    now = statements.now(connection)
    _abandon(job, expiry_seconds, now, connection)
    running = select(RunRow.run_id).where(RunRow.job == job, RunRow.finished_at.is_(None))
    if connection.execute(running).first():
        return None
    fresh = {
        "run_id": ids.mint(),
        "holder": holder,
        "started_at": now,
        "heartbeat_at": now,
        "finished_at": None,
        "status": RUNNING,
        "verdict": None,
        "record": None,
    }
    insert = statements.insert(connection, RunRow).values(job=job, scheduled_for=scheduled_for, attempt=1, **fresh)
    claimed = insert.on_conflict_do_update(
        index_elements=["job", "scheduled_for"],
        set_={**fresh, "attempt": RunRow.attempt + 1},
        where=RunRow.status == ABANDONED,
    ).returning(RunRow.__table__)
    row = connection.execute(claimed).mappings().first()
    return statements.as_record(Run, row) if row else None


def wanted(job: str, scheduled_for: float, expiry_seconds: float, connection: Connection) -> bool:
    """Whether the run is still to be made, and can be now: it has not ended, nor been abandoned too often, the job does
    not run, and something was logged before that time, which a new installation has not."""
    rows = RunRow.__table__.c
    if lives(job, expiry_seconds, connection):
        return False
    row = select(rows.status, rows.attempt).where(rows.job == job, rows.scheduled_for == scheduled_for)
    if made := connection.execute(row).first():
        return made.status in (RUNNING, ABANDONED) and made.attempt < _ATTEMPTS
    logged = select(DecisionRow.decision_id).where(DecisionRow.created_at < scheduled_for).limit(1)
    return connection.execute(logged).first() is not None


def lives(job: str, expiry_seconds: float, connection: Connection) -> bool:
    """Whether the job runs."""
    rows = RunRow.__table__.c
    loud = ~_silent(expiry_seconds, statements.now(connection))
    living = select(rows.run_id).where(rows.job == job, rows.finished_at.is_(None), loud)
    return connection.execute(living).first() is not None


def beat(run_id: str, connection: Connection) -> bool:
    """Says that the holder lives. False: the run is no longer its holder's, who should stop."""
    mine = update(RunRow).where(RunRow.run_id == run_id, RunRow.status == RUNNING)
    return connection.execute(mine.values(heartbeat_at=statements.now(connection))).rowcount == 1


def hold(run_id: str, connection: Connection) -> None:
    """Until the transaction ends nobody takes the run over: what only its holder may do is done in one with this.
    Raises Lost."""
    if not beat(run_id, connection):
        raise Lost("the run was taken over")


def finish(run_id: str, status: str, verdict: str, record: dict[str, Any] | None, connection: Connection) -> bool:
    """Writes the end of a run. False: it is no longer its holder's, and stays as it is."""
    now = statements.now(connection)
    mine = update(RunRow).where(RunRow.run_id == run_id, RunRow.status == RUNNING)
    end = mine.values(status=status, verdict=verdict, record=record, heartbeat_at=now, finished_at=now)
    return connection.execute(end).rowcount == 1


def add(run: Run, connection: Connection) -> None:
    """One that is made and over already."""
    connection.execute(insert(RunRow).values(msgspec.structs.asdict(run)))


def newest(job: str, limit: int, connection: Connection) -> list[Run]:
    """The job's runs, the last scheduled first."""
    rows = RunRow.__table__
    query = select(rows).where(rows.c.job == job).order_by(rows.c.scheduled_for.desc()).limit(limit)
    return [statements.as_record(Run, row) for row in connection.execute(query).mappings()]


def summary(connection: Connection) -> list[tuple[str, str, int, float | None]]:
    """Of each job and status, how many runs are on record, and when the last of them ended."""
    rows = RunRow.__table__.c
    query = select(rows.job, rows.status, func.count(), func.max(rows.finished_at)).group_by(rows.job, rows.status)
    return [(job, status, count, ended) for job, status, count, ended in connection.execute(query)]


def _abandon(job: str, expiry_seconds: float, now: float, connection: Connection) -> None:
    silent = update(RunRow).where(RunRow.job == job, RunRow.finished_at.is_(None), _silent(expiry_seconds, now))
    connection.execute(silent.values(status=ABANDONED, finished_at=now, verdict="its holder fell silent"))


def _silent(expiry_seconds: float, now: float) -> ColumnElement[bool]:
    """A heartbeat from the future is from before the clock was put back, and would never expire."""
    return or_(RunRow.heartbeat_at < now - expiry_seconds, RunRow.heartbeat_at > now + expiry_seconds)
