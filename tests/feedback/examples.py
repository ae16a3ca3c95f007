"""What the tests of this package put in: decisions, ids of any age, the application, raw SQL."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import text
from starlette.applications import Starlette
from starlette.middleware import Middleware

from feedback import api
from feedback.database import open_engine, writing
from feedback.plugins import Plugins
from feedback.records import Record
from feedback.store import Store
from feedback.writer import DecisionWriter
from gateway_plugin import ids
from scorer.auth import Guard
from scorer.decisions import Decision, KeptPrompt, kept
from scorer.explanation import explain
from scorer.web import Problem, answer_problem


def id_aged(seconds: float) -> str:
    """A decision id minted that long ago."""
    milliseconds = int((time.time() - seconds) * 1000)
    stamp = f"{milliseconds:012x}"
    return f"{stamp[:8]}-{stamp[8:]}-{ids.mint()[14:]}"


def a_decision(**changes: Any) -> Decision:
    decision_id = changes.get("decision_id") or ids.mint()
    return Decision(
        **{
            "decision_id": decision_id,
            "created_at": time.time(),
            "requested": "router-mf-0.3",
            "router": "mf",
            "version": "2026-01-01",
            "mode": "route",
            "threshold": 0.3,
            "win_rates": {"strong": 0.5, "medium": 0.35, "cheap": 0.2},
            "quality": {"strong": 0.9, "medium": 0.8, "cheap": 0.7},
            "probabilities": {"strong": 0.025, "medium": 0.025, "cheap": 0.95},
            "model": "cheap",
            "propensity": 0.95,
            "explored": False,
            "reason": "win rate 0.200 is below 0.300",
            "unit": "session-1",
            "session_id": "session-1",
            "user": "ann",
            "call_id": "call-1",
            "needs": {"tools": True, "chars": 1234},
            "text_hash": "0" * 64,
            "text": "what is 1 + 1?",
            "encoder_id": "f" * 64,
            "embedding": bytes(range(256)),
            "features": b"\x00\x01\x02\x03",
            **changes,
        }
    )


async def keep_all(text: str) -> KeptPrompt:
    return kept("text", text, "f" * 64, b"embedding", b"features")


async def told(decision: Decision) -> dict[str, Any]:
    return explain(decision)


def application(
    store: Store,
    writer: DecisionWriter | None = None,
    plugins: Plugins | None = None,
    keep: api.Keep = keep_all,
    guard: Guard | None = None,
    middleware: Sequence[Middleware] = (),
) -> Starlette:
    """The feedback endpoints on a store that lives as long as the application."""
    writer = writer or DecisionWriter(store)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await writer.close()
        await store.close()

    endpoints = api.endpoints(store, writer, plugins or Plugins(), keep, told)
    return Starlette(
        routes=[guard.route(endpoint) if guard else endpoint.route for endpoint in endpoints],
        middleware=middleware,
        exception_handlers={Problem: answer_problem},
        lifespan=lifespan,
    )


async def whole(store: Store, decision_id: str) -> Record:
    record = await store.decision(decision_id)
    assert record is not None
    return record


def rows(url: str, statement: str) -> Sequence[tuple[Any, ...]]:
    """The rows that raw SQL finds."""
    engine = open_engine(url, connections=1)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]
    finally:
        engine.dispose()


def execute(url: str, *statements: str) -> None:
    engine = open_engine(url, connections=1)
    try:
        with writing(engine).begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
    finally:
        engine.dispose()
