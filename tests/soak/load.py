"""People at work: they ask through the proxy, and rate what they get until that is acknowledged."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import aiohttp

from tests.demo.stack import KEY
from tests.soak.malformed import Malformed

RATERS = 8
PATIENCE_SECONDS = 60.0  # for an answer; for all ratings to be acknowledged, once nobody asks any more
_PAUSE_SECONDS = 0.2  # before a rating is posted again
_CHAT = "/v1/chat/completions"


@dataclass
class Tally:
    """What people met with; malformed requests are among the requests."""

    requests: int = 0
    malformed: Counter[int] = field(default_factory=Counter)  # by the status of the answer
    routed: int = 0
    fallbacks: Counter[str] = field(default_factory=Counter)  # by reason
    failures: Counter[str] = field(default_factory=Counter)  # what a client can't blame on itself, by what was said
    ratings: int = 0
    repeated: int = 0  # posts of a rating that was not acknowledged at first
    acknowledged: set[str] = field(default_factory=set)  # ids

    @property
    def unacknowledged(self) -> int:
        return self.ratings - len(self.acknowledged)


class Load:
    """So many people, from entering this context to leaving it. Every other answer is rated.

    Of the requests one in `spoilt_every` is malformed: it must be answered as without routing.
    """

    def __init__(
        self,
        proxy: str,
        daemons: Sequence[str],
        prompts: Sequence[str],
        clients: int,
        malformed: Sequence[Malformed] = (),
        spoilt_every: int = 100,
    ) -> None:
        self.tally = Tally()
        self.daemons = list(daemons)  # that ratings go to, in turn
        self._proxy, self._prompts, self._clients = proxy, prompts, clients
        self._malformed, self._every = malformed, spoilt_every
        self._numbers, self._posts = itertools.count(1), itertools.count()
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._leaving = False
        self._asked, self._routed = asyncio.Event(), asyncio.Event()
        self._enough = 0  # requests
        self._since = 0.0

    async def __aenter__(self) -> Load:
        timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)
        self._asking = [asyncio.create_task(self._ask_on()) for _ in range(self._clients)]
        self._rating = [asyncio.create_task(self._rate_on()) for _ in range(RATERS)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving = True
        await asyncio.gather(*self._asking)
        try:
            async with asyncio.timeout(0 if error else PATIENCE_SECONDS):
                await self._waiting.join()
        except TimeoutError:
            pass
        for task in self._rating:
            task.cancel()
        await asyncio.gather(*self._rating, return_exceptions=True)
        await self._http.close()

    async def until_routed(self, seconds: float = PATIENCE_SECONDS) -> float:
        """Seconds until a request that is made from now on is routed. Raises TimeoutError."""
        self._since = time.monotonic()
        self._routed.clear()
        await asyncio.wait_for(self._routed.wait(), seconds)
        return time.monotonic() - self._since

    async def until_asked(self, requests: int) -> None:
        self._enough = requests
        await self._asked.wait()

    async def spoil(self) -> None:
        """Sends each malformed request once, beside those that come by chance."""
        self.tally.requests += len(self._malformed)
        await asyncio.gather(*map(self._send_malformed, self._malformed))

    async def _ask_on(self) -> None:
        while not self._leaving:
            number = next(self._numbers)
            self.tally.requests += 1
            if self.tally.requests >= self._enough > 0:
                self._asked.set()
            try:
                if self._malformed and number % self._every == 0:
                    await self._send_malformed(self._malformed[number // self._every % len(self._malformed)])
                else:
                    await self._ask(number)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                self.tally.failures[f"{type(error).__name__}: {error}"[:200]] += 1

    async def _ask(self, number: int) -> None:
        stream, began = number % 2 == 0, time.monotonic()
        prompt = f"{self._prompts[number % len(self._prompts)]}\n(case {number})"
        body = {"model": "router", "messages": [{"role": "user", "content": prompt}], "stream": stream}
        headers = {"Authorization": f"Bearer {KEY}"}
        async with self._http.post(self._proxy + _CHAT, json=body, headers=headers) as answer:
            text = await answer.text()
        status = answer.headers.get("x-routerd-status")
        if answer.status != 200 or status is None or not _whole(text, stream):
            self.tally.failures[f"{answer.status}: {text}"[:200]] += 1
            return
        if status == "routed":
            self.tally.routed += 1
            if began > self._since:
                self._routed.set()
        else:
            self.tally.fallbacks[answer.headers["x-routerd-reason"]] += 1
        if number % 4 < 2:
            self.tally.ratings += 1
            self._waiting.put_nowait(answer.headers["x-routerd-decision-id"])

    async def _send_malformed(self, one: Malformed) -> None:
        status = await one.send(self._http, self._proxy, routed=True)
        self.tally.malformed[status] += 1
        if status != one.status:
            self.tally.failures[f"malformed ({one.name}): {status} where {one.status} is answered without routing"] += 1

    async def _rate_on(self) -> None:
        while True:
            decision_id = await self._waiting.get()
            while not await self._rate(decision_id):
                self.tally.repeated += 1
                await asyncio.sleep(_PAUSE_SECONDS)
            self._waiting.task_done()

    async def _rate(self, decision_id: str) -> bool:
        """Whether that is settled: acknowledged, or refused for good."""
        daemon = self.daemons[next(self._posts) % len(self.daemons)]
        body = {"decision_id": decision_id, "rating": "up", "user": "somebody", "comment": "soak"}
        try:
            headers = {"Idempotency-Key": decision_id}
            async with self._http.post(f"{daemon}/v1/feedback", json=body, headers=headers) as answer:
                said = await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
        if answer.status in (404, 503):  # what nobody has heard of yet may come
            return False
        if answer.status not in (201, 202):
            self.tally.failures[f"rating: {answer.status}: {said}"[:200]] += 1
            return True
        self.tally.acknowledged.add(json.loads(said)["feedback_id"])
        return True


def _whole(text: str, stream: bool) -> bool:
    """Whether this is an answer from its beginning to its end."""
    if stream:
        return "heard" in text and text.rstrip().endswith("[DONE]")
    answer: Mapping[str, list[dict[str, dict[str, str]]]] = json.loads(text)
    return "heard" in answer["choices"][0]["message"]["content"]
