"""What statements on both databases share: upserts, locks, the clock, and rows as records."""

from __future__ import annotations

import time
from typing import TypeVar

import msgspec
from sqlalchemy import Connection, RowMapping, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase

R = TypeVar("R", bound=msgspec.Struct)


def insert(connection: Connection, table: type[DeclarativeBase]) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that can say what a conflict leads to."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def take_turns(name: str, connection: Connection) -> None:
    """Until the transaction ends, others that name the same wait. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


def now(connection: Connection) -> float:
    """Unix seconds by the clock that all users of the database share: PostgreSQL's, or the machine's for a file."""
    if connection.dialect.name == "postgresql":
        return float(connection.execute(select(func.extract("epoch", func.clock_timestamp()))).scalar_one())
    return time.time()


def as_record(kind: type[R], row: RowMapping) -> R:
    """The struct whose fields are columns."""
    return kind(**{name: row[name] for name in kind.__struct_fields__})
