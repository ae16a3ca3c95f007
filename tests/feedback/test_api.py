"""Ratings and comparisons over a real socket: stored, pending, refused, and each answered once."""

import hashlib

import httpx
import pytest

from feedback.store import Store
from gateway_plugin import ids
from scorer.decisions import Decision, KeptPrompt, kept
from tests.conftest import Serve
from tests.feedback.examples import application, id_aged, rows
from tests.feedback.talking import PAIR, Daemon, problem


def test_a_rating_of_a_known_decision_is_stored(daemon: Daemon, decision: Decision) -> None:
    answer = daemon.rate(decision.decision_id, "down", comment="wrong", user="ann")
    assert answer.status_code == 201
    assert answer.json()["status"] == "stored"
    (rating,) = daemon.read(decision.decision_id)["ratings"]
    assert rating.pop("created_at") > 0
    assert rating == {
        "feedback_id": answer.json()["feedback_id"],
        "decision_id": decision.decision_id,
        "user": "ann",
        "source": "human",
        "kind": "thumb",
        "value": 0.0,
        "comment": "wrong",
        "tags": [],
    }


def test_thumbs_are_one_zero_and_null(daemon: Daemon, decision: Decision) -> None:
    for rating, value in (("up", 1.0), ("down", 0.0), ("none", None)):
        assert daemon.rate(decision.decision_id, rating).status_code == 201
        assert [one["value"] for one in daemon.read(decision.decision_id)["ratings"]] == [value]


def test_a_rating_of_an_id_that_nobody_knows_yet_is_pending(daemon: Daemon) -> None:
    answer = daemon.rate(ids.mint())
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")


def test_a_rating_of_an_old_id_that_nobody_knows_is_404(daemon: Daemon) -> None:
    assert problem(daemon.rate(id_aged(601))) == (404, "unknown_decision", "decision_id")


def test_a_fallback_can_be_read_and_rated(daemon: Daemon) -> None:
    decision_id = id_aged(3600)
    outcome = {"decision_id": decision_id, "status": "fallback", "served": "strong", "reason": "timeout"}
    outcome |= {"requested": "router-mf-p30", "session_id": "s", "user": "ann"}
    assert daemon.post("/v1/outcomes", [outcome]).json() == {"recorded": 1}
    assert daemon.rate(decision_id).status_code == 201
    whole = daemon.read(decision_id)
    assert (whole["status"], whole["model"], whole["win_rates"]) == ("fallback", None, None)
    assert whole["created_at"] == ids.minted_at(decision_id)
    assert (whole["requested"], whole["session_id"], whole["user"]) == ("router-mf-p30", "s", "ann")
    assert (whole["outcome"]["served"], whole["reason"]) == ("strong", "timeout")
    assert [rating["value"] for rating in whole["ratings"]] == [1.0]


def test_stars_are_quarters_and_tags_stay_with_them(daemon: Daemon, decision: Decision) -> None:
    for stars, value in ((1, 0.0), (2, 0.25), (3, 0.5), (4, 0.75), (5, 1.0)):
        body = {"decision_id": decision.decision_id, "stars": stars, "tags": ["slow", "terse"]}
        assert daemon.post("/v1/feedback", body).status_code == 201
        (rating,) = daemon.read(decision.decision_id)["ratings"]
        assert (rating["kind"], rating["value"], rating["tags"]) == ("stars", value, ["slow", "terse"])
    daemon.rate(decision.decision_id, "up")
    assert [(one["kind"], one["value"]) for one in daemon.read(decision.decision_id)["ratings"]] == [("thumb", 1.0)]


def test_a_call_can_be_rated_where_its_id_is_unique(daemon: Daemon, decision: Decision) -> None:
    def rate(call_id: str) -> httpx.Response:
        return daemon.post("/v1/feedback", {"call_id": call_id, "rating": "down"})

    assert decision.call_id is not None
    assert rate(decision.call_id).status_code == 201
    assert [one["value"] for one in daemon.read(decision.decision_id)["ratings"]] == [0.0]
    assert problem(rate("another")) == (404, "unknown_call", "call_id")
    outcome = {"decision_id": ids.mint(), "status": "fallback", "call_id": decision.call_id}
    daemon.post("/v1/outcomes", [outcome])
    assert problem(rate(decision.call_id)) == (409, "ambiguous_call", "call_id")


