from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway_plugin.breaker import Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _opened(clock: Clock) -> Breaker:
    breaker = Breaker(3, 5.0, clock)
    for _ in range(3):
        assert breaker.admit()
        breaker.failed()
    return breaker


def test_it_opens_after_consecutive_failures_only() -> None:
    breaker = Breaker(3, 5.0)
    for _ in range(10):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert breaker.state == "closed"
    for _ in range(3):
        breaker.failed()
    assert (breaker.state, breaker.opened) == ("open", 1)
    assert not breaker.admit()


def test_after_the_pause_it_admits_one_probe() -> None:
    clock = Clock()
    breaker = _opened(clock)
    clock.now += 4.9
    assert not breaker.admit()
    clock.now += 0.1
    assert breaker.admit()
    assert breaker.state == "half-open"
    assert not breaker.admit()


def test_a_probe_that_succeeds_closes_it() -> None:
    clock = Clock()
    breaker = _opened(clock)
    clock.now += 5
    assert breaker.admit()
    breaker.succeeded()
    assert breaker.state == "closed"
    breaker.failed()
    breaker.failed()
    assert breaker.state == "closed"


def test_a_probe_that_fails_opens_it_for_another_pause() -> None:
    clock = Clock()
    breaker = _opened(clock)
    clock.now += 5
    assert breaker.admit()
    breaker.failed()
    assert (breaker.state, breaker.opened) == ("open", 2)
    clock.now += 4.9
    assert not breaker.admit()
    clock.now += 0.1
    assert breaker.admit()


def test_a_probe_that_is_given_up_leaves_room_for_the_next() -> None:
    clock = Clock()
    breaker = _opened(clock)
    clock.now += 5
    assert breaker.admit()
    breaker.released()
    assert breaker.admit()
    assert not breaker.admit()


def test_late_failures_of_admitted_calls_do_not_prolong_the_pause() -> None:
    clock = Clock()
    breaker = _opened(clock)
    clock.now += 4
    breaker.failed()
    clock.now += 1
    assert breaker.admit()
    assert breaker.opened == 1


@given(st.lists(st.sampled_from(["call", "succeeded", "failed", "released", "wait"]), max_size=60))
def test_it_never_stays_shut(steps: list[str]) -> None:
    clock = Clock()
    breaker = Breaker(2, 5.0, clock)
    under_way = 0
    for step in steps:
        if step == "wait":
            clock.now += 3
        elif step == "call":
            under_way += breaker.admit()
        elif under_way:
            under_way -= 1
            getattr(breaker, step)()
        assert breaker.state in ("closed", "open", "half-open")
    for _ in range(under_way):
        breaker.released()
    clock.now += 5
    assert breaker.admit()
