"""What the daemon counts and times, in Prometheus' words: every metric is declared here, once.

Labels take few values: models of the ladder, routers that are hosted, kinds; never an id or anybody's words
(docs/operating.md).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scorer.decisions import Decision
from scorer.web import Endpoint

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_SOURCES = ("human", "judge")
_BREAKERS = ("closed", "open", "half-open")


class State(NamedTuple):
    """What is read when somebody asks. waiting: requests by router; versions: by router; breakers: plugins by the state
    of their circuit breaker; events: how often what plugins count has happened, a few names."""

    waiting: Mapping[str, int]
    unwritten: int
    written: int
    dropped: int
    versions: Mapping[str, str]
    breakers: Iterable[str]
    events: Mapping[str, float]


class Finding(NamedTuple):
    """What one check of drift found."""

    check: str
    router: str
    alarm: bool
    p: float
    value: float
    expected: float


class Metrics:
    """One application's, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        to, labels = self.registry, ["check", "router"]
        kinds = ["model", "router", "reason", "status"]
        self._decisions = Counter("routerd_decisions", "Routing decisions.", kinds, registry=to)
        stages = Histogram("routerd_stage_seconds", "Parts of a decision.", ["stage"], buckets=_SECONDS, registry=to)
        self._stages = {stage: stages.labels(stage) for stage in ("encode", "score", "decide")}
        self._requests = Histogram(
            "routerd_request_seconds", "Whole requests.", ["call"], buckets=_SECONDS, registry=to
        )
        self._answers = Counter("routerd_requests", "Requests answered.", ["call", "status"], registry=to)
        self._batch = Histogram(
            "routerd_batch_requests", "Requests scored together.", ["router"], buckets=_SIZES, registry=to
        )
        self._ratings = Counter(
            "routerd_ratings", "Ratings and comparisons taken.", ["kind", "source", "status"], registry=to
        )
        self._outcomes = Counter("routerd_outcomes", "Outcomes that plugins have reported.", ["status"], registry=to)
        self._away = Counter("routerd_database_unavailable", "Times that the database did not answer.", registry=to)
        self._runs = Gauge("routerd_runs", "Runs of scheduled jobs on record.", ["job", "status"], registry=to)
        self._ended = Gauge(
            "routerd_run_ended_timestamp_seconds", "When the last run ended so.", ["job", "status"], registry=to
        )
        self._alarm = Gauge("routerd_drift_alarm", "1: it has drifted.", labels, registry=to)
        self._p = Gauge("routerd_drift_p", "How likely such a difference is without drift.", labels, registry=to)
        self._value = Gauge("routerd_drift_value", "What was seen.", labels, registry=to)
        self._expected = Gauge("routerd_drift_expected", "What was to be expected.", labels, registry=to)
        self._level = Gauge("routerd_drift_level", "The p below which a check alarms.", registry=to)
        self._evaluated = Gauge(
            "routerd_drift_window_end_timestamp_seconds", "Up to when traffic was compared.", registry=to
        )
        self._build = Info("routerd_build", "What runs here.", registry=to)

    def built(self, protocol: int, encoder: str) -> None:
        """Says what runs here."""
        self._build.info({"version": version("routerd"), "protocol": str(protocol), "encoder": encoder})

    def follow(self, state: Callable[[], State]) -> None:
        """Asks for the state whenever somebody asks for the metrics."""
        self.registry.register(_Pulled(state))

    # Told as it happens

    def decided(self, decision: Decision) -> None:
        """A decision was made."""
        status = "observed" if decision.mode == "observe" else "routed"
        self._decisions.labels(decision.model, decision.router, reason(decision), status).inc()

    def took(self, stage: str, seconds: float) -> None:
        """A part of a decision took so long."""
        self._stages[stage].observe(seconds)

    def batch(self, router: str, requests: int) -> None:
        """So many requests were scored together."""
        self._batch.labels(router).observe(requests)

    def answered(self, call: str, status: int, seconds: float) -> None:
        """A request to an endpoint got its answer."""
        self._requests.labels(call).observe(seconds)
        self._answers.labels(call, str(status)).inc()

    def rated(self, kind: str, source: str, status: str) -> None:
        """A rating or comparison was taken; sources are anybody's words, so that only ours are told apart."""
        self._ratings.labels(kind, source if source in _SOURCES else "other", status).inc()

    def reported(self, status: str) -> None:
        """An outcome was taken."""
        self._outcomes.labels(status).inc()

    def unavailable(self) -> None:
        """The database did not answer."""
        self._away.inc()

    # Told from time to time

    def runs(self, summary: Iterable[tuple[str, str, int, float | None]]) -> None:
        """Of each job and status, how many runs are on record, and when the last of them ended (Unix seconds)."""
        for gauge in (self._runs, self._ended):
            gauge.clear()
        for job, status, count, ended in summary:
            self._runs.labels(job, status).set(count)
            if ended is not None:
                self._ended.labels(job, status).set(ended)

    def drift(self, findings: Iterable[Finding], level: float, before: float) -> None:
        """What the last evaluation found, of traffic before a time (Unix seconds)."""
        for gauge in (self._alarm, self._p, self._value, self._expected):
            gauge.clear()
        for one in findings:
            self._alarm.labels(one.check, one.router).set(one.alarm)
            self._p.labels(one.check, one.router).set(one.p)
            self._value.labels(one.check, one.router).set(one.value)
            self._expected.labels(one.check, one.router).set(one.expected)
        self._level.set(level)
        self._evaluated.set(before)

    async def show(self, request: Request) -> Response:
        """`GET /metrics`."""
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self.registry), headers={"content-type": kind})


