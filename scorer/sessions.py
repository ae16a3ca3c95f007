"""Sessions: a conversation stays on its model, so that the provider's prompt cache stays warm. The pure part; the pins
themselves are rows (feedback/pins.py)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from scorer.models import Size
from scorer.policy import Choice, Facts
from scorer.sections import Sessions

_REFRESH_SECONDS = 60.0  # after which a pin that was seen again is written again


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """Which model a conversation is on. Times are Unix seconds; `tokens` the size of its last prompt, or what of it the
    provider said that it had in its cache."""

    session: str
    requested: str  # the virtual name: each has a pin of its own
    model: str
    version: str  # of the router that chose it
    pinned_at: float
    seen_at: float
    tokens: float


class Held(NamedTuple):
    """The model that a pin fixes, and what fixes it."""

    model: str
    by: Literal["session", "tool_loop"]
    why: str


def expired(pin: Pin, now: float, sessions: Sessions) -> bool:
    """Whether the conversation was left for so long that it may begin anew."""
    return now - pin.seen_at > sessions.idle_minutes * 60


def in_cache(pin: Pin | None, size: Size, now: float, sessions: Sessions, known: int | None) -> Size:
    """The size with what the provider has in its cache: as the gateway says, else the last prompt while it is warm."""
    if known is not None:
        return size._replace(cached=float(known))
    warm = pin is not None and now - pin.seen_at <= sessions.cache_minutes * 60
    return size._replace(cached=min(pin.tokens, size.tokens_in) if pin and warm else 0.0)


def hold(pin: Pin, facts: Facts, choice: Choice, continuation: bool, sessions: Sessions) -> Held | None:
    """What the pin fixes; None where its model is no candidate, so that the choice is a new one.

    `facts.costs` have the cache in them: the pinned model's alone is warm. A tool loop never switches. Else it moves up
    where the win rate exceeds the threshold by the margin, and down where that is cheaper, the lost cache included.
    """
    if pin.model not in facts.candidates:
        return None
    if continuation:
        return Held(pin.model, "tool_loop", f"a tool loop stays on {pin.model}")
    stays = Held(pin.model, "session", f"the session stays on {pin.model}")
    places = {model: place for place, model in enumerate(facts.candidates)}
    if places[choice.model] < places[pin.model]:
        excess = facts.win_rates[pin.model] - choice.threshold
        moved = Held(choice.model, "session", f"the session moves up: win rate {excess:.3f} over the threshold")
        return moved if excess >= sessions.margin else stays
    if places[choice.model] > places[pin.model] and facts.costs is not None:
        saved = facts.costs[pin.model] - facts.costs[choice.model]
        moved = Held(choice.model, "session", f"the session moves down: ${saved:.6f} cheaper even without its cache")
        return moved if saved > 0 else stays
    return stays


def renewed(
    pin: Pin | None, session: str, requested: str, model: str, version: str, now: float, tokens: float
) -> Pin | None:
    """The pin to write, or None where the one that is there will do."""
    if pin is not None and pin.model == model:
        if now - pin.seen_at < _REFRESH_SECONDS:
            return None
        return msgspec.structs.replace(pin, seen_at=now, tokens=tokens)
    return Pin(
        session=session,
        requested=requested,
        model=model,
        version=version,
        pinned_at=now,
        seen_at=now,
        tokens=tokens,
    )
