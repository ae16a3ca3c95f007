"""The tables. Times are Unix seconds; maps keep their order, since JSON on both databases is text."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Boolean, Dialect, Double, Index, LargeBinary, MetaData, String, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_Id = String(36)

# Outcomes that speak against an answer; a query that says the same is answered from an index.
FAULTY = "disconnected OR finish_reason = 'length' OR status = 'failure'"


class Text(TypeDecorator[str]):
    """Text that every database takes: NUL and lone surrogates, which PostgreSQL refuses, become U+FFFD."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else _UNSTORABLE.sub("\ufffd", value)


class Base(DeclarativeBase):
    """What all tables share: how names of constraints are made, and which SQL type a Python type becomes."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        int: BigInteger(),
        bool: Boolean(),
        float: Double(),
        bytes: LargeBinary(),
        dict[str, float]: JSON(none_as_null=True),
        dict[str, bool | int]: JSON(none_as_null=True),
        dict[str, Any]: JSON(none_as_null=True),
        list[str]: JSON(none_as_null=True),
        dict[str, str]: JSON(none_as_null=True),
    }


class DecisionRow(Base):
    """One routing choice, as in scorer.decisions.Decision."""

    __tablename__ = "decisions"

    decision_id: Mapped[str] = mapped_column(_Id, primary_key=True)
    created_at: Mapped[float] = mapped_column(index=True)
    requested: Mapped[str]
    router: Mapped[str]
    version: Mapped[str]
    mode: Mapped[str]
    threshold: Mapped[float]
    win_rates: Mapped[dict[str, float]]
    quality: Mapped[dict[str, float] | None]
    probabilities: Mapped[dict[str, float]]
    model: Mapped[str]
    propensity: Mapped[float]
    explored: Mapped[bool]
    reason: Mapped[str]
    unit: Mapped[str]
    session_id: Mapped[str | None] = mapped_column(index=True)
    user: Mapped[str | None]
    call_id: Mapped[str | None] = mapped_column(index=True)
    needs: Mapped[dict[str, bool | int]]
    text_hash: Mapped[str]
    text: Mapped[str | None]
    encoder_id: Mapped[str | None]
    embedding: Mapped[bytes | None]
    features: Mapped[bytes | None]
    expired_at: Mapped[float | None]  # when it was given up for want of an outcome
    policy: Mapped[str | None]
    pinned: Mapped[str | None]
    rule: Mapped[str | None]
    guards: Mapped[dict[str, str] | None]
    costs: Mapped[dict[str, float] | None]
    expected_cost: Mapped[float | None]  # US dollars, of the model that was drawn

    __table_args__ = (Index("ix_decisions_again", "text_hash", "created_at"),)  # who asked the same again


class OutcomeRow(Base):
    """What the gateway saw of one decision, reports merged. No foreign key: it may come first or alone."""

    __tablename__ = "outcomes"

    decision_id: Mapped[str] = mapped_column(_Id, primary_key=True)
    status: Mapped[str]  # success, failure, fallback or rejected
    chosen: Mapped[str | None]
    served: Mapped[str | None]
    tokens_in: Mapped[int | None]
    tokens_out: Mapped[int | None]
    cost: Mapped[float | None]  # US dollars
    latency_ms: Mapped[float | None]
    ttft_ms: Mapped[float | None]  # time to first token
    stream: Mapped[bool | None]
    disconnected: Mapped[bool | None]
    cache_hit: Mapped[bool | None]
    error: Mapped[str | None]
    call_id: Mapped[str | None] = mapped_column(index=True)
    call_type: Mapped[str | None]
    requested: Mapped[str | None]
    session_id: Mapped[str | None]
    user: Mapped[str | None]
    reason: Mapped[str | None]
    reported_at: Mapped[float]
    finish_reason: Mapped[str | None]  # OpenAI's words: stop, length, tool_calls, content_filter
    cached_tokens: Mapped[int | None]  # of the prompt, that the provider had in its cache

    __table_args__ = (
        Index(
            "ix_outcomes_faulty",
            "decision_id",
            sqlite_where=text(FAULTY),
            postgresql_where=text(FAULTY),
        ),
    )


class RatingRow(Base):
    """One opinion on one served answer. Who changes his mind supersedes his earlier row, which stays."""

    __tablename__ = "ratings"

    feedback_id: Mapped[str] = mapped_column(_Id, primary_key=True)  # UUIDv7
    decision_id: Mapped[str] = mapped_column(_Id)
    user: Mapped[str]  # '' is anonymous
    source: Mapped[str]
    kind: Mapped[str]
    value: Mapped[float | None]  # in [0, 1]; null: retracted
    comment: Mapped[str | None]
    created_at: Mapped[float]
    superseded_at: Mapped[float | None]  # null: current
    tags: Mapped[list[str] | None]

    __table_args__ = (
        Index(
            "uq_ratings_current",
            "decision_id",
            "source",
            "user",
            unique=True,
            sqlite_where=text("superseded_at IS NULL"),
            postgresql_where=text("superseded_at IS NULL"),
        ),
        Index("ix_ratings_decision_id", "decision_id"),
    )


class ComparisonRow(Base):
    """One person's or judge's preference between two models' answers to one prompt: a decision's, or one of its own."""

    __tablename__ = "comparisons"

    comparison_id: Mapped[str] = mapped_column(_Id, primary_key=True)  # UUIDv7
    decision_id: Mapped[str | None] = mapped_column(_Id)  # whose prompt it is; then the five below are null
    text_hash: Mapped[str | None]
    text: Mapped[str | None]
    encoder_id: Mapped[str | None]
    embedding: Mapped[bytes | None]
    features: Mapped[bytes | None]
    model_a: Mapped[str]
    model_b: Mapped[str]
    winner: Mapped[str]  # model_a, model_b or tie
    source: Mapped[str]
    user: Mapped[str]  # '' is anonymous
    created_at: Mapped[float]

    __table_args__ = (
        Index("ix_comparisons_created_at", "created_at", "comparison_id"),
        Index("ix_comparisons_decision_id", "decision_id"),
    )


class IdempotencyKeyRow(Base):
    """The answer once given under an Idempotency-Key, and the digest of the body it was given to."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]  # SHA-256, hex
    answer: Mapped[dict[str, str]]
    created_at: Mapped[float]


