"""Statements about comparisons: appended, and read back in pages with what is known of their prompts."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, func, select, tuple_

from feedback import decisions, keys, statements
from feedback.keys import Idempotency
from feedback.ratings import UnknownDecision, may_come
from feedback.records import Comparison, ComparisonReceipt, LoggedComparison
from feedback.schema import ComparisonRow, DecisionRow

_OF_THE_PROMPT = ("text_hash", "text", "encoder_id", "embedding", "features")


class Place(NamedTuple):
    """Where a page ended: the next one begins after it."""

    created_at: float
    comparison_id: str


def add(
    comparison: Comparison, idempotency: Idempotency | None, known: bool, connection: Connection
) -> ComparisonReceipt:
    """Appends it. Raises UnknownDecision and KeyReused."""
    of = comparison.decision_id
    known = known or of is None or bool(decisions.known([of], connection))
    receipt = ComparisonReceipt(comparison.comparison_id, "stored" if known else "pending")
    if earlier := keys.claim(idempotency, receipt, connection):
        return earlier
    if of is not None and not known and not may_come(of):
        raise UnknownDecision(of)
    connection.execute(statements.insert(connection, ComparisonRow).values(msgspec.structs.asdict(comparison)))
    return receipt


def page(after: Place, before: float, limit: int, vectors: bool, connection: Connection) -> list[Comparison]:
    """The next ones that were made after the place and before the time, oldest first."""
    own, of = ComparisonRow.__table__.c, DecisionRow.__table__.c
    wanted = [name for name in Comparison.__struct_fields__ if vectors or name not in ("embedding", "features")]
    columns = [
        func.coalesce(own[name], of[name], type_=own[name].type).label(name) if name in _OF_THE_PROMPT else own[name]
        for name in wanted
    ]
    query = (
        select(*columns, of["unit"])
        .select_from(ComparisonRow.__table__.outerjoin(DecisionRow.__table__, own.decision_id == of.decision_id))
        .where(tuple_(own.created_at, own.comparison_id) > tuple(after), own.created_at < before)
        .order_by(own.created_at, own.comparison_id)
        .limit(limit)
    )
    return [_logged(**row) for row in connection.execute(query).mappings()]


def _logged(unit: str | None, **fields: Any) -> Comparison:
    return Comparison(**fields) if unit is None else LoggedComparison(unit=unit, **fields)
