"""The judge: for a share of the traffic, a second model's answer and two verdicts, in the background (docs/judge.md).

What is paid for is kept at once, so that a retry, or another replica after a crash, goes on from there. Nothing here is
in a request's path, and no call of its own comes back to it: calls name models, which the hook leaves alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from feedback import verdicts
from feedback.budget import Price
from feedback.chat import Chat, ChatError, Message, Reply
from feedback.database import Unavailable
from feedback.judgements import ATTEMPTS
from feedback.records import Judgement, SampledOutcome
from feedback.store import Store
from feedback.verdicts import Unreadable
from gateway_plugin import ids
from scorer import sampler
from scorer.config import Config
from scorer.decisions import Decision
from scorer.sections import JudgeConfig

_TOGETHER = 4  # judgements that one process works on
_FIRST_PAUSE_SECONDS = 60.0  # before a retry; four times as long each time
_SLACK_SECONDS = 60.0  # by which a claim outlasts a call
_LARGEST = 60_000  # characters of a conversation, and of an answer
_LOG_SECONDS = 60.0
_PATIENCE_SECONDS = (0.1, 0.5, 2.0, 10.0)  # between tries to write

T = TypeVar("T")

_log = logging.getLogger(__name__)


class OverBudget(Exception):
    """The call might cost more than is left of today's dollars."""


class CutShort(Exception):
    """The second answer reached its token limit; half an answer is not to be judged."""


class Lost(Exception):
    """Another process has taken the judgement over, which believed this one dead."""


