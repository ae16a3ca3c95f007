"""What of the error rate each night may spend."""

import pytest

from feedback import rates
from feedback.records import Run

RATE = 0.05
FIRST = RATE / 2.6123753486854883


def a_run(number: int, passed_on: float | None = 0.0, attempt: int = 1, **changes: object) -> Run:
    """One that tested; passed_on None: it left no record."""
    record = None if passed_on is None else {"said": {"ratings": number}, "rate": {"passed_on": passed_on}}
    fields = {
        "run_id": str(number),
        "job": "retrain",
        "scheduled_for": float(number),
        "holder": "",
        "attempt": attempt,
        "started_at": float(number),
        "heartbeat_at": float(number),
        "finished_at": float(number),
        "status": "refused",
        "verdict": "",
        "record": record,
    }
    return Run(**{**fields, **changes})  # type: ignore[arg-type]


def test_shares_of_all_nights_sum_to_the_rate() -> None:
    """The sum of k^-1.5 from n on is about 2 / sqrt(n)."""
    spent = sum(rates.following([a_run(0, attempt=k)] if k else [], RATE).level for k in range(10_000))
    assert spent + FIRST * 2 / 100 == pytest.approx(RATE, rel=1e-3)


def test_refusals_take_their_levels_with_them() -> None:
    assert rates.following([], RATE) == pytest.approx((1, FIRST))
    third = rates.following([a_run(1), a_run(2)], RATE)
    assert third == pytest.approx((3, FIRST / 3**1.5))


def test_a_publication_passes_its_level_on_to_the_next_run_that_tests() -> None:
    assert rates.following([a_run(1, FIRST)], RATE).level == pytest.approx(FIRST + FIRST / 2**1.5)
    skipped = a_run(2, record={"said": {}}, status="skipped")
    assert rates.following([a_run(1, FIRST), skipped], RATE) == rates.following([a_run(1, FIRST)], RATE)
    assert rates.following([a_run(1, FIRST), a_run(2)], RATE).level == pytest.approx(FIRST / 3**1.5)


def test_whoever_always_publishes_never_has_more_than_the_rate() -> None:
    runs: list[Run] = []
    for number in range(200):
        level = rates.following(runs, RATE).level
        runs.append(a_run(number, passed_on=level))
    assert 0.9 * RATE < rates.following(runs, RATE).level <= RATE


def test_a_run_that_left_no_record_counts_with_all_its_attempts_and_passes_nothing_on() -> None:
    crashed = a_run(2, passed_on=None, attempt=3, status="abandoned")
    assert rates.following([a_run(1, FIRST), crashed], RATE) == pytest.approx((5, FIRST / 5**1.5))


def test_an_attempt_at_a_run_that_others_made_before_counts_those() -> None:
    assert rates.following([a_run(1, FIRST)], RATE, attempt=2) == pytest.approx((3, FIRST / 3**1.5))


def test_what_was_said_is_the_last_record_s_in_order_of_their_ends() -> None:
    early, late = a_run(1, finished_at=20.0), a_run(2, finished_at=10.0)
    assert rates.last_said([late, early]) == {"ratings": 1}
    assert rates.last_said([a_run(1, passed_on=None)]) is None
    assert rates.last_said([]) is None
