"""Outcomes that a gateway reports, and decisions that are read back with them."""

import itertools
import logging

import httpx
import pytest

from feedback.store import Store
from feedback.writer import DecisionWriter
from gateway_plugin import ids
from scorer.decisions import Decision
from tests.conftest import Serve
from tests.feedback.conftest import Away
from tests.feedback.examples import a_decision, application, id_aged, rows
from tests.feedback.talking import PAIR, Daemon, problem


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
