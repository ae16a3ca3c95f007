"""What the store takes and gives: outcomes, ratings, and a decision together with both."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal, NamedTuple

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
    cached_tokens: Count | None = None  # of the prompt, that the provider had in its cache
    cost: Cost | None = None  # US dollars
    latency_ms: float | None = None
    ttft_ms: float | None = None  # time to first token
    stream: bool | None = None
    disconnected: bool | None = None  # the client left before the end
    cache_hit: bool | None = None
    error: str | None = None
    finish_reason: str | None = None  # stop, length, tool_calls, content_filter
    call_id: str | None = None
    call_type: str | None = None
    requested: str | None = None  # the name the client asked for
    session_id: str | None = None
    user: str | None = None
    reason: str | None = None


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation, as plain text."""

    role: Literal["system", "user", "assistant"]
    content: str


class Sample(msgspec.Struct, frozen=True):
    """What a judge needs of a request that was drawn for it: kept until it is judged, and no longer."""

    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    answer: Annotated[str, msgspec.Meta(min_length=1)]


class SampledOutcome(Outcome, frozen=True, kw_only=True):
    """An outcome as it is reported: with the answer, where `sample_answer` asked for it."""

    sample: Sample | None = None


class ReportedOutcome(Outcome, frozen=True, kw_only=True):
    """All reports on one decision, merged; `reported_at` (Unix seconds) is the newest one's."""

    reported_at: float


class Rating(msgspec.Struct, frozen=True, kw_only=True):
    """One opinion on one served answer: `value` in [0, 1], 1 is best, None is a retraction.

    A thumb is 0 or 1, s stars are (s - 1) / 4, a score is itself.
    """

    decision_id: str
    value: float | None
    user: str = ""  # '' is anonymous
    source: str = "human"
    kind: Literal["thumb", "stars", "score"] = "thumb"
    comment: str | None = None
    tags: tuple[str, ...] = ()
    feedback_id: str = msgspec.field(default_factory=ids.mint)  # UUIDv7
    created_at: float = msgspec.field(default_factory=time.time)  # Unix seconds


THUMBS = {"up": 1.0, "down": 0.0, "none": None}  # what they are worth; none is a retraction


def worth(stars: int) -> float:
    """Of 1 to 5 stars, in [0, 1]."""
    return (stars - 1) / 4


class Receipt(msgspec.Struct, frozen=True):
    """A rating that is safely stored; `pending` while its decision has not been heard of."""

    feedback_id: str
    status: Literal["stored", "pending"]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One preference between two models' answers to one prompt: a decision's, or one of its own.

    Of a decision's prompt the five fields that say what is kept are stored empty, and read from the decision.
    """

    model_a: str
    model_b: str
    winner: Literal["model_a", "model_b", "tie"]
    decision_id: str | None = None
    text_hash: str | None = None
    text: str | None = None
    encoder_id: str | None = None
    embedding: bytes | None = None  # float32, little-endian, as are the features
    features: bytes | None = None
    source: str = "human"
    user: str = ""  # '' is anonymous
    created_at: float = msgspec.field(default_factory=time.time)  # Unix seconds
    comparison_id: str = msgspec.field(default_factory=ids.mint)  # UUIDv7


class LoggedComparison(Comparison, frozen=True, kw_only=True):
    """A comparison of a decision's prompt as it is read back; `unit` is what the decision was drawn by."""

    unit: str


class ComparisonReceipt(msgspec.Struct, frozen=True):
    """A comparison that is safely stored; `pending` while its decision has not been heard of."""

    comparison_id: str
    status: Literal["stored", "pending"]


class Taken(NamedTuple):
    """What became of a file's rows."""

    ratings: int  # added
    comparisons: int  # added
    repeated: int  # dropped: they are there already, or come twice
    unknown: int  # dropped: of a decision that nobody has heard of


