"""Sessions: when a conversation stays, and when it moves."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from scorer import sessions
from scorer.models import Size
from scorer.policy import Choice, Facts
from scorer.sections import Sessions
from scorer.sessions import Pin

LADDER = ("large", "medium", "small")
RATES = {"large": 0.5, "medium": 0.55, "small": 0.7}
COSTS = {"large": 0.010, "medium": 0.003, "small": 0.001}
SETTINGS = Sessions()


def on(model: str, **changes: object) -> Pin:
    pin = Pin(session="s", requested="router", model=model, version="1", pinned_at=1000.0, seen_at=1000.0, tokens=500.0)
    return msgspec.structs.replace(pin, **changes)


def held(pinned: str, chosen: str, threshold: float = 0.6, continuation: bool = False, **facts: Any) -> str | None:
    known = Facts(LADDER, RATES, None, COSTS)._replace(**facts)
    found = sessions.hold(on(pinned), known, Choice(chosen, threshold, ""), continuation, SETTINGS)
    return found and found.model


def test_it_stays_where_the_choice_is_the_same() -> None:
    assert held("medium", "medium") == "medium"


@pytest.mark.parametrize(
    ("threshold", "model"),
    [(0.7, "small"), (0.66, "small"), (0.64, "large"), (0.5, "large")],  # small's win rate is 0.7, the margin 0.05
)
def test_it_moves_up_where_the_win_rate_exceeds_the_threshold_by_the_margin(threshold: float, model: str) -> None:
    assert held("small", "large", threshold) == model


def test_it_moves_down_where_that_is_cheaper_without_the_cache() -> None:
    """Costs are of this call: the pinned model's with what it has in its cache."""
    assert held("large", "medium") == "medium"
    assert held("large", "medium", costs=COSTS | {"large": 0.0029}) == "large"
    assert held("large", "medium", costs=None) == "large"  # prices unknown: nothing says that it saves


@pytest.mark.parametrize("chosen", LADDER)
@pytest.mark.parametrize("pinned", LADDER)
def test_a_tool_loop_never_switches(pinned: str, chosen: str) -> None:
    assert held(pinned, chosen, threshold=0.0, continuation=True) == pinned


def test_a_guard_ends_a_pin() -> None:
    assert held("large", "medium", candidates=("medium", "small")) is None
    assert held("large", "medium", continuation=True, candidates=("medium", "small")) is None


def test_after_an_hour_without_a_word_it_may_begin_anew() -> None:
    assert not sessions.expired(on("large"), 1000 + 3600, SETTINGS)
    assert sessions.expired(on("large"), 1000 + 3601, SETTINGS)


def test_the_last_prompt_is_in_the_cache_for_five_minutes_unless_the_gateway_knows_better() -> None:
    size = Size(2000)
    assert sessions.in_cache(on("large"), size, 1300, SETTINGS, None).cached == 500
    assert sessions.in_cache(on("large"), size, 1301, SETTINGS, None).cached == 0
    assert sessions.in_cache(on("large"), Size(100), 1300, SETTINGS, None).cached == 100
    assert sessions.in_cache(on("large"), size, 1301, SETTINGS, 1900).cached == 1900
    assert sessions.in_cache(None, size, 1000, SETTINGS, None).cached == 0


def test_a_pin_is_written_when_it_is_new_moved_or_a_minute_old() -> None:
    assert sessions.renewed(None, "s", "router", "large", "2", 2000, 700) == Pin(
        session="s", requested="router", model="large", version="2", pinned_at=2000, seen_at=2000, tokens=700
    )
    pin = on("large")
    assert sessions.renewed(pin, "s", "router", "large", "2", 1059, 700) is None
    assert sessions.renewed(pin, "s", "router", "large", "2", 1060, 700) == on("large", seen_at=1060, tokens=700)
    moved = sessions.renewed(pin, "s", "router", "small", "2", 1059, 700)
    assert moved == on("small", version="2", pinned_at=1059, seen_at=1059, tokens=700)
