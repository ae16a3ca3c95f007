"""The tables. Times are Unix seconds; maps keep their order, since JSON on both databases is text."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Boolean, Dialect, Double, Index, LargeBinary, MetaData, String, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_Id = String(36)


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
    call_id: Mapped[str | None]
    call_type: Mapped[str | None]
    requested: Mapped[str | None]
    session_id: Mapped[str | None]
    user: Mapped[str | None]
    reason: Mapped[str | None]
    reported_at: Mapped[float]


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
