"""Statements about which version of a router is active: changed together with what its scores mean."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, insert, select

from feedback import calibrations, statements
from feedback.records import Activation, StoredCalibration
from feedback.schema import ActivationRow


def activate(
    router: str,
    version: str,
    directory: str,
    fitted: Sequence[StoredCalibration],
    by: str,
    connection: Connection,
) -> Activation:
    """The version serves from now on, and these are its calibrations."""
    statements.take_turns(f"activation of {router}", connection)
    before = active(router, connection)
    activation = Activation(
        router=router,
        number=before.number + 1 if before else 1,
        version=version,
        directory=directory,
        previous=before.version if before else None,
        changed_at=time.time(),
        changed_by=by,
    )
    connection.execute(insert(ActivationRow).values(msgspec.structs.asdict(activation)))
    for calibration in fitted:
        calibrations.add(calibration, connection)
    return activation


def active(router: str, connection: Connection) -> Activation | None:
    """The newest, or None: the configured artifact serves."""
    return next(iter(newest(router, 1, connection)), None)


def newest(router: str, limit: int, connection: Connection) -> list[Activation]:
    """The history, newest first."""
    rows = ActivationRow.__table__
    query = select(rows).where(rows.c.router == router).order_by(rows.c.number.desc()).limit(limit)
    return [statements.as_record(Activation, row) for row in connection.execute(query).mappings()]
