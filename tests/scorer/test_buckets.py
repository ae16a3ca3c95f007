"""Token buckets against the textbook's: a level that rises with time and falls with what is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer import buckets
from scorer.buckets import Buckets


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_goes_through_and_then_one_every_so_often() -> None:
    clock = Clock()
    bucket = Buckets(per_second=2, burst=3, clock=clock)
    assert [bucket.take("a") for _ in range(4)] == [0, 0, 0, pytest.approx(0.5)]
    clock.now = 0.4
    assert bucket.take("a") == pytest.approx(0.1)
    clock.now = 0.5
    assert [bucket.take("a"), bucket.take("a")] == [0, pytest.approx(0.5)]


def test_names_do_not_share_a_bucket() -> None:
    bucket = Buckets(1, 1, Clock())
    assert [bucket.take(name) > 0 for name in ("a", "b", "a", "b")] == [False, False, True, True]


def test_a_long_pause_fills_it_to_the_brim_and_no_further() -> None:
    clock = Clock()
    bucket = Buckets(10, 5, clock)
    bucket.take("a")
    clock.now = 1e6
    assert sum(bucket.take("a") == 0 for _ in range(20)) == 5


@given(
    gaps=st.lists(st.floats(0, 3), max_size=60),
    per_second=st.floats(0.1, 20),
    burst=st.integers(1, 10),
)
def test_it_agrees_with_a_level_that_is_kept(gaps: list[float], per_second: float, burst: int) -> None:
    """Second way: the level itself, in [0, burst]."""
    clock = Clock()
    bucket, level = Buckets(per_second, burst, clock), float(burst)
    for gap in gaps:
        clock.now += gap
        level = min(burst, level + gap * per_second)
        if abs(level - 1) < 1e-3:
            return  # within rounding of either answer
        wait = bucket.take("a")
        assert (wait == 0) == (level >= 1)
        assert wait == pytest.approx(max(0.0, (1 - level) / per_second), abs=1e-6)
        level -= wait == 0


def test_names_are_forgotten_once_their_bucket_is_full_or_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "_MOST", 100)
    clock = Clock()
    bucket = Buckets(1, 2, clock)
    for name in range(100):
        bucket.take(str(name))
    clock.now = 1.5
    bucket.take("new")
    assert list(bucket._full_at) == ["new"]
    for name in range(300):
        clock.now += 1e-3
        bucket.take(str(name))
        assert len(bucket._full_at) <= 100
    bucket.take("299")
    assert bucket.take("299") > 0
