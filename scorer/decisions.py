"""The record of one routing choice, complete enough to learn from it and to evaluate another policy on it."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec


class KeptPrompt(NamedTuple):
    """What is kept of a prompt, as the privacy setting has it; the fields are Decision's."""

    text_hash: str
    text: str | None
    encoder_id: str | None
    embedding: bytes | None
    features: bytes | None


def kept(keep: str, text: str, encoder_id: str, embedding: bytes, features: bytes) -> KeptPrompt:
    """`keep` is text, embedding or hash."""
    text_hash = hashlib.sha256(text.encode()).hexdigest()
    if keep == "hash":
        return KeptPrompt(text_hash, None, None, None, None)
    return KeptPrompt(text_hash, text if keep == "text" else None, encoder_id, embedding, features)


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One routing choice. Maps are keyed by model, in ladder order (strongest first)."""

    decision_id: str  # UUIDv7
    created_at: float  # Unix seconds
    requested: str  # the name the client asked for
    router: str
    version: str  # of the router's artifact
    mode: str  # "route", or "observe" when the gateway was told to change nothing
    threshold: float
    win_rates: dict[str, float]  # over the whole ladder, each in [0, 1]
    quality: dict[str, float] | None
    probabilities: dict[str, float]  # over the candidates; they sum to 1
    model: str  # the one drawn
    propensity: float  # probabilities[model]
    explored: bool  # the draw differs from what the threshold rule says
    reason: str
    unit: str  # what the draw was keyed by: the session if there is one, else the decision id
    session_id: str | None = None
    user: str | None = None
    call_id: str | None = None
    needs: dict[str, bool | int] = {}
    text_hash: str = ""  # SHA-256 of the scored text
    text: str | None = None  # kept only with `keep: text`
    encoder_id: str | None = None  # the three below are kept unless `keep: hash`
    embedding: bytes | None = None  # float32, little-endian, unit norm
    features: bytes | None = None  # float32, little-endian, raw
    policy: str | None = None  # what chose: threshold, budget, lambda or quality target
    pinned: str | None = None  # what left no choice: guard, rule, session or tool_loop
    rule: str | None = None  # the name of the one that matched
    guards: dict[str, str] | None = None  # why models were left out
    costs: dict[str, float] | None = None  # US dollars of this call to each model, as expected; None: prices unknown
    expected_cost: float | None = None  # of the model that was drawn, with what the provider has in its cache
