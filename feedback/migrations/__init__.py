"""Brings a database to the schema of this version. Revisions are the modules in `versions/`."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from feedback.database import StoreError, failures, open_engine, shown, writing

VERSION_TABLE = "routerd_revision"  # not Alembic's default: the database may be shared with another application

_LOCK = 0x726F757465726400  # "routerd": the advisory lock's number on PostgreSQL
_LOCK_SECONDS = 60.0
_SCRIPTS = Path(__file__).parent


def migrate(url: str) -> None:
    """Upgrades the database to the newest revision; safe when several processes do so at once.

    Raises StoreError when it cannot be reached, or was written by a newer version.
    """
    engine = open_engine(url, connections=1)
    try:
        with failures(engine):
            if engine.dialect.name == "sqlite":
                _write_ahead(engine)
            with writing(engine).begin() as connection:
                if engine.dialect.name == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                _upgrade(connection)
    finally:
        engine.dispose()


def _write_ahead(engine: Engine) -> None:
    """Switches the file to WAL. SQLite does not wait for other processes that are just doing so: we must."""
    deadline = time.monotonic() + _LOCK_SECONDS
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.execute(f"PRAGMA busy_timeout={int(_LOCK_SECONDS * 1000)}")
        while True:
            try:
                raw.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


def revisions() -> list[str]:
    """Of this version, the newest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]


def ahead(connection: Connection) -> str | None:
    """What there is to say where a newer routerd has upgraded the database; None: it has not."""
    known = revisions()
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    newer = [revision for revision in context.get_current_heads() if revision not in known]
    return f"its schema, {newer[0]}, is of a newer routerd; upgrade this one" if newer else None


def _upgrade(connection: Connection) -> None:
    if fault := ahead(connection):
        raise StoreError(f"{shown(connection.engine.url)}: {fault}")
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config
