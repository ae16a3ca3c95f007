"""An OpenAI-compatible stand-in on a real socket: models that answer, and a judge with a known position bias."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from feedback.judge import Judge
from feedback.records import Comparison, Message, Sample, SampledOutcome
from feedback.store import Store
from gateway_plugin import ids
from scorer.sections import JudgeConfig
from tests.feedback.examples import a_decision, execute

JUDGE, STRONG, CHEAP = "the-judge", "strong", "cheap"
PRICES = {JUDGE: (10.0, 20.0), STRONG: (5.0, 10.0), CHEAP: (1.0, 2.0)}

_SHOWN = re.compile(r"[0-9a-f]{12} ANSWER ([AB])\n(.*?)\n[0-9a-f]{12} END OF ANSWER", re.S)


class Endpoint:
    """An ASGI application. A model's answer begins with its quality on the question, which the judge goes by.

    bias: the share of verdicts that name the first answer whatever it says, by hash, apart for each order. tied: the
    share of questions on which all are equally good. asked: calls by model; failures: how many calls still fail.
    """

    def __init__(self, bias: float = 0.0, tied: float = 0.0) -> None:
        self.bias, self.tied = bias, tied
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.users: set[str] = set()
        self.keys: set[str | None] = set()
        self.fault = "told to fail"
        self.failures, self.status, self.seconds = 0, 503, 0.0
        self.usage: tuple[int, int] | None = (100, 50)
        self.verdict: str | None = None  # in place of a judged one
        self.end = "stop"
        self.headers: dict[str, str] = {}
        self.app = Starlette(routes=[Route("/v1/chat/completions", self._complete, methods=["POST"])])

    async def _complete(self, request: Request) -> Response:
        body: dict[str, Any] = await request.json()
        self.asked[body["model"]] += 1
        self.users.add(body["user"])
        self.keys.add(request.headers.get("authorization"))
        self.bodies.append(body)
        await asyncio.sleep(self.seconds)
        if self.failures:
            self.failures -= 1
            return JSONResponse({"error": {"message": self.fault}}, self.status)
        said = self._judged(body) if body["model"] == JUDGE else self.answer(body["model"], body["messages"])
        usage = {}
        if self.usage:
            usage = {"usage": {"prompt_tokens": self.usage[0], "completion_tokens": self.usage[1]}}
        choice = {"index": 0, "finish_reason": self.end, "message": {"role": "assistant", "content": said}}
        return JSONResponse(
            {"id": "x", "object": "chat.completion", "choices": [choice], **usage}, headers=self.headers
        )

    def answer(self, model: str, messages: list[dict[str, str]]) -> str:
        question = messages[-1]["content"]
        quality = 0.5 if drawn("tied", question) < self.tied else drawn(model, question)
        return f"{quality:.6f} says {model}"

    def _judged(self, body: dict[str, Any]) -> str:
        if self.verdict is not None:
            return self.verdict
        shown = body["messages"][-1]["content"]
        answers = {letter: float(text.split()[0]) for letter, text in _SHOWN.findall(shown)}
        if drawn("bias", shown) < self.bias:
            return "I like the first one.\n[[A]]"
        if answers["A"] == answers["B"]:
            return "[[C]]"
        return f"One is better.\n[[{max(answers, key=answers.__getitem__)}]]"


def drawn(*what: str) -> float:
    """In [0, 1), by hash."""
    return int.from_bytes(hashlib.sha256("|".join(what).encode()).digest()[:6], "big") / 2**48


def settings(url: str, **changes: Any) -> JudgeConfig:
    chosen = {"model": JUDGE, "daily_dollars": 100.0, "prices": PRICES, "share": 1.0, "url": f"{url}/v1", **changes}
    return JudgeConfig(**chosen)


def a_judge(store: Store, url: str, **changes: Any) -> Judge:
    return Judge(store, settings(url, **changes), (STRONG, CHEAP), "embedding")


def outcomes(endpoint: Endpoint, count: int, served: str = CHEAP) -> list[SampledOutcome]:
    """Reported answers to as many questions."""
    found = []
    for number in range(count):
        question = f"question {number}"
        answer = endpoint.answer(served, [{"role": "user", "content": question}])
        sample = Sample([Message("user", question)], answer)
        found.append(SampledOutcome(decision_id=ids.mint(), status="success", served=served, sample=sample))
    return found


async def take(judge: Judge, store: Store, reported: Sequence[SampledOutcome]) -> None:
    """Their decisions are written, and the judge is told of them."""
    await store.add_decisions([a_decision(decision_id=one.decision_id) for one in reported])
    await judge.take(reported)


async def comparisons(store: Store) -> list[Comparison]:
    return [one async for page in store.comparisons() for one in page]


def make_due(url: str) -> None:
    """Lets whatever waits be due now."""
    execute(url, "UPDATE judgements SET due_at = 0 WHERE finished_at IS NULL")
