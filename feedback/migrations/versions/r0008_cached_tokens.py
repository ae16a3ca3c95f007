"""How much of a prompt a provider had in its cache."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("outcomes", sa.Column("cached_tokens", sa.BigInteger(), nullable=True))
