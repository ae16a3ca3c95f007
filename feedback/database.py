"""The connection: a URL to an engine that commits durably, and its failures as one line each."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

_DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}
_ACCEPTED = "accepted: sqlite:///<path> and postgresql://<user>:<password>@<host>/<database>"
_BUSY_SECONDS = 5.0  # how long a write waits for another process's; `?timeout=` in the URL changes it
_CONNECT_SECONDS = 5  # `?connect_timeout=` in the URL changes it


class StoreError(Exception):
    """The database cannot be used: which, and why, in one line."""


class Unavailable(StoreError):
    """The database does not answer, or not as it should; later it may."""


def open_engine(url: str, connections: int) -> Engine:
    """An engine for a SQLite or PostgreSQL URL; connects when it is first used. Raises StoreError."""
    parsed = _parse(url)
    sqlite = parsed.drivername == _DRIVERS["sqlite"]
    try:
        engine = create_engine(
            parsed,
            pool_size=connections,
            pool_pre_ping=not sqlite,  # after a restart of the server the pool's connections are dead
            connect_args=_sqlite_arguments(parsed) if sqlite else _postgresql_arguments(parsed),
            hide_parameters=True,  # what people wrote stays out of error messages
            json_serializer=_to_json,
            json_deserializer=msgspec.json.decode,
        )
    except ImportError as error:
        raise StoreError(f"{shown(parsed)}: {error}; install routerd[postgres]") from None
    if sqlite:
        event.listen(engine, "connect", _sync_every_commit)
        event.listen(engine, "begin", _begin)
    return engine


def shown(url: URL) -> str:
    """The URL as it may be shown: without its secrets."""
    return url.difference_update_query(["password", "sslpassword"]).render_as_string(hide_password=True)


def writing(engine: Engine) -> Engine:
    """The same engine for transactions that write: SQLite's take the write lock at once, not half way."""
    return engine.execution_options(sqlite_begin="IMMEDIATE")


@contextmanager
def failures(engine: Engine) -> Iterator[None]:
    """Raises Unavailable for whatever the database fails at, except for data that it refuses."""
    try:
        yield
    except (IntegrityError, DataError):
        raise
    except (DBAPIError, PoolTimeout, sqlite3.Error) as error:
        said = str(error.orig if isinstance(error, DBAPIError) else error).strip()
        raise Unavailable(f"{shown(engine.url)}: {said.splitlines()[0] if said else type(error).__name__}") from error


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise StoreError(f"the database URL is not one; {_ACCEPTED}") from None
    driver = _DRIVERS.get(parsed.drivername, parsed.drivername)
    if driver not in _DRIVERS.values():
        raise StoreError(f"{shown(parsed)}: {parsed.drivername!r} is not supported; {_ACCEPTED}")
    if driver == _DRIVERS["sqlite"] and parsed.database in (None, "", ":memory:"):
        raise StoreError(f"{shown(parsed)}: a database in memory would lose ratings; {_ACCEPTED}")
    return parsed.set(drivername=driver)


def _sqlite_arguments(url: URL) -> dict[str, object]:
    waits = {} if "timeout" in url.query else {"timeout": _BUSY_SECONDS}
    return {"isolation_level": None, **waits}  # None: we say BEGIN, not the driver


def _postgresql_arguments(url: URL) -> dict[str, object]:
    return {} if "connect_timeout" in url.query else {"connect_timeout": _CONNECT_SECONDS}


def _sync_every_commit(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA secure_delete=ON")  # what is deleted, or moved, leaves zeros


def _begin(connection: Connection) -> None:
    kind = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {kind}")


def _to_json(value: object) -> str:
    return msgspec.json.encode(value).decode()
