"""Idempotency keys: the same request again gets the same answer, and changes nothing."""

from __future__ import annotations

import time
from typing import NamedTuple, TypeVar

import msgspec
from sqlalchemy import Connection, delete, select

from feedback import statements
from feedback.schema import IdempotencyKeyRow

KEY_SECONDS = 24 * 3600.0  # how long a key is remembered

R = TypeVar("R", bound=msgspec.Struct)


class KeyReused(Exception):
    """The Idempotency-Key came before, with another body."""


class Idempotency(NamedTuple):
    """A caller's key for one request, and the SHA-256 (hex) of the body it came with."""

    key: str
    digest: str


def claim(idempotency: Idempotency | None, answer: R, connection: Connection) -> R | None:
    """The answer given under the key, or None: `answer` is now. Waits for whoever is just claiming it.

    Raises KeyReused. What fails later in the transaction takes the claim back, too.
    """
    if idempotency is None:
        return None
    now = time.time()
    key, digest = idempotency
    mine = IdempotencyKeyRow.key == key
    connection.execute(delete(IdempotencyKeyRow).where(mine, IdempotencyKeyRow.created_at < now - KEY_SECONDS))
    row = {"key": key, "digest": digest, "answer": msgspec.structs.asdict(answer), "created_at": now}
    claimed = statements.insert(connection, IdempotencyKeyRow).values(row).on_conflict_do_nothing()
    if connection.execute(claimed.returning(IdempotencyKeyRow.key)).first():
        return None
    query = select(IdempotencyKeyRow.digest, IdempotencyKeyRow.answer).where(mine)
    their_digest, earlier = connection.execute(query).one()
    if their_digest != digest:
        raise KeyReused(key)
    return msgspec.convert(earlier, type(answer))


def forget(connection: Connection) -> int:
    """Deletes keys older than a day; how many."""
    old = delete(IdempotencyKeyRow).where(IdempotencyKeyRow.created_at < time.time() - KEY_SECONDS)
    return connection.execute(old).rowcount
