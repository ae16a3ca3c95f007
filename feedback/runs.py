"""Statements about runs of scheduled jobs. A run's row is its lock, with a heartbeat, and then its record.

Times are by the database's clock where it has one, so that replicas whose clocks differ agree on what has expired.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select, update

from feedback import statements
from feedback.records import Run
from feedback.schema import RunRow
from gateway_plugin import ids

RUNNING, ABANDONED = "running", "abandoned"


def claim(job: str, scheduled_for: float, holder: str, expiry_seconds: float, connection: Connection) -> Run | None:
    """A run that is the holder's alone; None: it was made, or the job runs already.

    A run whose heartbeat is older than `expiry_seconds` is abandoned; the one for the same time is taken over.
    """
    statements.take_turns(f"run of {job}", connection)
    now = statements.now(connection)
    _abandon(job, now - expiry_seconds, now, connection)
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


def beat(run_id: str, connection: Connection) -> bool:
    """Says that the holder lives. False: the run is no longer its holder's, who should stop."""
    mine = update(RunRow).where(RunRow.run_id == run_id, RunRow.status == RUNNING)
    return connection.execute(mine.values(heartbeat_at=statements.now(connection))).rowcount == 1


def finish(run_id: str, status: str, verdict: str, record: dict[str, Any] | None, connection: Connection) -> bool:
    """Writes the end of a run. False: it is no longer its holder's, and stays as it is."""
    now = statements.now(connection)
    mine = update(RunRow).where(RunRow.run_id == run_id, RunRow.status == RUNNING)
    end = mine.values(status=status, verdict=verdict, record=record, heartbeat_at=now, finished_at=now)
    return connection.execute(end).rowcount == 1


def newest(job: str, limit: int, connection: Connection) -> list[Run]:
    """The job's runs, the last scheduled first."""
    rows = RunRow.__table__
    query = select(rows).where(rows.c.job == job).order_by(rows.c.scheduled_for.desc()).limit(limit)
    return [statements.as_record(Run, row) for row in connection.execute(query).mappings()]


def _abandon(job: str, expired: float, now: float, connection: Connection) -> None:
    silent = update(RunRow).where(RunRow.job == job, RunRow.finished_at.is_(None), RunRow.heartbeat_at < expired)
    connection.execute(silent.values(status=ABANDONED, finished_at=now, verdict="its holder fell silent"))
