from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedback.plugins import Plugins
from feedback.store import Store
from feedback.writer import DecisionWriter
from gateway_plugin import ids
from scorer.decisions import Decision, KeptPrompt, kept
from tests.conftest import Serve
from tests.feedback.conftest import Away
from tests.feedback.examples import a_decision, application, id_aged, rows


class Daemon:
    """A client of the feedback endpoints, and what stands behind them."""

    def __init__(self, url: str, store: Store, plugins: Plugins, client: httpx.Client) -> None:
        self.url, self.store, self.plugins, self.client = url, store, plugins, client

    def post(self, path: str, body: object, **headers: str) -> httpx.Response:
        return self.client.post(path, json=body, headers={name.replace("_", "-"): headers[name] for name in headers})

    def rate(self, decision_id: str, rating: str = "up", **more: Any) -> httpx.Response:
        return self.post("/v1/feedback", {"decision_id": decision_id, "rating": rating, **more})

    def read(self, decision_id: str) -> dict[str, Any]:
        answer = self.client.get(f"/v1/decisions/{decision_id}")
        assert answer.status_code == 200, answer.text
        whole: dict[str, Any] = answer.json()
        return whole


@pytest.fixture
def daemon(store_url: str, serve: Serve) -> Iterator[Daemon]:
    store, plugins = Store(store_url), Plugins()
    url = serve(application(store, plugins=plugins))
    with httpx.Client(base_url=url, timeout=30) as client:
        yield Daemon(url, store, plugins, client)


@pytest.fixture
def decision(store_url: str) -> Decision:
    """One that is in the database."""
    made = a_decision()

    async def add() -> None:
        store = Store(store_url)
        await store.add_decisions([made])
        await store.close()

    asyncio.run(add())
    return made


