"""Numbers, times and names as the page shows them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Protocol

from markupsafe import Markup

NOTHING = "–"
_NARROW = "\u202f"  # a space at which no line ends


class Interval(Protocol):
    """An estimate of the report's, or a point of a curve's."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def number(value: float | None, digits: int = 3) -> str:
    """With thousands apart and a real minus; nothing for what is not known."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return _minus(f"{value:,.{digits}f}")


def signed(value: float) -> str:
    """With a plus or a real minus."""
    return _minus(f"{value:+.3f}")


def percent(value: float | None, digits: int = 1) -> str:
    """Of a share in [0, 1]."""
    return NOTHING if value is None or not math.isfinite(value) else f"{number(100 * value, digits)}{_NARROW}%"


def dollars(value: float | None, digits: int = 2) -> str:
    if value is None or not math.isfinite(value):
        return NOTHING
    return _minus(f"{'-' if value < 0 else ''}${abs(value):,.{digits}f}")


def between(found: Interval, scale: float = 1, digits: int = 3, unit: str = "") -> str:
    """The interval alone, with a unit before each end."""
    if not math.isfinite(found.low):
        return NOTHING
    return f"{unit}{number(scale * found.low, digits)} to {unit}{number(scale * found.high, digits)}"


def moment(seconds: float | None) -> Markup | str:
    """A time in UTC, to the minute."""
    if seconds is None:
        return NOTHING
    time = datetime.fromtimestamp(seconds, UTC)
    words = Markup('<time datetime="{}"><span>{}</span> <span>{}</span></time>')
    return words.format(f"{time:%Y-%m-%dT%H:%M:%SZ}", f"{time:%Y-%m-%d}", f"{time:%H:%M}")


def short(version: str | None) -> str:
    """Of a version's name what tells it from others: the day, and the end of its digest."""
    if not version:
        return NOTHING
    return version if len(version) <= 24 else f"{version[:10]}…{version[-8:]}"


def filters() -> dict[str, Any]:
    """By the names that templates know them by."""
    return {each.__name__: each for each in (number, signed, percent, dollars, between, moment, short)}


def _minus(text: str) -> str:
    return text.replace("-", "−")