class StoredCalibration(msgspec.Struct, frozen=True, kw_only=True):
    """How a version of a router scored a sample on a ladder of known names, strongest first."""

    router: str
    version: str
    ladder: tuple[str, ...]
    sample: str  # its name
    lowest: bytes  # float32, little-endian: each prompt's smallest win rate over the cheaper models
    created_at: float = msgspec.field(default_factory=time.time)  # Unix seconds
    calibration_id: str = msgspec.field(default_factory=ids.mint)  # UUIDv7


class Activation(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a router's active version; `previous` is None where the configured artifact served before."""

    router: str
    number: int  # from 1
    version: str
    directory: str
    previous: str | None
    changed_at: float  # Unix seconds
    changed_by: str
    holdback: float = 0.0  # the share of units that an earlier version goes on serving
    holdback_until: float | None = None  # Unix seconds; None: there is no holdback
    holdback_since: int | None = None  # the number of the activation that began it; the version before that one serves
    undoes: int | None = None  # the number of the activation that it is the automatic rollback of
    erased_at: float | None = None  # Unix seconds; None: the version is there

    def holds_back(self, now: float) -> bool:
        """Whether an earlier version serves its share at this time (Unix seconds)."""
        return self.holdback_until is not None and now < self.holdback_until


class Holdback(NamedTuple):
    """What an activation leaves to the version before: a share of the units, in (0, 1), for so many days. Where such a
    holdback lasts already, it goes on as it is."""

    share: float
    days: float


class Rated(NamedTuple):
    """The first rating of a unit, in [0, 1], and whose version's answer it rates."""

    value: float
    held: bool  # the earlier one's


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that waits for the judge, with what is known so far; verdicts are model_a, model_b or tie."""

    decision_id: str
    model_a: str  # that served
    model_b: str  # that it is compared with
    messages: list[dict[str, str]]
    answer_a: str
    answer_b: str | None = None
    forward: str | None = None  # the verdict with a's answer shown first
    backward: str | None = None  # and with b's
    attempts: int = 0  # this one included, once it is claimed
    claim: str | None = None  # its holder's right to it


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a scheduled job. Its id is its holder's right to it: a takeover gives it another one."""

    run_id: str
    job: str
    scheduled_for: float  # Unix seconds, as are the other times
    holder: str
    attempt: int  # from 1; each takeover is one more
    started_at: float
    heartbeat_at: float
    finished_at: float | None
    status: str  # running, abandoned, or what its holder called its end
    verdict: str | None  # why, in one line
    record: dict[str, Any] | None  # what it saw and did


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be forgotten: a user, or versions alone. Times are Unix seconds; None: not yet."""

    erasure_id: str
    user: str | None  # None: forgotten, too, or none
    asked_at: float
    versions: dict[str, list[str]] | None = None  # that may know the user, by router; None: not looked for yet
    removed: dict[str, int] | None = None  # rows, by table
    removed_at: float | None = None
    rebuilt_at: float | None = None  # when no such version was left
    finished_at: float | None = None  # when the user's id was forgotten

    @property
    def status(self) -> Literal["asked", "removed", "rebuilt", "finished"]:
        if self.removed_at is None:
            return "asked"
        if self.rebuilt_at is None:
            return "removed"
        return "rebuilt" if self.finished_at is None else "finished"


class LoggedPrompt(NamedTuple):
    """What is kept of a routed prompt: enough to score it again. Vectors are float32, little-endian."""

    text_hash: str
    embedding: bytes
    features: bytes


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known under one decision id: its decision, outcome and ratings may each be missing.

    A fallback has an outcome and no decision: the daemon never chose, so there are no scores to record.
    Should the daemon have decided after all, too late for the gateway, both are there and the outcome counts.
    """

    decision_id: str
    decision: Decision | None
    expired: bool
    outcome: ReportedOutcome | None
    ratings: list[Rating]  # the current ones, retractions included, oldest first
    regenerated: bool = False  # the same was asked again within a minute of the answer

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
