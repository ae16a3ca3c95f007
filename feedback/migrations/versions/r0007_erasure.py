"""What is to be forgotten, which versions were, and what forgotten decisions came to."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_index("ix_ratings_decision_id", "ratings", ["decision_id"])
    op.add_column("activations", sa.Column("erased_at", sa.Double(), nullable=True))
    op.add_column("spend", sa.Column("gone_calls", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("spend", sa.Column("gone_strong", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("spend", sa.Column("gone_dollars", sa.Double(), nullable=False, server_default="0"))
    op.add_column("spend", sa.Column("gone_expected", sa.Double(), nullable=False, server_default="0"))
    op.create_table(
        "erasures",
        sa.Column("erasure_id", sa.String(36), nullable=False),
        sa.Column("user", sa.String(), nullable=True),
        sa.Column("asked_at", sa.Double(), nullable=False),
        sa.Column("versions", sa.JSON(), nullable=True),
        sa.Column("removed", sa.JSON(), nullable=True),
        sa.Column("removed_at", sa.Double(), nullable=True),
        sa.Column("rebuilt_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("erasure_id", name="pk_erasures"),
    )
