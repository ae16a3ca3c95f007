"""Statements about calibrations, and about the traffic that they are made on."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, insert, select

from feedback.records import LoggedPrompt, StoredCalibration
from feedback.schema import CalibrationRow, DecisionRow


def traffic(encoder_id: str, limit: int, connection: Connection) -> list[LoggedPrompt]:
    """The newest routed prompts that were encoded so, newest first."""
    kept = DecisionRow.__table__.c
    query = (
        select(kept.text_hash, kept.embedding, kept.features)
        .where(kept.encoder_id == encoder_id, kept.embedding.is_not(None))
        .order_by(kept.created_at.desc())
        .limit(limit)
    )
    return [LoggedPrompt(*row) for row in connection.execute(query)]


def add(calibration: StoredCalibration, connection: Connection) -> None:
    """From now on the one that counts for its router, version and ladder."""
    row = {**msgspec.structs.asdict(calibration), "ladder": _named(calibration.ladder)}
    connection.execute(insert(CalibrationRow).values(row))


def newest(router: str, version: str, ladder: Sequence[str], connection: Connection) -> StoredCalibration | None:
    """The one that counts, or None."""
    rows = CalibrationRow.__table__
    query = (
        select(rows)
        .where(rows.c.router == router, rows.c.version == version, rows.c.ladder == _named(ladder))
        .order_by(rows.c.created_at.desc(), rows.c.calibration_id.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().first()
    return StoredCalibration(**{**row, "ladder": tuple(ladder)}) if row else None


def _named(ladder: Sequence[str]) -> str:
    return msgspec.json.encode(list(ladder)).decode()
