"""Statements about outcomes: what several reports on one decision come to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.elements import KeyedColumnElement

from feedback import statements
from feedback.records import Outcome
from feedback.schema import OutcomeRow

_CHARACTERS = 1000  # of any text in an outcome; longer ones are cut, lest one costs a batch its place
_RANK = {"rejected": 0, "failure": 1, "success": 2, "fallback": 3}  # the status that stays when reports meet


def record(outcomes: Sequence[Outcome], connection: Connection) -> None:
    """Reports come repeatedly, out of order and from several processes, so the database does the merging."""
    if not outcomes:
        return
    now = time.time()
    in_order = sorted(outcomes, key=lambda outcome: outcome.decision_id)  # everybody's, so that nobody deadlocks
    rows = [{**_shortened(outcome), "reported_at": now} for outcome in in_order]
    insert = statements.insert(connection, OutcomeRow)
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
    facts = {name: getattr(outcome, name) for name in Outcome.__struct_fields__}
    return {name: fact[:_CHARACTERS] if isinstance(fact, str) else fact for name, fact in facts.items()}
