"""Statements about prompts alike: the rated ones nearest to another, and what is kept of those known by their hash."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from feedback.schema import DecisionRow, OutcomeRow, RatingRow

_NEWEST = 2000  # rated decisions that are compared: 3 MB of embeddings
_RATERS = "human"

_made, _seen, _said = DecisionRow.__table__.c, OutcomeRow.__table__.c, RatingRow.__table__.c
_counts = (_said.source == _RATERS, _said.superseded_at.is_(None), _said.value.is_not(None))


class Alike(msgspec.Struct, frozen=True):
    """A rated decision. similarity: its prompt's cosine; model: that served, or was chosen where that is not known;
    rating: the mean of people's, in [0, 1]; text: if it was kept."""

    decision_id: str
    similarity: float
    model: str
    rating: float
    text: str | None


class Logged(NamedTuple):
    """The newest decision on a prompt, and the text if it was kept; None where there is none."""

    decision_id: str | None
    text: str | None


def rated(encoder_id: str, embedding: NDArray[np.float32], but: str, limit: int, connection: Connection) -> list[Alike]:
    """The nearest among the newest decisions that people rated, but this one; the nearest first. embedding (d,): a
    unit vector, of that encoder."""
    newest = select(_said.decision_id).where(*_counts, _said.decision_id != but).distinct()
    newest = newest.order_by(_said.decision_id.desc()).limit(_NEWEST)
    kept = select(_made.decision_id, _made.embedding).where(
        _made.decision_id.in_(newest.scalar_subquery()), _made.encoder_id == encoder_id, _made.embedding.is_not(None)
    )
    rows = [row for row in connection.execute(kept) if len(row[1]) == embedding.nbytes]
    known = np.frombuffer(b"".join(row[1] for row in rows), "<f4").reshape(len(rows), len(embedding))
    cosines = known @ embedding
    near = {rows[i][0]: float(cosines[i]) for i in np.argsort(-cosines, kind="stable")[:limit].tolist()}
    query = (
        select(_made.decision_id, func.coalesce(_seen.served, _made.model), func.avg(_said.value), _made.text)
        .join(RatingRow, _said.decision_id == _made.decision_id)
        .outerjoin(OutcomeRow, _seen.decision_id == _made.decision_id)
        .where(_made.decision_id.in_(near), *_counts)
        .group_by(_made.decision_id, _seen.served, _made.model, _made.text)
    )
    found = [Alike(row[0], near[row[0]], row[1], float(row[2]), row[3]) for row in connection.execute(query)]
    return sorted(found, key=lambda one: -one.similarity)


def logged(text_hashes: Collection[str], connection: Connection) -> dict[str, Logged]:
    """By hash, of those that are known; text only where a decision kept it."""
    columns = _made.text_hash, _made.decision_id, _made.text
    newest = select(func.max(_made.decision_id)).where(_made.text_hash.in_(text_hashes)).group_by(_made.text_hash)
    query = select(*columns).where(_made.decision_id.in_(newest))
    return {text_hash: Logged(decision_id, text) for text_hash, decision_id, text in connection.execute(query)}
