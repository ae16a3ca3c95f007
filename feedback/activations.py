"""Statements about which version of a router is active: changed together with what its scores mean."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import msgspec
from sqlalchemy import Connection, insert, or_, select

from feedback import calibrations, history, statements
from feedback.records import Activation, Holdback, Rated, StoredCalibration
from feedback.schema import ActivationRow, DecisionRow, OutcomeRow, RatingRow
from scorer import arms

CONFIGURED = 0  # the number that stands for the configured artifact, where no version has been activated

_RATERS = "human"  # whose ratings judge a version
_DAY = 24 * 3600.0


class Overtaken(Exception):
    """Another version has been activated than the one that this was compared with."""


def activate(
    router: str,
    version: str,
    directory: str,
    fitted: Sequence[StoredCalibration],
    by: str,
    holdback: Holdback | None,
    over: int | None,
    connection: Connection,
) -> Activation:
    """The version serves from now on, and these are its calibrations; the one before keeps what is held back.

    over: the number of the activation that it is to follow. Raises Overtaken where another has come between.
    """
    before = _before(router, connection)
    if over is not None and over != (before.number if before else CONFIGURED):
        raise Overtaken("another version was activated while the run was at work")
    activation = _following(before, router, version, directory, by)
    if holdback:
        activation = _held_back(activation, before, holdback)
    connection.execute(insert(ActivationRow).values(msgspec.structs.asdict(activation)))
    for calibration in fitted:
        calibrations.add(calibration, connection)
    return activation


def undo(judged: Activation, version: str, directory: str, by: str, connection: Connection) -> Activation | None:
    """Another version serves in place of the judged one; None: that serves no longer, and all stays as it is."""
    before = _before(judged.router, connection)
    if before is None or before.number != judged.number:
        return None
    undone = _following(before, judged.router, version, directory, by)
    undone = msgspec.structs.replace(undone, undoes=judged.number)
    connection.execute(insert(ActivationRow).values(msgspec.structs.asdict(undone)))
    return undone


def active(router: str, connection: Connection) -> Activation | None:
    """The newest, or None: the configured artifact serves."""
    return next(iter(newest(router, 1, connection)), None)


def newest(router: str, limit: int | None, connection: Connection) -> list[Activation]:
    """The history, newest first."""
    rows = ActivationRow.__table__
    query = select(rows).where(rows.c.router == router).order_by(rows.c.number.desc()).limit(limit)
    return [statements.as_record(Activation, row) for row in connection.execute(query).mappings()]


def rated(began: Activation, earlier: str, since: Collection[str], connection: Connection) -> list[Rated]:
    """The first rating that people gave in each unit during a holdback, of the earlier version or of those since; as
    they came. began: the activation that began it.

    The first is taken as it was given: a change of mind would change what has been bet on. A unit that was not served
    by the version of its arm, such as in the seconds that a replica takes to follow, counts for neither.
    """
    made, said, seen = DecisionRow.__table__.c, RatingRow.__table__.c, OutcomeRow.__table__.c
    query = (
        select(made.unit, made.version, said.value)
        .join_from(RatingRow, DecisionRow, made.decision_id == said.decision_id)
        .join(OutcomeRow, seen.decision_id == made.decision_id)
        .where(
            said.decision_id > history.first_id(began.changed_at),
            said.source == _RATERS,
            said.value.is_not(None),
            made.router == began.router,
            made.version.in_((earlier, *since)),
            made.mode == "route",
            made.created_at >= began.changed_at,
            made.created_at < began.holdback_until,
            seen.status == "success",
            seen.served == made.model,
            or_(seen.chosen.is_(None), seen.chosen == made.model),
        )
        .order_by(said.created_at, said.feedback_id)
    )
    first: dict[str, Rated] = {}
    for unit, version, value in connection.execute(query):
        held = arms.held_back(unit, began.router, began.number, began.holdback)
        if held == (version == earlier):
            first.setdefault(unit, Rated(value, held))
    return list(first.values())


def _before(router: str, connection: Connection) -> Activation | None:
    """What is active, and remains so until the transaction ends."""
    statements.take_turns(f"activation of {router}", connection)
    return active(router, connection)


def _held_back(activation: Activation, before: Activation | None, holdback: Holdback) -> Activation:
    """With the holdback that lasts, else with one of its own, unless it follows itself."""
    share, since = holdback.share, activation.number
    until: float | None = activation.changed_at + holdback.days * _DAY
    if before and before.holds_back(activation.changed_at) and before.holdback_since is not None:
        share, until, since = before.holdback, before.holdback_until, before.holdback_since
    elif activation.previous == activation.version:
        return activation
    return msgspec.structs.replace(activation, holdback=share, holdback_until=until, holdback_since=since)


def _following(before: Activation | None, router: str, version: str, directory: str, by: str) -> Activation:
    return Activation(
        router=router,
        number=before.number + 1 if before else 1,
        version=version,
        directory=directory,
        previous=before.version if before else None,
        changed_at=time.time(),
        changed_by=by,
    )
