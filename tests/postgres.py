"""A real PostgreSQL server for tests, from the pgserver package."""

from __future__ import annotations

import itertools
import warnings

import psycopg

from feedback.migrations import migrate
from feedback.schema import Base

_numbers = itertools.count()


class Postgres:
    """A server of our own, with its socket in a temporary folder, and one migrated database.

    Without fsync: it is the server that crashes here, never the machine, and a restart need not sync every file.
    """

    def __init__(self, folder: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR, which containers often lack
            import pgserver

        self._pg_ctl = pgserver.pg_ctl
        self._server = pgserver.get_server(folder, cleanup_mode="stop")
        self._execute("ALTER SYSTEM SET fsync = off")
        self._execute("SELECT pg_reload_conf()")
        self._migrated = self.create()
        migrate(self._migrated)

    def create(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{next(_numbers)}"
        self._execute(f"CREATE DATABASE {name}")
        url: str = self._server.get_uri(database=name)
        return url

    def emptied(self) -> str:
        """The URL of the migrated database, its tables empty."""
        with psycopg.connect(self._migrated) as connection:
            connection.execute(f"TRUNCATE {', '.join(Base.metadata.tables)}".encode())
        return self._migrated

    def crash(self) -> None:
        """Stops without a checkpoint, as a power cut would."""
        self._pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=self._server.pgdata, user=self._server.system_user)

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def close(self) -> None:
        self.crash()  # quicker than a shutdown
        self._server.cleanup()

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(statement.encode())
