"""A whole daemon that end users rate at from their browsers: from the decision to its rating."""

from __future__ import annotations

import time

import httpx

from scorer.sections import BrowserRatings
from tests.scorer.conftest import Start, route

TOKEN, PAGE, KEY = "correct-horse-battery", "https://chat.example", "k" * 32


def allowed(*keys: str) -> BrowserRatings:
    return BrowserRatings(keys=keys, origins=(PAGE,), hours=1)


def asked(client: httpx.Client) -> tuple[str, str]:
    """The id of a new decision, and the token that came with it."""
    client.headers["authorization"] = f"Bearer {TOKEN}"
    answer = route(client, user="ann")
    return str(answer["decision_id"]), str(answer["rating_token"])


def rate(client: httpx.Client, decision_id: str, token: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {token}", "origin": PAGE}
    return client.post("/v1/feedback", json={"decision_id": decision_id, "rating": "up"}, headers=headers)


def test_a_decision_brings_the_token_that_rates_it(start: Start) -> None:
    client = start(token=TOKEN, browser_ratings=allowed(KEY))
    decision_id, token = asked(client)
    assert token.startswith(f"{decision_id}.")
    assert int(token.split(".")[1]) - time.time() - 3600 < 5
    assert rate(client, decision_id, token).status_code == 201
    (rating,) = client.get(f"/v1/decisions/{decision_id}").json()["ratings"]
    assert (rating["user"], rating["value"]) == ("ann", 1.0)
    other, _ = asked(client)
    assert rate(client, other, token).status_code == 403


def test_replicas_share_keys_which_can_follow_one_another(start: Start) -> None:
    first = start(token=TOKEN, browser_ratings=allowed(KEY))
    second = start(token=TOKEN, browser_ratings=allowed("n" * 32, KEY))
    third = start(token=TOKEN, browser_ratings=allowed("n" * 32))
    decision_id, token = asked(first)
    deadline = time.monotonic() + 10
    while (status := rate(second, decision_id, token).status_code) == 503 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert status == 201
    assert rate(third, decision_id, token).status_code == 401


def test_without_the_section_there_is_no_token_and_no_page_is_answered(start: Start) -> None:
    client = start(token=TOKEN)
    client.headers["authorization"] = f"Bearer {TOKEN}"
    assert "rating_token" not in route(client)
    asks = {"origin": PAGE, "access-control-request-method": "POST"}
    answer = client.options("/v1/feedback", headers=asks)
    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers
