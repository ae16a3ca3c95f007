"""Tags, reasons to finish, comparisons, active versions and runs."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_FAULTY = "disconnected OR finish_reason = 'length' OR status = 'failure'"


def upgrade() -> None:
    op.add_column("ratings", sa.Column("tags", sa.JSON(), nullable=True))
    op.create_index("ix_decisions_again", "decisions", ["text_hash", "created_at"])
    op.add_column("outcomes", sa.Column("finish_reason", sa.String(), nullable=True))
    op.create_index("ix_outcomes_call_id", "outcomes", ["call_id"])
    op.create_index(
        "ix_outcomes_faulty",
        "outcomes",
        ["decision_id"],
        sqlite_where=sa.text(_FAULTY),
        postgresql_where=sa.text(_FAULTY),
    )
    op.create_table(
        "comparisons",
        sa.Column("comparison_id", sa.String(36), nullable=False),
        sa.Column("decision_id", sa.String(36), nullable=True),
        sa.Column("text_hash", sa.String(), nullable=True),
        sa.Column("text", sa.String(), nullable=True),
        sa.Column("encoder_id", sa.String(), nullable=True),
        sa.Column("embedding", sa.LargeBinary(), nullable=True),
        sa.Column("features", sa.LargeBinary(), nullable=True),
        sa.Column("model_a", sa.String(), nullable=False),
        sa.Column("model_b", sa.String(), nullable=False),
        sa.Column("winner", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("user", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("comparison_id", name="pk_comparisons"),
    )
    op.create_index("ix_comparisons_created_at", "comparisons", ["created_at", "comparison_id"])
    op.create_index("ix_comparisons_decision_id", "comparisons", ["decision_id"])
    op.create_table(
        "activations",
        sa.Column("router", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("directory", sa.String(), nullable=False),
        sa.Column("previous", sa.String(), nullable=True),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.Column("changed_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("router", "number", name="pk_activations"),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(36), nullable=False),
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("scheduled_for", sa.Double(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("heartbeat_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=True),
        sa.Column("record", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", name="pk_runs"),
    )
    op.create_index("uq_runs_scheduled", "runs", ["job", "scheduled_for"], unique=True)
    op.create_index(
        "uq_runs_running",
        "runs",
        ["job"],
        unique=True,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
