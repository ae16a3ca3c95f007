"""Statements about ratings: the newest of a person counts, the earlier ones stay as history."""

from __future__ import annotations

import time
from collections.abc import Collection

import msgspec
from sqlalchemy import Connection, update

from feedback import decisions, keys, statements
from feedback.keys import Idempotency
from feedback.records import Rating, Receipt
from feedback.schema import RatingRow
from gateway_plugin import ids

PENDING_SECONDS = 600.0  # how long an id that nobody has heard of may still be on its way


class UnknownDecision(Exception):
    """Nobody has heard of the decision, and it is too old to be still on its way."""


class UnknownCall(Exception):
    """No decision was made on a call with this id."""


class AmbiguousCall(Exception):
    """More than one decision was made on calls with this id."""


def may_come(decision_id: str) -> bool:
    """Whether an id that nobody has heard of may still be on its way."""
    return abs(time.time() - ids.minted_at(decision_id)) <= PENDING_SECONDS


def rate(rating: Rating, idempotency: Idempotency | None, known: bool, connection: Connection) -> Receipt:
    """Makes this the current rating of its decision, source and user. Raises UnknownDecision and KeyReused."""
    known = known or bool(decisions.known([rating.decision_id], connection))
    receipt = Receipt(rating.feedback_id, "stored" if known else "pending")
    if earlier := keys.claim(idempotency, receipt, connection):
        return earlier
    if not known and not may_come(rating.decision_id):
        raise UnknownDecision(rating.decision_id)
    _make_current(rating, connection)
    return receipt


def rate_call(
    call_id: str, unwritten: Collection[str], rating: Rating, idempotency: Idempotency | None, connection: Connection
) -> Receipt:
    """Rates the one decision on the call, whatever id the rating has; `unwritten` ones of the call count, too.

    Raises UnknownCall, AmbiguousCall and KeyReused.
    """
    receipt = Receipt(rating.feedback_id, "stored")
    if earlier := keys.claim(idempotency, receipt, connection):
        return earlier
    found = decisions.called(call_id, connection) | set(unwritten)
    if len(found) != 1:
        raise AmbiguousCall(call_id) if found else UnknownCall(call_id)
    _make_current(msgspec.structs.replace(rating, decision_id=found.pop()), connection)
    return receipt


def _make_current(rating: Rating, connection: Connection) -> None:
    """Ratings of one decision take turns."""
    statements.take_turns(rating.decision_id, connection)
    current = update(RatingRow).where(
        RatingRow.decision_id == rating.decision_id,
        RatingRow.source == rating.source,
        RatingRow.user == rating.user,
        RatingRow.superseded_at.is_(None),
    )
    connection.execute(current.values(superseded_at=rating.created_at))
    connection.execute(statements.insert(connection, RatingRow).values(msgspec.structs.asdict(rating)))
