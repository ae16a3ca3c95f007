"""Answers that wait for the judge, and what judging costs."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "judgements",
        sa.Column("decision_id", sa.String(36), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("model_a", sa.String(), nullable=False),
        sa.Column("model_b", sa.String(), nullable=False),
        sa.Column("messages", sa.String(), nullable=True),
        sa.Column("answer_a", sa.String(), nullable=True),
        sa.Column("answer_b", sa.String(), nullable=True),
        sa.Column("forward", sa.String(), nullable=True),
        sa.Column("backward", sa.String(), nullable=True),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("claim", sa.String(36), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("decision_id", name="pk_judgements"),
    )
    op.create_index(
        "ix_judgements_waiting",
        "judgements",
        ["due_at"],
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index("ix_judgements_finished_at", "judgements", ["finished_at"])
    op.create_table(
        "judge_calls",
        sa.Column("call_id", sa.String(36), nullable=False),
        sa.Column("decision_id", sa.String(36), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("estimate", sa.Double(), nullable=False),
        sa.Column("cost", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("call_id", name="pk_judge_calls"),
    )
    op.create_index("ix_judge_calls_started_at", "judge_calls", ["started_at"])
