"""Holdbacks of activations, and which activation a rollback undoes."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("activations", sa.Column("holdback", sa.Double(), nullable=False, server_default="0"))
    op.add_column("activations", sa.Column("holdback_until", sa.Double(), nullable=True))
    op.add_column("activations", sa.Column("holdback_since", sa.BigInteger(), nullable=True))
    op.add_column("activations", sa.Column("undoes", sa.BigInteger(), nullable=True))