class CalibrationRow(Base):
    """How one version of a router scored a sample of prompts on one ladder; the newest row of a version counts."""

    __tablename__ = "calibrations"

    calibration_id: Mapped[str] = mapped_column(_Id, primary_key=True)  # UUIDv7
    router: Mapped[str]
    version: Mapped[str]
    ladder: Mapped[str]  # JSON: the known names, strongest first
    sample: Mapped[str]
    lowest: Mapped[bytes]  # float32, little-endian: each prompt's smallest win rate over the cheaper models
    created_at: Mapped[float]

    __table_args__ = (Index("ix_calibrations_version", "router", "version", "ladder", "created_at"),)


class ActivationRow(Base):
    """One change of a router's active version; the highest number counts, the others are its history."""

    __tablename__ = "activations"

    router: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # from 1, without gaps
    version: Mapped[str]
    directory: Mapped[str]  # of the artifact
    previous: Mapped[str | None]  # the version before; null: the configured artifact
    changed_at: Mapped[float]
    changed_by: Mapped[str]
    holdback: Mapped[float] = mapped_column(server_default="0")  # the share of units that an earlier version serves
    holdback_until: Mapped[float | None]  # null: there is none
    holdback_since: Mapped[int | None]  # the number of the activation that began it: the version before serves
    undoes: Mapped[int | None]  # the number of the activation that was rolled back by itself
    erased_at: Mapped[float | None]  # when the version was erased, for what it had learned from


