"""Decision ids: UUIDv7 (RFC 9562), so that an id carries the millisecond it was minted in."""

import os
import time
import uuid

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_MASK = ~((0xF << 76) | (0b11 << 62))


def mint() -> str:
    """A new UUIDv7: 48 bits of Unix milliseconds, then random bits."""
    milliseconds = time.time_ns() // 1_000_000
    random_bits = int.from_bytes(os.urandom(10), "big") & _RANDOM_MASK & ((1 << 80) - 1)
    return str(uuid.UUID(int=(milliseconds << 80) | random_bits | _VERSION_7 | _VARIANT))


def minted_at(decision_id: str) -> float:
    """Unix seconds at which the id was minted.

    Raises ValueError when it is not a UUIDv7 in its canonical, hyphenated, lower-case form.
    """
    parsed = uuid.UUID(decision_id)
    if str(parsed) != decision_id or parsed.version != 7:
        raise ValueError(f"{decision_id!r} is not a UUIDv7")
    return (parsed.int >> 80) / 1000