class Judge:
    """Draws, queues and judges. `ladder` is strongest first; `keep` as configured: of hash, nothing is drawn."""

    def __init__(self, store: Store, settings: JudgeConfig, ladder: Sequence[str], keep: str) -> None:
        self._store, self._settings, self._ladder = store, settings, tuple(ladder)
        self._share = settings.share if keep != "hash" else 0.0
        self._chat = Chat(settings.url, settings.key, settings.timeout_seconds)
        self._expiry = settings.timeout_seconds + _SLACK_SECONDS
        self._next_log = 0.0

    def wants(self, decision: Decision) -> bool:
        """Whether the answer is drawn, the same everywhere. What is not plain text could not be judged."""
        needs = decision.needs
        plain = not any(needs.get(name) for name in ("images", "audio", "tools", "json"))
        return plain and needs.get("chars", 0) <= _LARGEST and self._drawn(decision.decision_id)

    async def take(self, outcomes: Sequence[SampledOutcome]) -> None:
        """Queues the answers that came with outcomes; those that nobody asked for are ignored."""
        new = [one for outcome in outcomes if (one := self._judgement(outcome))]
        if new:
            await self._store.queue_judgements(new)

    async def work(self) -> None:
        """Judges all that is due. Raises Unavailable."""
        ends = await asyncio.gather(*(self._drain() for _ in range(_TOGETHER)), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    async def close(self) -> None:
        await self._chat.close()

    def _drawn(self, decision_id: str) -> bool:
        return sampler.uniform(decision_id, sampler.JUDGED) < self._share

    def _judgement(self, outcome: SampledOutcome) -> Judgement | None:
        sample, served = outcome.sample, outcome.served
        if sample is None or served is None or served not in self._ladder or not self._drawn(outcome.decision_id):
            return None
        complete = outcome.status == "success" and not outcome.disconnected and outcome.finish_reason in (None, "stop")
        size = max(sum(len(message.content) for message in sample.messages), len(sample.answer))
        if not complete or size > _LARGEST:
            return None
        return Judgement(
            decision_id=outcome.decision_id,
            model_a=served,
            model_b=opponent(self._ladder, served, outcome.decision_id),
            messages=[{"role": message.role, "content": message.content} for message in sample.messages],
            answer_a=sample.answer,
        )

    async def _drain(self) -> None:
        while (claimed := await self._store.claim_judgement(self._expiry)) is not None:
            try:
                await self._judge(claimed)
            except Lost:
                _log.warning("the judgement of %s was taken over", claimed.decision_id)
            except OverBudget:
                await self._store.postpone_judgement(claimed)
            except CutShort:
                await self._store.give_up_judgement(claimed, "the second answer was cut short")
            except (ChatError, Unreadable) as error:
                await self._failed(claimed, error)

    async def _failed(self, one: Judgement, error: ChatError | Unreadable) -> None:
        now = time.monotonic()
        if now >= self._next_log:
            self._next_log = now + _LOG_SECONDS
            _log.warning("judging failed, attempt %d of %d: %s", one.attempts, ATTEMPTS, error)
        if one.attempts >= ATTEMPTS or (isinstance(error, ChatError) and not error.passing):
            await self._store.give_up_judgement(one, "failed")
        else:
            await self._store.retry_judgement(one, _FIRST_PAUSE_SECONDS * 4 ** (one.attempts - 1))

    async def _judge(self, one: Judgement) -> None:
        """From where it stands to its end. Raises OverBudget, CutShort, Lost, ChatError and Unreadable."""
        if one.answer_b is None:
            reply = await self._ask(one, one.model_b, one.messages, self._settings.answer_tokens)
            if not reply.whole:
                raise CutShort
            one = await self._kept(msgspec.structs.replace(one, answer_b=reply.text))
        if one.forward is None:
            one = await self._kept(msgspec.structs.replace(one, forward=await self._verdict(one, swapped=False)))
        if one.backward is None:
            one = msgspec.structs.replace(one, backward=await self._verdict(one, swapped=True))
        if not await _surely(partial(self._store.finish_judgement, one)):
            raise Lost

    async def _verdict(self, one: Judgement, swapped: bool) -> verdicts.Winner:
        assert one.answer_b is not None
        question = verdicts.question(one.messages, one.answer_a, one.answer_b, swapped)
        reply = await self._ask(one, self._settings.model, question, verdicts.TOKENS)
        return verdicts.read(reply.text, swapped)

    async def _kept(self, one: Judgement) -> Judgement:
        if not await _surely(partial(self._store.keep_judgement, one, self._expiry)):
            raise Lost
        return one

    async def _ask(self, one: Judgement, model: str, messages: Sequence[Message], most_tokens: int) -> Reply:
        """Booked at what it may cost at most, and then at what it did cost, where that is known."""
        price, call_id = Price(*self._settings.prices[model]), ids.mint()
        estimate = price.most(messages, most_tokens)
        booking = call_id, one.decision_id, model, estimate, self._settings.daily_dollars
        if not await _surely(partial(self._store.reserve_call, *booking)):
            raise OverBudget
        try:
            reply = await self._chat.ask(model, messages, most_tokens)
        except ChatError as error:
            if error.free:
                await _surely(partial(self._store.settle_call, call_id, 0.0))
            raise
        if (cost := price.paid(reply)) is not None:
            await _surely(partial(self._store.settle_call, call_id, cost))
        return reply


def create(config: Config, store: Store) -> Judge | None:
    """The configured one."""
    return Judge(store, config.judge, config.models, config.keep) if config.judge else None


async def _surely(write: Callable[[], Awaitable[T]]) -> T:
    """With some patience: what was paid for should not be lost, nor a claim lie idle. Raises Unavailable in the end."""
    for pause in _PATIENCE_SECONDS:
        try:
            return await write()
        except Unavailable:
            await asyncio.sleep(pause)
    return await write()


def opponent(ladder: Sequence[str], served: str, decision_id: str) -> str:
    """The strongest model, whom win rates are about; where that served, one of the others, by hash."""
    if served != ladder[0]:
        return ladder[0]
    others = ladder[1:]
    return others[int(sampler.uniform(decision_id, b"routerd/opponent/1\0") * len(others))]
