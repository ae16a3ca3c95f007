"""Every test that asks for `store_url` runs twice: on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from feedback.migrations import migrate
from feedback.schema import Base
from feedback.store import Store

Away = Callable[[], AbstractContextManager[None]]

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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as folder:
        server = Postgres(folder)
        yield server
        server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def dialect(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def empty_url(dialect: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A database without tables."""
    if dialect == "sqlite":
        return f"sqlite:///{tmp_path}/feedback.sqlite"
    server: Postgres = request.getfixturevalue("postgres")
    return server.create()


@pytest.fixture
def store_url(dialect: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A migrated database; a SQLite one gives up on a lock after 0.1 s, so that tests need not wait."""
    if dialect == "sqlite":
        url = f"sqlite:///{tmp_path}/feedback.sqlite?timeout=0.1"
        migrate(url)
        return url
    server: Postgres = request.getfixturevalue("postgres")
    return server.emptied()


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = Store(store_url)
    yield opened
    await opened.close()


@pytest.fixture
def away(dialect: str, store_url: str, request: pytest.FixtureRequest) -> Away:
    """A context in which the database takes no writes: locked by another, or crashed until then."""

    @contextmanager
    def locked() -> Iterator[None]:
        connection = sqlite3.connect(str(make_url(store_url).database), isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.close()

    @contextmanager
    def crashed() -> Iterator[None]:
        server: Postgres = request.getfixturevalue("postgres")
        server.crash()
        try:
            yield
        finally:
            server.start()

    return locked if dialect == "sqlite" else crashed