def test_a_comparison_of_a_decision_is_stored_and_of_an_unknown_one_pending(
    daemon: Daemon, decision: Decision, store_url: str
) -> None:
    def compare(decision_id: str) -> httpx.Response:
        return daemon.post("/v1/comparisons", {**PAIR, "decision_id": decision_id, "user": "ann"})

    stored, pending = compare(decision.decision_id), compare(ids.mint())
    assert (stored.status_code, stored.json()["status"]) == (201, "stored")
    assert (pending.status_code, pending.json()["status"]) == (202, "pending")
    assert problem(compare(id_aged(601))) == (404, "unknown_decision", "decision_id")
    kept = rows(store_url, 'SELECT comparison_id, decision_id, winner, source, "user", text_hash FROM comparisons')
    assert kept[0] == (stored.json()["comparison_id"], decision.decision_id, "model_b", "human", "ann", None)
    assert len(kept) == 2


@pytest.mark.parametrize(
    ("setting", "text", "vectors"),
    [
        ("text", "why?", (b"embedding", b"features")),
        ("embedding", None, (b"embedding", b"features")),
        ("hash", None, (None, None)),
    ],
)
def test_of_a_comparisons_prompt_is_kept_what_the_setting_says(
    store_url: str, serve: Serve, setting: str, text: str | None, vectors: tuple[bytes | None, bytes | None]
) -> None:
    async def keep(prompt: str) -> KeptPrompt:
        return kept(setting, prompt, "f" * 64, b"embedding", b"features")

    with httpx.Client(base_url=serve(application(Store(store_url), keep=keep))) as client:
        assert client.post("/v1/comparisons", json={**PAIR, "prompt": "why?"}).status_code == 201
    found = rows(store_url, "SELECT text_hash, text, embedding, features, decision_id FROM comparisons")
    assert found == [(hashlib.sha256(b"why?").hexdigest(), text, *vectors, None)]


def test_a_comparison_with_the_same_key_is_stored_once(daemon: Daemon, store_url: str) -> None:
    body = {**PAIR, "prompt": "why?", "source": "survey"}
    first = daemon.post("/v1/comparisons", body, idempotency_key="k")
    again = daemon.post("/v1/comparisons", body, idempotency_key="k")
    assert (again.status_code, again.content) == (first.status_code, first.content) == (201, first.content)
    other = daemon.post("/v1/comparisons", {**body, "winner": "tie"}, idempotency_key="k")
    assert problem(other) == (409, "key_reused", "Idempotency-Key")
    feedback = daemon.post("/v1/feedback", {"decision_id": ids.mint(), "rating": "up"}, idempotency_key="k")
    assert problem(feedback) == (409, "key_reused", "Idempotency-Key")
    assert rows(store_url, "SELECT winner, source FROM comparisons") == [("model_b", "survey")]


BAD_COMPARISONS: list[tuple[dict[str, object], str]] = [
    ({}, "decision_id"),
    ({"prompt": "why?", "decision_id": "01900000-0000-7000-8000-000000000000"}, "prompt"),
    ({"decision_id": "x"}, "decision_id"),
    ({"prompt": " \n"}, "prompt"),
    ({"prompt": "why?", "winner": "strong"}, "winner"),
    ({"prompt": "why?", "model_b": "strong"}, "model_b"),
    ({"prompt": "why?", "model_a": ""}, "model_a"),
    ({"prompt": "why?", "source": ""}, "source"),
    ({"prompt": "why?", "weight": 2}, "weight"),
]


def test_a_bad_comparison_names_the_field(daemon: Daemon, store_url: str) -> None:
    for change, field in BAD_COMPARISONS:
        assert problem(daemon.post("/v1/comparisons", {**PAIR, **change})) == (400, "bad_request", field), change
    assert rows(store_url, "SELECT count(*) FROM comparisons") == [(0,)]


def test_the_same_key_and_body_get_the_same_answer(daemon: Daemon, store_url: str) -> None:
    body = {"decision_id": ids.mint(), "rating": "up"}
    first = daemon.post("/v1/feedback", body, idempotency_key="k 1")
    again = daemon.post("/v1/feedback", {**body, "comment": None}, idempotency_key="k 1")
    assert (again.status_code, again.content) == (first.status_code, first.content) == (202, first.content)
    other = daemon.post("/v1/feedback", {**body, "rating": "down"}, idempotency_key="k 1")
    assert problem(other) == (409, "key_reused", "Idempotency-Key")
    assert rows(store_url, "SELECT value FROM ratings") == [(1.0,)]


def test_a_bad_key_is_refused(daemon: Daemon) -> None:
    for key in (b"", b"k" * 256, b"caf\xe9"):
        request = daemon.client.build_request("POST", "/v1/feedback", json={"decision_id": ids.mint(), "rating": "up"})
        request.headers = httpx.Headers([*request.headers.raw, (b"idempotency-key", key)])
        assert problem(daemon.client.send(request)) == (400, "bad_request", "Idempotency-Key"), key
