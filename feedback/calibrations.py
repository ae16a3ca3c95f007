"""Calibrations as they are stored, statements about them, and the traffic that they are made on."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from sqlalchemy import Connection, and_, func, insert, select

from feedback.records import LoggedPrompt, StoredCalibration
from feedback.schema import CalibrationRow, DecisionRow
from scorer.calibration import Calibration
from scorer.routers.base import Prompts, Router

TRAFFIC = "logged traffic"  # the sample's name
LEAST_TRAFFIC = 100  # prompts; fewer say little about a share

_DAY = 24 * 3600.0
_RANDOM = 25  # from this character on a UUIDv7 is random alone


def stored(router: Router, ladder: Sequence[str], fitted: Calibration) -> StoredCalibration:
    """What a version's scores mean on a ladder of known names, to be stored."""
    lowest = fitted.lowest.astype("<f4").tobytes()
    return StoredCalibration(
        router=router.name, version=router.version, ladder=tuple(ladder), sample=fitted.sample, lowest=lowest
    )


def restored(kept: StoredCalibration) -> Calibration:
    """The calibration that was stored."""
    return Calibration(kept.sample, np.frombuffer(kept.lowest, "<f4").astype(np.float64))


def prompts(logged: Sequence[LoggedPrompt]) -> Prompts:
    """Logged prompts, at least one, to be scored again; their texts are hashes."""
    embeddings, features = (
        np.array([np.frombuffer(getattr(one, name), "<f4") for one in logged]) for name in ("embedding", "features")
    )
    return Prompts([one.text_hash for one in logged], embeddings, features)


def traffic(encoder_id: str, limit: int, connection: Connection) -> list[LoggedPrompt]:
    """The newest routed prompts that were encoded so, newest first. Where the last day brought more than the limit,
    so many of that day's, drawn at random: the hour of a run is not like the others."""
    kept = DecisionRow.__table__.c
    encoded = and_(kept.encoder_id == encoder_id, kept.embedding.is_not(None))
    newest = connection.execute(select(func.max(kept.created_at)).where(encoded)).scalar_one()
    if newest is None:
        return []
    of_day = and_(encoded, kept.created_at > newest - _DAY)
    many = connection.execute(select(func.count()).where(of_day)).scalar_one() > limit
    drawn = select(kept.decision_id).where(of_day).order_by(func.substr(kept.decision_id, _RANDOM)).limit(limit)
    query = (
        select(kept.text_hash, kept.embedding, kept.features)
        .where(kept.decision_id.in_(drawn) if many else encoded)
        .order_by(kept.created_at.desc())
        .limit(limit)
    )
    return [LoggedPrompt(*row) for row in connection.execute(query)]


def texts(limit: int, connection: Connection) -> list[str]:
    """The newest routed prompts whose text was kept, newest first."""
    kept = DecisionRow.__table__.c
    query = select(kept.text).where(kept.text.is_not(None)).order_by(kept.created_at.desc()).limit(limit)
    return list(connection.execute(query).scalars())


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