class RunRow(Base):
    """One run of a scheduled job: its lock while it runs, its record afterwards."""

    __tablename__ = "runs"

    run_id: Mapped[str] = mapped_column(_Id, primary_key=True)  # UUIDv7; another one after each takeover
    job: Mapped[str]
    scheduled_for: Mapped[float]
    holder: Mapped[str]
    attempt: Mapped[int]  # from 1; each takeover is one more
    started_at: Mapped[float]
    heartbeat_at: Mapped[float]
    finished_at: Mapped[float | None]
    status: Mapped[str]
    verdict: Mapped[str | None]
    record: Mapped[dict[str, Any] | None]

    __table_args__ = (
        Index("uq_runs_scheduled", "job", "scheduled_for", unique=True),
        Index(
            "uq_runs_running",
            "job",
            unique=True,
            sqlite_where=text("finished_at IS NULL"),
            postgresql_where=text("finished_at IS NULL"),
        ),
    )


class JudgementRow(Base):
    """An answer that was drawn for the judge. Texts are there only while it waits; what came of it stays."""

    __tablename__ = "judgements"

    decision_id: Mapped[str] = mapped_column(_Id, primary_key=True)
    created_at: Mapped[float]
    model_a: Mapped[str]  # that served
    model_b: Mapped[str]  # that it is compared with
    messages: Mapped[str | None]  # JSON: the conversation
    answer_a: Mapped[str | None]
    answer_b: Mapped[str | None]
    forward: Mapped[str | None]  # the verdict with a's answer shown first: model_a, model_b or tie
    backward: Mapped[str | None]  # and with b's
    attempts: Mapped[int]
    due_at: Mapped[float]  # when to try; while it is claimed, when the claim expires
    claim: Mapped[str | None] = mapped_column(_Id)  # the right to it of whoever judges it
    finished_at: Mapped[float | None]
    status: Mapped[str]  # waiting, judged, or why it was given up

    __table_args__ = (
        Index(
            "ix_judgements_waiting",
            "due_at",
            sqlite_where=text("finished_at IS NULL"),
            postgresql_where=text("finished_at IS NULL"),
        ),
        Index("ix_judgements_finished_at", "finished_at"),
    )


class JudgeCallRow(Base):
    """One call that judging took. Without a cost, which comes with the reply, the estimate counts."""

    __tablename__ = "judge_calls"

    call_id: Mapped[str] = mapped_column(_Id, primary_key=True)  # UUIDv7
    decision_id: Mapped[str] = mapped_column(_Id)
    model: Mapped[str]
    started_at: Mapped[float] = mapped_column(index=True)
    estimate: Mapped[float]  # US dollars, at most
    cost: Mapped[float | None]  # US dollars


class PinRow(Base):
    """Which model a conversation is on, as in scorer.sessions.Pin."""

    __tablename__ = "pins"

    session: Mapped[str] = mapped_column(primary_key=True)
    requested: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str]
    version: Mapped[str]
    pinned_at: Mapped[float]
    seen_at: Mapped[float] = mapped_column(index=True)
    tokens: Mapped[float]


class SpendRow(Base):
    """What the decisions of a quarter of an hour came to, as in scorer.budget.Slot; settled an hour later. What was
    spent on decisions that were erased since is set apart, so that summing up what is left forgets nothing."""

    __tablename__ = "spend"

    start: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # Unix seconds
    calls: Mapped[int]
    strong: Mapped[int]
    dollars: Mapped[float]
    expected: Mapped[float]
    gone_calls: Mapped[int] = mapped_column(server_default="0")
    gone_strong: Mapped[int] = mapped_column(server_default="0")
    gone_dollars: Mapped[float] = mapped_column(server_default="0")
    gone_expected: Mapped[float] = mapped_column(server_default="0")


class ErasureRow(Base):
    """A user's data, or versions that hold prompts for too long, that are to be erased; and then that they were."""

    __tablename__ = "erasures"

    erasure_id: Mapped[str] = mapped_column(_Id, primary_key=True)  # UUIDv7
    user: Mapped[str | None]  # null: forgotten, too, or it is about versions alone
    asked_at: Mapped[float]
    versions: Mapped[dict[str, Any] | None]  # by router; null: not looked for yet
    removed: Mapped[dict[str, Any] | None]  # how many rows, by table
    removed_at: Mapped[float | None]
    rebuilt_at: Mapped[float | None]  # when no such version was left
    finished_at: Mapped[float | None]  # when the user's id was forgotten
