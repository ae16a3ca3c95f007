"""End users rate answers of their own from their browsers, and nobody else's: tokens, and what browsers ask first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.middleware import Middleware

from feedback.records import Outcome
from feedback.store import Store
from gateway_plugin import ids
from scorer.auth import Guard
from scorer.browsers import BrowserAccess
from scorer.decisions import Decision
from scorer.sections import BrowserRatings
from scorer.tokens import Signer, Tokens
from tests.conftest import Serve
from tests.feedback.examples import a_decision, application, id_aged, rows

PAGE = "https://chat.example"
BACKEND = {"authorization": "Bearer the-token-of-a-backend"}
SIGNER = Signer(["k" * 32], 3600)


@pytest.fixture
def browser(store_url: str, serve: Serve) -> Iterator[httpx.Client]:
    """What a script on the page can send."""
    allowed = BrowserRatings(keys=("k" * 32,), origins=(PAGE,))
    guard = Guard(Tokens({"the-token-of-a-backend": ["feedback"]}), SIGNER)
    access = Middleware(BrowserAccess, allowed=allowed)
    app = application(Store(store_url), guard=guard, middleware=[access])
    with httpx.Client(base_url=serve(app), headers={"origin": PAGE}, timeout=30) as client:
        yield client


def decided(store_url: str, **changes: Any) -> str:
    """The id of a decision that is in the database."""
    return added(store_url, a_decision(**changes))


def added(store_url: str, decision: Decision, outcome: Outcome | None = None) -> str:
    async def add() -> None:
        store = Store(store_url)
        await store.add_decisions([decision] if outcome is None else [])
        await store.record_outcomes([outcome] if outcome else [])
        await store.close()

    asyncio.run(add())
    return decision.decision_id


def rate(browser: httpx.Client, token: str, decision_id: str, rating: str = "up", **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"} | more.pop("headers", {})
    return browser.post("/v1/feedback", json={"decision_id": decision_id, "rating": rating, **more}, headers=headers)


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_its_token_rates_an_answer_as_who_asked(browser: httpx.Client, store_url: str) -> None:
    decision_id = decided(store_url, user="ann")
    answer = rate(browser, SIGNER.sign(decision_id), decision_id, "down", comment="wrong")
    assert (answer.status_code, answer.json()["status"]) == (201, "stored")
    assert answer.headers["access-control-allow-origin"] == PAGE
    said = rows(store_url, 'SELECT "user", source, value, comment FROM ratings')
    assert said == [("ann", "human", 0.0, "wrong")]


def test_it_can_be_changed_and_not_multiplied(browser: httpx.Client, store_url: str) -> None:
    decision_id = decided(store_url, user="ann")
    for rating in ("up", "down", "up", "none", "down"):
        assert rate(browser, SIGNER.sign(decision_id), decision_id, rating).status_code == 201
    backend = {"decision_id": decision_id, "rating": "up", "user": "ann"}
    assert browser.post("/v1/feedback", json=backend, headers=BACKEND).status_code == 201
    assert rows(store_url, "SELECT value FROM ratings WHERE superseded_at IS NULL") == [(1.0,)]
    assert rows(store_url, "SELECT count(*) FROM ratings") == [(6,)]


def test_changes_are_limited_since_each_is_kept(browser: httpx.Client, store_url: str) -> None:
    decision_id, other = decided(store_url), decided(store_url)
    token = SIGNER.sign(decision_id)
    statuses = [rate(browser, token, decision_id).status_code for _ in range(12)]
    assert statuses == [201] * 10 + [429] * 2
    assert rate(browser, SIGNER.sign(other), other).status_code == 201
    assert rate(browser, token, decision_id).headers["access-control-expose-headers"] == "Retry-After"


def test_of_a_shared_key_each_answer_is_rated_by_somebody_unknown(browser: httpx.Client, store_url: str) -> None:
    """The gateway says a hash of the key where the request had no user: those of a whole application."""
    for user in ("a" * 64, None):
        decision_id = decided(store_url, user=user)
        assert rate(browser, SIGNER.sign(decision_id), decision_id).status_code == 201
    assert rows(store_url, 'SELECT DISTINCT "user" FROM ratings') == [("",)]


def test_a_fallback_is_rated_by_who_asked(browser: httpx.Client, store_url: str) -> None:
    decision = a_decision(decision_id=id_aged(3600))
    added(
        store_url, decision, Outcome(decision_id=decision.decision_id, status="fallback", user="bob", served="strong")
    )
    assert rate(browser, SIGNER.sign(decision.decision_id), decision.decision_id).status_code == 201
    assert rows(store_url, 'SELECT "user" FROM ratings') == [("bob",)]


def test_nothing_else_can_be_done_with_it(browser: httpx.Client, store_url: str) -> None:
    mine, other = decided(store_url, call_id="call-1"), decided(store_url, call_id="call-2")
    token = SIGNER.sign(mine)
    headers = {"authorization": f"Bearer {token}"}
    pair = {"model_a": "strong", "model_b": "cheap", "winner": "tie", "decision_id": mine}
    assert code(rate(browser, token, other)) == (403, "not_yours")
    assert code(rate(browser, token, mine, user="bob")) == (403, "not_yours")
    by_call = {"call_id": "call-1", "rating": "up"}
    assert code(browser.post("/v1/feedback", json=by_call, headers=headers)) == (403, "not_yours")
    assert code(browser.post("/v1/comparisons", json=pair, headers=headers)) == (403, "insufficient_scope")
    assert code(browser.post("/v1/outcomes", json=[], headers=headers)) == (403, "insufficient_scope")
    assert code(browser.get(f"/v1/decisions/{mine}", headers=headers)) == (403, "insufficient_scope")
    assert rows(store_url, "SELECT count(*) FROM ratings") == [(0,)]


@pytest.mark.parametrize("fault", ["expired", "tampered", "another key", "none"])
def test_a_token_that_is_not_good_is_refused(browser: httpx.Client, store_url: str, fault: str) -> None:
    decision_id = decided(store_url)
    good = SIGNER.sign(decision_id)
    token = {
        "expired": Signer(["k" * 32], -1).sign(decision_id),
        "tampered": good[:-1] + ("A" if good[-1] != "A" else "B"),
        "another key": Signer(["o" * 32], 3600).sign(decision_id),
        "none": "",
    }[fault]
    answer = rate(browser, token or "x", decision_id)
    assert code(answer) == (401, "unauthorized")
    assert answer.headers["access-control-allow-origin"] == PAGE  # or else the page's script cannot tell why
    assert rows(store_url, "SELECT count(*) FROM ratings") == [(0,)]


def test_an_answer_that_is_not_known_here_yet_is_to_be_tried_again(browser: httpx.Client) -> None:
    """Not pending: who asked must be known, or else one token could make two ratings."""
    young, old = ids.mint(), id_aged(3600)
    answer = rate(browser, SIGNER.sign(young), young)
    assert (code(answer), answer.headers["retry-after"]) == ((503, "not_yet"), "1")
    assert code(rate(browser, SIGNER.sign(old), old)) == (404, "unknown_decision")


def test_a_strangers_idempotency_key_is_in_nobodys_way(browser: httpx.Client, store_url: str) -> None:
    decision_id = decided(store_url, user="ann")
    token, key = SIGNER.sign(decision_id), {"idempotency-key": "rating-1"}
    first = rate(browser, token, decision_id, headers=key)
    assert rate(browser, token, decision_id, headers=key).json() == first.json()
    assert code(rate(browser, token, decision_id, "down", headers=key)) == (409, "key_reused")
    backend = {"decision_id": decision_id, "rating": "down", "user": "bob"}
    assert browser.post("/v1/feedback", json=backend, headers=BACKEND | key).status_code == 201


# What browsers ask first


def preflight(browser: httpx.Client, path: str = "/v1/feedback", **changes: str) -> httpx.Response:
    asked = {
        "origin": PAGE,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,idempotency-key",
    }
    changed = {name.replace("_", "-"): value for name, value in changes.items()}
    return browser.options(path, headers=asked | changed)


def test_a_preflight_says_what_the_page_may_send(browser: httpx.Client) -> None:
    answer = preflight(browser)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-methods"] == "POST"
    allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
    assert {"authorization", "content-type", "idempotency-key"} <= set(allowed)
    assert "access-control-allow-credentials" not in answer.headers
    assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": PAGE + ".evil.example"},
        {"access_control_request_method": "DELETE"},
        {"access_control_request_headers": "x-more"},
        {"path": "/v1/comparisons"},
        {"path": "/v1/outcomes"},
    ],
)
def test_a_preflight_of_anything_else_is_refused(browser: httpx.Client, changes: dict[str, str]) -> None:
    answer = preflight(browser, **changes)
    assert answer.status_code in (400, 405)
    if "origin" in changes or "path" in changes:
        assert "access-control-allow-origin" not in answer.headers


def test_another_sites_script_learns_nothing(browser: httpx.Client, store_url: str) -> None:
    decision_id = decided(store_url)
    answer = rate(browser, SIGNER.sign(decision_id), decision_id, headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
