"""Tokens and their scopes; rating tokens: what is signed, for how long, and what is not taken for one."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_plugin import ids
from scorer.tokens import Caller, Signer, Tokens

KEY, OTHER = "k" * 32, "o" * 32


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_token_has_the_scopes_that_it_was_granted() -> None:
    known = Tokens({"first": ["route"], "second": ["route", "admin"]})
    name = hashlib.sha256(b"first").hexdigest()[:16]
    assert known.holder(b"first") == Caller(name, frozenset(["route"]))
    found = known.holder(b"second")
    assert found is not None
    assert found.scopes == {"route", "admin"}


@given(st.binary())
def test_nothing_else_is_a_token(given_token: bytes) -> None:
    assert (Tokens({"first": ["route"]}).holder(given_token) is None) == (given_token != b"first")


def test_all_digests_are_compared_wherever_the_token_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """In constant time each, so that the time says neither which token was near nor how near."""
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def noted(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return compare(one, other)

    known = Tokens({name: ["route"] for name in ("first", "second", "third")})
    monkeypatch.setattr(hmac, "compare_digest", noted)
    for token in (b"first", b"third", b"none"):
        compared.clear()
        known.holder(token)
        assert [len(one) for one, _ in compared] == [32, 32, 32]
        assert {other for _, other in compared} == {hashlib.sha256(token).digest()}


def test_a_rating_token_is_hmac_of_the_decision_and_its_end() -> None:
    decision_id = ids.mint()
    token = Signer([KEY], 3600, Clock()).sign(decision_id)
    digest = hmac.new(KEY.encode(), f"rating {decision_id}.1003600".encode(), hashlib.sha256).digest()
    assert token == f"{decision_id}.1003600.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
    assert len(token) < 200  # of an x-routerd-* header


def test_it_is_good_for_its_decision_until_it_ends() -> None:
    clock, decision_id = Clock(), ids.mint()
    signer = Signer([KEY], 3600, clock)
    token = signer.sign(decision_id).encode()
    clock.now += 3599
    assert signer.holder(token) == Caller(decision_id, frozenset(["rating"]), decision_id)
    clock.now += 1
    assert signer.holder(token) is None


def test_any_replica_knows_it_and_keys_can_follow_one_another() -> None:
    token = Signer([KEY], 3600).sign(ids.mint()).encode()
    assert Signer([KEY], 60).holder(token)
    assert Signer([OTHER, KEY], 3600).holder(token)
    assert Signer([OTHER], 3600).holder(token) is None


def test_of_another_decision_or_a_later_end_it_is_none() -> None:
    signer, mine, other = Signer([KEY], 3600), ids.mint(), ids.mint()
    _, ends, signature = signer.sign(mine).split(".")
    assert signer.holder(f"{mine}.{ends}.{signature}".encode())
    assert signer.holder(f"{other}.{ends}.{signature}".encode()) is None
    assert signer.holder(f"{mine}.{int(ends) + 1}.{signature}".encode()) is None
    assert signer.holder(f"{mine}.{ends}.".encode()) is None


@given(st.data())
def test_no_changed_byte_is_overlooked(data: st.DataObject) -> None:
    signer = Signer([KEY], 3600, Clock())
    token = signer.sign("0190").encode()
    place = data.draw(st.integers(0, len(token) - 1))
    changed = bytes([data.draw(st.integers(0, 255).filter(lambda byte: byte != token[place]))])
    assert signer.holder(token[:place] + changed + token[place + 1 :]) is None


@given(st.binary())
def test_no_bytes_are_a_fault(token: bytes) -> None:
    assert Signer([KEY], 3600).holder(token) is None