def reason(decision: Decision) -> str:
    """Why the model was chosen, as a kind: what left no choice (guard, rule, session, tool_loop), explored, or what
    chose (threshold, budget, lambda, ...)."""
    if decision.pinned:
        return decision.pinned
    return "explored" if decision.explored else (decision.policy or "threshold").replace(" ", "_")


class Measured:
    """ASGI middleware: times requests and counts their answers, by endpoint; what reaches none is `other`."""

    def __init__(self, app: ASGIApp, metrics: Metrics, endpoints: Iterable[Endpoint]) -> None:
        self._app = app
        self._metrics = metrics
        self._paths: dict[Callable[[Request], Awaitable[Response]], str] = {one.handler: one.path for one in endpoints}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            call = self._paths.get(scope.get("endpoint"), "other")  # type: ignore[arg-type]
            self._metrics.answered(call, status, time.perf_counter() - began)


class _Pulled(Collector):
    """The state, as metrics."""

    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        state = self._state()
        yield _by("queue_requests", "Requests that wait to be scored.", "router", state.waiting)
        yield GaugeMetricFamily("routerd_decisions_unwritten", "Decisions not yet written.", state.unwritten)
        yield CounterMetricFamily("routerd_decisions_written", "Decisions written.", state.written)
        yield CounterMetricFamily(
            "routerd_decisions_dropped", "Decisions lost before they were written.", state.dropped
        )
        active = InfoMetricFamily("routerd_active_version", "The version that serves.", labels=["router"])
        for router, named in state.versions.items():
            active.add_metric([router], {"version": named})
        yield active
        counts: dict[str, int] = dict.fromkeys(_BREAKERS, 0)
        for breaker in state.breakers:
            if breaker in counts:
                counts[breaker] += 1
        yield _by("plugins", "Gateway plugins by the state of their circuit breaker.", "breaker", counts)
        events = CounterMetricFamily("routerd_plugin_events", "What plugins have counted.", labels=["event"])
        for name, count in state.events.items():
            events.add_metric([name], count)
        yield events


def _by(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(f"routerd_{name}", text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family
