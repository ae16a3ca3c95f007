"""What the store takes and gives: outcomes, ratings, and a decision together with both."""

from __future__ import annotations

import time
from typing import Annotated, Literal, NamedTuple

import msgspec

from gateway_plugin import ids
from scorer.decisions import Decision

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Cost = Annotated[float, msgspec.Meta(ge=0)]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One report of what became of a routed request; what it does not know is None.

    The last four say of a fallback what a decision would have said.
    """

    decision_id: str
    status: Literal["success", "failure", "fallback", "rejected"]
    chosen: str | None = None  # the model the request was sent to
    served: str | None = None  # the model that answered
    tokens_in: Count | None = None
    tokens_out: Count | None = None
    cost: Cost | None = None  # US dollars
    latency_ms: float | None = None
    ttft_ms: float | None = None  # time to first token
    stream: bool | None = None
    disconnected: bool | None = None  # the client left before the end
    cache_hit: bool | None = None
    error: str | None = None
    call_id: str | None = None
    call_type: str | None = None
    requested: str | None = None  # the name the client asked for
    session_id: str | None = None
    user: str | None = None
    reason: str | None = None


class ReportedOutcome(Outcome, frozen=True, kw_only=True):
    """All reports on one decision, merged; `reported_at` (Unix seconds) is the newest one's."""

    reported_at: float


class Rating(msgspec.Struct, frozen=True, kw_only=True):
    """One opinion on one served answer: `value` in [0, 1], 1 is best, None is a retraction."""

    decision_id: str
    value: float | None
    user: str = ""  # '' is anonymous
    source: str = "human"
    kind: str = "thumb"
    comment: str | None = None
    feedback_id: str = msgspec.field(default_factory=ids.mint)  # UUIDv7
    created_at: float = msgspec.field(default_factory=time.time)  # Unix seconds


class Receipt(msgspec.Struct, frozen=True):
    """A rating that is safely stored; `pending` while its decision has not been heard of."""

    feedback_id: str
    status: Literal["stored", "pending"]


class StoredCalibration(msgspec.Struct, frozen=True, kw_only=True):
    """How a version of a router scored a sample on a ladder of known names, strongest first."""

    router: str
    version: str
    ladder: tuple[str, ...]
    sample: str  # its name
    lowest: bytes  # float32, little-endian: each prompt's smallest win rate over the cheaper models
    created_at: float = msgspec.field(default_factory=time.time)  # Unix seconds
    calibration_id: str = msgspec.field(default_factory=ids.mint)  # UUIDv7


class LoggedPrompt(NamedTuple):
    """What is kept of a routed prompt: enough to score it again. Vectors are float32, little-endian."""

    text_hash: str
    embedding: bytes
    features: bytes


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known under one decision id.

    A fallback has an outcome and no decision: the daemon never chose, so there are no scores to record.
    Should the daemon have decided after all, too late for the gateway, both are there and the outcome counts.
    """

    decision: Decision | None
    expired: bool
    outcome: ReportedOutcome | None
    ratings: list[Rating]  # the current ones, retractions included, oldest first

    @property
    def status(self) -> Literal["routed", "observe", "fallback", "expired", "lost"]:
        """`lost`: the gateway followed a decision that was never written."""
        if self.outcome and self.outcome.status == "fallback":
            return "fallback"
        if self.decision is None:
            return "lost"
        if self.expired and self.outcome is None:
            return "expired"
        return "observe" if self.decision.mode == "observe" else "routed"
