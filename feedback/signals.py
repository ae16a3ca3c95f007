"""Implicit signals: what the log itself says against an answer, as ratings that weigh less than a person's.

They are derived when they are read, never stored, so that a weight that changes counts for what was logged before.
All of them are losses to the bar; that an answer gave no signal says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from feedback.records import Record

KINDS = ("regenerated", "disconnected", "length", "error")


class Signal(NamedTuple):
    """One implicit rating, of the model that served; `value` as a rating's."""

    kind: str
    model: str
    weight: float
    value: float = 0.0


def implicit(record: Record, weights: Mapping[str, float]) -> list[Signal]:
    """The record's signals whose weight is above 0, in the order of KINDS."""
    seen = _seen(record)
    return [Signal(kind, seen[kind], weights[kind]) for kind in KINDS if kind in seen and weights.get(kind, 0) > 0]


def _seen(record: Record) -> dict[str, str]:
    """Kinds of signals, each with the model that gets it.

    Where nobody answered, that is the model the request was sent to. An attempt that failed before another model
    answered is no signal: the one that answered did nothing wrong.
    """
    outcome = record.outcome
    if outcome is None or outcome.status == "rejected":
        return {}
    failed = outcome.status == "failure" and not outcome.disconnected
    signals = {
        "regenerated": record.regenerated,
        "disconnected": outcome.disconnected,
        "length": outcome.finish_reason == "length",
        "error": failed,
    }
    model = outcome.served or (outcome.chosen if outcome.status == "failure" else None)
    return {kind: model for kind, given in signals.items() if given} if model else {}
