"""What a decision was made by, pins of conversations, and the spend that a budget is kept by."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("decisions", sa.Column("policy", sa.String(), nullable=True))
    op.add_column("decisions", sa.Column("pinned", sa.String(), nullable=True))
    op.add_column("decisions", sa.Column("rule", sa.String(), nullable=True))
    op.add_column("decisions", sa.Column("guards", sa.JSON(), nullable=True))
    op.add_column("decisions", sa.Column("costs", sa.JSON(), nullable=True))
    op.add_column("decisions", sa.Column("expected_cost", sa.Double(), nullable=True))
    op.create_table(
        "pins",
        sa.Column("session", sa.String(), nullable=False),
        sa.Column("requested", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("pinned_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("tokens", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("session", "requested", name="pk_pins"),
    )
    op.create_index("ix_pins_seen_at", "pins", ["seen_at"])
    op.create_table(
        "spend",
        sa.Column("start", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("strong", sa.BigInteger(), nullable=False),
        sa.Column("dollars", sa.Double(), nullable=False),
        sa.Column("expected", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("start", name="pk_spend"),
    )
