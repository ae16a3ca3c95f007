"""`GET /metrics` of a real daemon over a real socket, read by Prometheus' own parser."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from feedback.database import Unavailable
from feedback.migrations import migrate
from feedback.plugins import PluginReport, Plugins
from feedback.store import Store
from gateway_plugin import ids
from scorer.metrics import Finding, Metrics, reason
from tests.feedback.examples import a_decision
from tests.scorer.conftest import EASY, HARD, THREE, Start, route

Labels = dict[str, str]


def samples(text: str) -> Callable[..., float]:
    """The value of one series by its name and labels; 0 where there is none."""
    found = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return lambda name, **labels: found.get((f"routerd_{name}", frozenset(labels.items())), 0.0)


def scraped(client: httpx.Client) -> Callable[..., float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return samples(answer.text)


def test_known_traffic_is_counted(start: Start) -> None:
    client = start(THREE)
    routed = [
        route(client, prompt, model=name) for prompt in (EASY, HARD) for name in ("router-mf-p0", "router-mf-p100")
    ]
    route(client, HARD, model="router-random-p0")
    client.post("/v1/route", json={"prompt": 3})
    client.get("/nowhere/else")
    rated = {"decision_id": routed[0]["decision_id"], "rating": "up"}
    for body in (rated, {**rated, "rating": "none"}, {"decision_id": ids.mint(), "stars": 4}):
        assert client.post("/v1/feedback", json=body).status_code in (201, 202)
    client.post("/v1/feedback", json=rated, headers={"idempotency-key": "one"})
    client.post("/v1/feedback", json=rated, headers={"idempotency-key": "one"})
    pair = {"prompt": EASY, "model_a": "strong", "model_b": "small", "winner": "tie", "source": "a person's own words"}
    assert client.post("/v1/comparisons", json=pair).status_code == 201
    report = [{"decision_id": routed[0]["decision_id"], "status": "fallback"}]
    assert client.post("/v1/outcomes", json=report).status_code == 200
    of = scraped(client)
    kinds = {"router": "mf", "reason": "threshold", "status": "routed"}
    assert of("decisions_total", model="small", **kinds) == 2
    assert of("decisions_total", model="strong", **kinds) == 2
    assert of("decisions_total", model="small", **{**kinds, "router": "random"}) == 1
    assert of("requests_total", call="/v1/route", status="200") == 5
    assert of("requests_total", call="/v1/route", status="400") == 1
    assert of("requests_total", call="other", status="404") == 1
    assert of("request_seconds_count", call="/v1/route") == 6
    assert of("stage_seconds_count", stage="decide") == 5
    assert of("stage_seconds_count", stage="encode") == of("stage_seconds_count", stage="score") == 6  # a comparison's
    assert 0 < of("stage_seconds_sum", stage="encode") < of("stage_seconds_sum", stage="decide") + 1
    assert of("batch_requests_sum", router="mf") == 5
    assert of("ratings_total", kind="thumb", source="human", status="stored") == 2
    assert of("ratings_total", kind="retraction", source="human", status="stored") == 1
    assert of("ratings_total", kind="stars", source="human", status="pending") == 1
    assert of("ratings_total", kind="comparison", source="other", status="stored") == 1
    assert of("outcomes_total", status="fallback") == 1
    assert of("active_version_info", router="random", version="1") == 1
    assert of("queue_requests", router="mf") == 0
    deadline = time.monotonic() + 5
    while scraped(client)("decisions_written_total") < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert scraped(client)("decisions_written_total") == 5
    assert scraped(client)("decisions_unwritten") == 0


def test_labels_hold_nothing_that_callers_wrote(start: Start) -> None:
    client = start()
    words = {"session_id": "secret-session", "user": "secret-user", "call_id": "secret-call"}
    decision = route(client, "secret-prompt", **words)
    client.get("/secret-path")
    client.get(f"/v1/decisions/{decision['decision_id']}")
    report = {"instance": "secret-host:1", "breaker": "secret-state", "counters": {"secret-counter": 1.0}}
    for count in (1.0, 2.0):
        report["counters"] = {"secret-counter": count, "fallbacks": count}
        client.post("/v1/outcomes", json={"outcomes": [], "plugin": report})
    text = client.get("/metrics").text
    assert "secret" not in text
    assert str(decision["decision_id"]) not in text
    assert samples(text)("requests_total", call="/v1/decisions/{decision_id}", status="200") == 1
    assert samples(text)("plugin_events_total", event="fallbacks") == 1


def test_metrics_ask_for_no_token(start: Start) -> None:
    client = start(token="correct-horse")
    assert client.get("/v1/routers").status_code == 401
    of = scraped(client)
    assert of("requests_total", call="/v1/routers", status="401") == 1


def test_every_application_counts_for_itself(start: Start) -> None:
    first, second = start(), start()
    route(first)
    assert scraped(first)("stage_seconds_count", stage="decide") == 1
    assert scraped(second)("stage_seconds_count", stage="decide") == 0


def test_runs_and_drift_are_shown_as_they_are_on_record() -> None:
    metrics = Metrics()
    metrics.runs([("retrain", "published", 3, 1000.0), ("retrain", "running", 1, None)])
    metrics.drift([Finding("strong_share", "mf", True, 0.0001, 0.41, 0.3)], 0.0005, 86400.0)
    metrics.drift([Finding("scores", "mf", False, 0.4, 0.2, 0.2)], 0.0005, 2 * 86400.0)
    of = samples(exposed(metrics.registry))
    assert of("runs", job="retrain", status="published") == 3
    assert of("run_ended_timestamp_seconds", job="retrain", status="published") == 1000
    assert of("drift_p", check="scores", router="mf") == 0.4
    assert of("drift_alarm", check="strong_share", router="mf") == 0  # of an earlier evaluation
    assert of("drift_window_end_timestamp_seconds") == 2 * 86400


def exposed(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def test_daemon_compares_yesterday_with_its_calibration(start: Start, tmp_path: Path) -> None:
    """Its random router's win rates are uniform as shipped; yesterday's were not, and 30 % were asked for."""
    yesterday = time.time() // 86400 * 86400 - 3600
    made = [
        a_decision(
            decision_id=ids.mint(),
            created_at=yesterday - 2 * place,
            requested="router-random-p30",
            router="random",
            version="1",
            win_rates={"strong": 0.5, "weak": 0.4 + place / 250},
            unit=str(place),
        )
        for place in range(150)
    ]

    async def put() -> None:
        url = f"sqlite:///{tmp_path}/routerd.sqlite"
        migrate(url)
        store = Store(url)
        await store.add_decisions(made)
        await store.close()

    asyncio.run(put())
    client = start()
    deadline = time.monotonic() + 10
    while not (of := scraped(client))("drift_window_end_timestamp_seconds") and time.monotonic() < deadline:
        time.sleep(0.05)
    drifted = {"check": "strong_share", "router": "random"}
    assert of("drift_value", **drifted) == pytest.approx(0.5, abs=0.02)
    assert of("drift_expected", **drifted) == pytest.approx(0.3, abs=0.01)
    assert of("drift_alarm", **drifted) == 1
    assert of("drift_p", **drifted) < of("drift_level") == pytest.approx(1 / (365 * 2))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "threshold"),
        ({"policy": "quality target"}, "quality_target"),
        ({"explored": True}, "explored"),
        ({"pinned": "tool_loop", "explored": False}, "tool_loop"),
    ],
)
def test_reasons_are_told_as_kinds(changes: dict[str, object], kind: str) -> None:
    assert reason(a_decision(**changes)) == kind


def test_plugins_that_restart_go_on_counting() -> None:
    plugins = Plugins()
    for fallbacks in (7.0, 9.0, 3.0, 4.0):  # 7 before it was heard of; begun anew after 9
        plugins.report(PluginReport("host:1", counters={"fallbacks": fallbacks, "timeouts": 1.0}))
    assert plugins.counted["fallbacks"] == 2 + 3 + 1
    assert plugins.counted["timeouts"] == 0


async def test_database_that_is_away_is_counted(tmp_path: Path) -> None:
    metrics, store = Metrics(), Store(f"sqlite:///{tmp_path}/nowhere/routerd.sqlite")
    store.listener = metrics
    with pytest.raises(Unavailable):
        await store.ping()
    await store.close()
    assert samples(exposed(metrics.registry))("database_unavailable_total") == 1


def test_counting_a_decision_takes_microseconds() -> None:
    metrics, decision = Metrics(), a_decision()

    def once() -> None:
        metrics.decided(decision)
        for stage in ("encode", "score", "decide"):
            metrics.took(stage, 0.003)
        metrics.batch("mf", 1)
        metrics.answered("/v1/route", 200, 0.005)

    best = min(timed(once, 2000) for _ in range(5))
    assert best < 100e-6


def timed(work: Callable[[], None], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


def test_counts_from_many_threads_add_up() -> None:
    """Stages are told from the scoring thread."""
    metrics = Metrics()

    async def count() -> None:
        await asyncio.gather(*(asyncio.to_thread(metrics.took, "encode", 0.001) for _ in range(200)))

    asyncio.run(count())
    assert samples(exposed(metrics.registry))("stage_seconds_count", stage="encode") == 200
