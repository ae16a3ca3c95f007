"""Sessions and form tokens: what is accepted, for how long, and what cannot be made from what."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.dashboard.visits import HOURS, Visits

TOKEN = "a long enough token"


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_tokens_can_follow_one_another_and_end_their_own_sessions() -> None:
    both = Visits([TOKEN, "another long token"])
    mine, other = both.issue(TOKEN), both.issue("another long token")
    later = Visits(["another long token", "a third one"])
    assert not later.valid(mine)
    assert not later.form_token(mine)
    assert later.valid(other)
    assert later.sent_by_form(other, both.form_token(other))
    assert not both.sent_by_form(other, both.form_token(mine))


def test_where_no_token_is_an_admins_nobody_gets_in() -> None:
    shut = Visits([])
    assert not shut.open
    assert not shut.admits("")
    assert not shut.valid(Visits([TOKEN]).issue(TOKEN))
    assert not shut.sent_by_form("", "")


def test_session_holds_for_twelve_hours_and_no_longer() -> None:
    clock = Clock()
    visits = Visits([TOKEN], clock)
    session = visits.issue(TOKEN)
    clock.now += HOURS * 3600 - 1
    assert visits.valid(session)
    clock.now += 1
    assert not visits.valid(session)


def test_session_from_the_future_does_not_hold() -> None:
    clock = Clock()
    visits = Visits([TOKEN], clock)
    session = visits.issue(TOKEN)
    clock.now -= 10
    assert not visits.valid(session)


def test_any_replica_knows_the_session_and_another_token_ends_it() -> None:
    session = Visits([TOKEN]).issue(TOKEN)
    assert Visits([TOKEN]).valid(session)
    assert not Visits(["another long token"]).valid(session)
    assert not Visits(None).valid(session)


def test_signature_is_hmac_by_a_key_of_the_tokens() -> None:
    said, _, signature = Visits([TOKEN]).issue(TOKEN).rpartition(".")
    key = hmac.digest(TOKEN.encode(), b"routerd dashboard", hashlib.sha256)
    assert signature == hmac.new(key, f"session {said}".encode(), hashlib.sha256).hexdigest()


@given(st.text())
def test_nothing_else_is_a_session(text: str) -> None:
    visits = Visits([TOKEN])
    assert not visits.valid(text)
    assert not visits.valid(visits.issue(TOKEN) + text) or not text


@given(st.text())
def test_only_the_token_is_admitted(text: str) -> None:
    try:
        admitted = Visits([TOKEN]).admits(text)
    except UnicodeEncodeError:
        pytest.fail("a lone surrogate is a wrong token, no fault")
    assert admitted == (text == TOKEN)


def test_without_a_token_nobody_logs_in() -> None:
    assert not Visits(None).admits("")
    assert Visits(None).open
    assert not Visits([TOKEN]).open


def test_form_token_is_one_sessions_and_no_session() -> None:
    visits = Visits([TOKEN])
    mine, other = visits.issue(TOKEN), visits.issue(TOKEN)
    assert visits.sent_by_form(mine, visits.form_token(mine))
    assert not visits.sent_by_form(other, visits.form_token(mine))
    assert not visits.valid(visits.form_token(mine))