def problem(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Status, code and field of an error, whose message is one line that names the field."""
    error = answer.json()["error"]
    field = error.get("field")
    assert "\n" not in error["message"]
    assert error["message"].startswith(field or "")
    return answer.status_code, error["code"], field


# Feedback


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


# Comparisons


PAIR = {"model_a": "strong", "model_b": "cheap", "winner": "model_b"}


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


# Idempotency


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


ID = "01900000-0000-7000-8000-000000000000"


BAD_FEEDBACK: list[tuple[object, str | None]] = [
    ({"rating": "up"}, "decision_id"),
    ({"decision_id": 1, "rating": "up"}, "decision_id"),
    ({"decision_id": "", "rating": "up"}, "decision_id"),
    ({"decision_id": ID.replace("-", ""), "rating": "up"}, "decision_id"),
    ({"decision_id": ID + "\n", "rating": "up"}, "decision_id"),
    ({"decision_id": ID[:-1] + "\0", "rating": "up"}, "decision_id"),
    ({"decision_id": "6b9f5c1e-3f1d-4c6a-9c39-1d0a3d9f2b11", "rating": "up"}, "decision_id"),
    ({"decision_id": ID}, "rating"),
    ({"decision_id": ID, "rating": "Up"}, "rating"),
    ({"decision_id": ID, "rating": True}, "rating"),
    ({"decision_id": ID, "rating": "up", "stars": 3}, "stars"),
    ({"decision_id": ID, "stars": 0}, "stars"),
    ({"decision_id": ID, "stars": 6}, "stars"),
    ({"decision_id": ID, "stars": 2.5}, "stars"),
    ({"decision_id": ID, "call_id": "call-1", "rating": "up"}, "call_id"),
    ({"call_id": "", "rating": "up"}, "call_id"),
    ({"decision_id": ID, "rating": "up", "tags": ["t" * 65]}, "tags[0]"),
    ({"decision_id": ID, "rating": "up", "tags": ["t"] * 21}, "tags"),
    ({"decision_id": ID, "rating": "up", "comment": "c" * 4001}, "comment"),
    ({"decision_id": ID, "rating": "up", "user": "u" * 257}, "user"),
    ({"decision_id": ID, "rating": "up", "thumb": 1}, "thumb"),
    ([], None),
]


def test_a_bad_feedback_body_names_the_field(daemon: Daemon) -> None:
    for body, field in BAD_FEEDBACK:
        assert problem(daemon.post("/v1/feedback", body)) == (400, "bad_request", field), body


def test_what_is_not_json_is_400(daemon: Daemon) -> None:
    for body in (b"", b"{", b"\xff", b'{"comment": "\\ud800"}', b"[" * 60_000):
        for path in ("/v1/feedback", "/v1/comparisons", "/v1/outcomes"):
            assert problem(daemon.client.post(path, content=body))[0] == 400, body


def test_bodies_have_a_limit(daemon: Daemon) -> None:
    assert problem(daemon.client.post("/v1/feedback", content=b" " * 70_000)) == (413, "too_large", None)
    assert problem(daemon.client.post("/v1/outcomes", content=b" " * 5_000_000)) == (413, "too_large", None)


def test_any_text_can_be_a_comment(daemon: Daemon, decision: Decision) -> None:
    comment = "\0 \U0001f642 \u202e ' ; DROP TABLE ratings; --" + "\U0001f642" * 3900
    assert daemon.rate(decision.decision_id, comment=comment, user="a\0b").status_code == 201
    (rating,) = daemon.read(decision.decision_id)["ratings"]
    assert (rating["comment"], rating["user"]) == (comment.replace("\0", "\ufffd"), "a\ufffdb")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
IDS = st.builds(id_aged, st.floats(-1e6, 1e6)) | st.uuids().map(str) | st.text(max_size=40)
FEEDBACK = st.fixed_dictionaries(
    {"decision_id": IDS | JSON_VALUES, "rating": st.sampled_from(["up", "down", "none"]) | JSON_VALUES},
    optional={
        "comment": st.text() | JSON_VALUES,
        "user": st.text() | JSON_VALUES,
        "call_id": st.text() | JSON_VALUES,
        "stars": st.integers() | JSON_VALUES,
        "tags": st.lists(st.text()) | JSON_VALUES,
        "more": JSON_VALUES,
    },
)
CALL = st.fixed_dictionaries({"call_id": st.text(), "stars": st.integers(0, 6)})
COMPARISON = st.fixed_dictionaries(
    {"model_a": st.text(max_size=3), "model_b": st.text(max_size=3), "winner": st.sampled_from(["model_a", "tie"])},
    optional={"decision_id": IDS, "prompt": st.text(), "user": st.text() | JSON_VALUES, "source": st.text()},
)
LIKELY = st.fixed_dictionaries(
    {"decision_id": st.builds(id_aged, st.floats(0, 500)), "rating": st.sampled_from(["up", "down", "none"])},
    optional={"comment": st.text(), "user": st.text()},
)
OUTCOME = st.fixed_dictionaries(
    {
        "decision_id": st.builds(id_aged, st.floats(-1e6, 1e6)),
        "status": st.sampled_from(["success", "failure", "fallback", "rejected"]),
    },
    optional={
        "served": st.text(),
        "error": st.text() | st.none(),
        "tokens_in": st.integers(0, 2**53),
        "cost": st.floats(0, allow_infinity=False, allow_nan=False),
        "stream": st.booleans() | st.none(),
        "more": JSON_VALUES,
    },
)
OUTCOMES = st.lists(OUTCOME | JSON_VALUES, max_size=4)
REPORT = OUTCOMES | st.fixed_dictionaries({}, optional={"outcomes": OUTCOMES | JSON_VALUES, "plugin": JSON_VALUES})


def test_no_body_is_ever_answered_with_a_server_error(daemon: Daemon) -> None:
    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        path=st.sampled_from(["/v1/feedback", "/v1/comparisons", "/v1/outcomes"]),
        body=(FEEDBACK | CALL | COMPARISON | LIKELY | REPORT | JSON_VALUES).map(lambda body: json.dumps(body).encode())
        | st.binary(max_size=50),
        key=st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=5),
    )
    def answered(path: str, body: bytes, key: str | None) -> None:
        headers = {} if key is None else {"idempotency-key": key}
        answer = daemon.client.post(path, content=body, headers=headers)
        assert answer.status_code in (200, 201, 202, 400, 404, 409)
        if answer.status_code >= 400:
            problem(answer)

    answered()


def test_likely_bodies_are_accepted(daemon: Daemon) -> None:
    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
    @given(body=LIKELY)
    def accepted(body: dict[str, Any]) -> None:
        assert daemon.post("/v1/feedback", body).status_code == 202

    accepted()


# Outcomes


def test_outcomes_come_as_a_list_or_in_a_report(daemon: Daemon, decision: Decision) -> None:
    outcome = {"decision_id": decision.decision_id, "status": "failure", "error": "500", "from_a_newer_plugin": 1}
    assert daemon.post("/v1/outcomes", [outcome]).json() == {"recorded": 1}
    success = {"decision_id": decision.decision_id, "status": "success", "served": "strong", "tokens_in": 3}
    report = {"outcomes": [success, {**success, "decision_id": ids.mint()}], "more": {}}
    assert daemon.post("/v1/outcomes", report).json() == {"recorded": 2}
    outcome = daemon.read(decision.decision_id)["outcome"]
    assert (outcome["status"], outcome["served"], outcome["error"]) == ("success", "strong", "500")
    assert daemon.post("/v1/outcomes", []).json() == daemon.post("/v1/outcomes", {}).json() == {"recorded": 0}


BAD_OUTCOMES: list[tuple[dict[str, object], str]] = [
    ({"decision_id": "x"}, "decision_id"),
    ({"status": "fine"}, "status"),
    ({"tokens_in": -1}, "tokens_in"),
    ({"tokens_out": 2**63}, "tokens_out"),
    ({"cost": "1"}, "cost"),
    ({"served": 1}, "served"),
]


def test_a_bad_outcome_names_the_field_and_nothing_is_recorded(daemon: Daemon, store_url: str) -> None:
    good = {"decision_id": ids.mint(), "status": "success"}
    for change, field in BAD_OUTCOMES:
        outcomes = [good, {**good, **change}]
        assert problem(daemon.post("/v1/outcomes", outcomes)) == (400, "bad_request", f"[1].{field}")
        report = {"outcomes": outcomes}
        assert problem(daemon.post("/v1/outcomes", report)) == (400, "bad_request", f"outcomes[1].{field}")
    assert rows(store_url, "SELECT count(*) FROM outcomes") == [(0,)]


def test_the_plugins_breaker_is_logged_when_it_changes(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "feedback.plugins"):
        for breaker in ("closed", "open", "open", "closed"):
            plugin = {"instance": "proxy-1", "breaker": breaker, "counters": {"fallbacks": 2}, "protocol": 1}
            assert daemon.post("/v1/outcomes", {"plugin": plugin}).status_code == 200
    assert [record.getMessage() for record in caplog.records] == [
        "plugin 'proxy-1': circuit breaker 'open', was 'closed'",
        "plugin 'proxy-1': circuit breaker 'closed', was 'open'",
    ]
    (report,) = daemon.plugins.newest
    assert (report.instance, report.breaker, report.counters) == ("proxy-1", "closed", {"fallbacks": 2.0})


# Decisions


def test_the_whole_decision_is_flat_and_without_the_embedding(daemon: Daemon, decision: Decision) -> None:
    whole = daemon.read(decision.decision_id)
    assert (whole.pop("status"), whole.pop("outcome"), whole.pop("ratings")) == ("routed", None, [])
    assert whole.pop("explanation")["otherwise"] == ["threshold up to 0.2: strong"]
    expected = {name: getattr(decision, name) for name in Decision.__struct_fields__}
    del expected["embedding"], expected["features"]
    assert whole == expected


def test_a_decision_that_is_not_written_yet_can_be_read_and_rated(store_url: str, serve: Serve, away: Away) -> None:
    store = Store(store_url)
    writer = DecisionWriter(store)
    queued = a_decision(decision_id=id_aged(3600))
    writer._queue[queued.decision_id] = queued  # as put() leaves it before its task has run
    with httpx.Client(base_url=serve(application(store, writer))) as client:
        body = {"decision_id": queued.decision_id, "rating": "up"}
        assert client.post("/v1/feedback", json=body).status_code == 201
        assert client.post("/v1/feedback", json={"call_id": queued.call_id, "stars": 5}).status_code == 201
        whole = client.get(f"/v1/decisions/{queued.decision_id}").json()
        assert (whole["model"], [rating["value"] for rating in whole["ratings"]]) == ("cheap", [1.0])
        writer._queue.clear()


def test_an_unknown_decision_is_404_and_a_bad_id_400(daemon: Daemon) -> None:
    assert problem(daemon.client.get(f"/v1/decisions/{ids.mint()}")) == (404, "unknown_decision", None)
    assert problem(daemon.client.get("/v1/decisions/x%00y")) == (400, "bad_request", "decision_id")
    daemon.rate(pending := ids.mint())
    assert problem(daemon.client.get(f"/v1/decisions/{pending}")) == (404, "unknown_decision", None)


def test_a_database_that_is_away_is_503_with_retry_after(daemon: Daemon, away: Away) -> None:
    decision_id = ids.mint()
    with away():
        for answer in (
            daemon.rate(decision_id),
            daemon.post("/v1/comparisons", {**PAIR, "prompt": "why?"}),
            daemon.post("/v1/outcomes", [{"decision_id": decision_id, "status": "success"}]),
        ):
            assert problem(answer) == (503, "unavailable", None)
            assert answer.headers["retry-after"] == "1"
    assert daemon.rate(decision_id).status_code == 202


def test_the_wrong_method_is_405(daemon: Daemon) -> None:
    calls = itertools.product(["GET", "PUT", "DELETE"], ["/v1/feedback", "/v1/comparisons", "/v1/outcomes"])
    assert {daemon.client.request(method, path).status_code for method, path in calls} == {405}
