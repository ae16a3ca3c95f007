"""Calibrations of router versions."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "calibrations",
        sa.Column("calibration_id", sa.String(36), nullable=False),
        sa.Column("router", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("ladder", sa.String(), nullable=False),
        sa.Column("sample", sa.String(), nullable=False),
        sa.Column("lowest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("calibration_id", name="pk_calibrations"),
    )
    op.create_index("ix_calibrations_version", "calibrations", ["router", "version", "ladder", "created_at"])
