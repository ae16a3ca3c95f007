"""What Alembic runs; the connection, and the transaction around all of it, are feedback.migrations'."""

from alembic import context

from feedback.migrations import VERSION_TABLE
from feedback.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
