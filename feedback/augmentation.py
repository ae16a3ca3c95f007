"""Battles for one's own prompts and models: every model answers, and the judge compares every two, in both orders."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

from feedback import journal, verdicts
from feedback.budget import Price
from feedback.chat import Chat, ChatError, Reply
from feedback.journal import Journal
from feedback.judgements import JUDGE
from feedback.verdicts import Unreadable
from scorer.battles import Battles
from scorer.evaluation.prices import ANSWER_TOKENS, CHARACTERS_PER_TOKEN

_PAUSES_SECONDS = (1.0, 4.0)  # between tries of one call
_VERDICT_TOKENS = 60  # a usual one
_WORTH = {"model_a": 1.0, "tie": 0.5, "model_b": 0.0}

Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Task:
    """Two models or more, whose answers have at most so many tokens, and a judge."""

    prompts: tuple[str, ...]  # distinct
    models: tuple[str, ...]
    judge: str
    answer_tokens: int

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return list(combinations(self.models, 2))


class Estimate(NamedTuple):
    """calls: yet to be made, of all; dollars: what these cost about, and at most, None without prices."""

    calls: int
    all_calls: int
    about: float | None
    most: float | None


@dataclass
class Result:
    """One prompt and pair a row. skipped: rows by reason; dollars: of this run's calls."""

    rows: list[tuple[str, str, str, float]] = field(default_factory=list)
    agreeing: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    dollars: float = 0.0

    @property
    def battles(self) -> Battles:
        prompt, model_a, model_b, outcome = zip(*sorted(self.rows), strict=True) if self.rows else ((), (), (), ())
        return Battles.of(prompt, model_a, model_b, outcome, 1.0, JUDGE)


class Augmenter:
    """Works off a task through a journal. `prices` by model; without them nothing is said of dollars."""

    def __init__(self, task: Task, chat: Chat, kept: Journal, prices: Mapping[str, Price]) -> None:
        self._task, self._chat, self._journal, self._prices = task, chat, kept, prices

    def estimate(self) -> Estimate:
        """By the rule of thumb, with answers of a usual length; at most: with answers as long as they may get."""
        calls, about, most, task = 0, 0.0, 0.0, self._task
        for prompt in task.prompts:
            said = {model: self._answered(model, prompt) for model in task.models}
            for model in [model for model, reply in said.items() if reply is None]:
                price, calls = self._price(model), calls + 1
                about += price.dollars(len(prompt) / CHARACTERS_PER_TOKEN, ANSWER_TOKENS)
                most += price.most(_as_messages(prompt), task.answer_tokens)
            price = self._price(task.judge)
            for question, unknown in self._open_verdicts(prompt, said):
                calls += 1
                shown = sum(len(message["content"]) for message in question) / CHARACTERS_PER_TOKEN
                about += price.dollars(shown + unknown * ANSWER_TOKENS, _VERDICT_TOKENS)
                most += price.most(question, verdicts.TOKENS) + price.dollars(unknown * task.answer_tokens, 0)
        all_calls = len(task.prompts) * (len(task.models) + 2 * len(task.pairs))
        return Estimate(calls, all_calls, *((about, most) if self._prices else (None, None)))

    async def run(self, together: int, progress: Callable[[int, int], None]) -> Result:
        """At most so many calls at once; `progress` hears of prompts. Raises ChatError when the endpoint is away."""
        result, waiting = Result(), iter(self._task.prompts)
        done = 0

        async def work() -> None:
            nonlocal done
            for prompt in waiting:
                await self._augment(prompt, result)
                done += 1
                progress(done, len(self._task.prompts))

        workers = [asyncio.create_task(work()) for _ in range(together)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return result

    async def _augment(self, prompt: str, result: Result) -> None:
        said: dict[str, Reply | str] = {}  # why not, where there is none
        for model in self._task.models:
            said[model] = await self._answer(model, prompt, result)
        for model_a, model_b in self._task.pairs:
            a, b = said[model_a], said[model_b]
            reason = a if isinstance(a, str) else b
            if isinstance(a, str) or isinstance(b, str):
                result.skipped[str(reason)] = result.skipped.get(str(reason), 0) + 1
                continue
            await self._compare(prompt, (model_a, model_b), (a.text, b.text), result)

    async def _answer(self, model: str, prompt: str, result: Result) -> Reply | str:
        try:
            reply = await self._ask(model, _as_messages(prompt), self._task.answer_tokens, result)
        except ChatError as error:
            if error.passing:
                raise
            return f"refused: {error}"
        if not reply.whole:
            return "an answer was cut short"
        return reply if reply.text.strip() else "an answer was blank"

    async def _compare(self, prompt: str, pair: tuple[str, str], answers: tuple[str, str], result: Result) -> None:
        try:
            forward, backward = [
                verdicts.read((await self._verdict(prompt, answers, swapped, result)).text, swapped)
                for swapped in (False, True)
            ]
        except (Unreadable, ChatError) as error:
            if isinstance(error, ChatError) and error.passing:
                raise
            result.skipped[str(error)] = result.skipped.get(str(error), 0) + 1
            return
        result.agreeing += forward == backward
        result.rows.append((prompt, *pair, _WORTH[verdicts.settled(forward, backward)]))

    async def _verdict(self, prompt: str, answers: tuple[str, str], swapped: bool, result: Result) -> Reply:
        question = verdicts.question(_as_messages(prompt), *answers, swapped)
        return await self._ask(self._task.judge, question, verdicts.TOKENS, result)

    async def _ask(self, model: str, messages: Messages, most_tokens: int, result: Result) -> Reply:
        """From the journal, or paid for and written there."""
        asked = journal.key(model, messages, most_tokens)
        if (known := self._journal.find(asked)) is not None:
            return known
        reply = await self._tried(model, messages, most_tokens)
        self._journal.add(asked, model, reply)
        result.dollars += self._price(model).paid(reply) or 0.0
        return reply

    async def _tried(self, model: str, messages: Messages, most_tokens: int) -> Reply:
        for pause in _PAUSES_SECONDS:
            try:
                return await self._chat.ask(model, messages, most_tokens)
            except ChatError as error:
                if not error.passing:
                    raise
                await asyncio.sleep(pause)
        return await self._chat.ask(model, messages, most_tokens)

    def _answered(self, model: str, prompt: str) -> Reply | None:
        return self._journal.find(journal.key(model, _as_messages(prompt), self._task.answer_tokens))

    def _open_verdicts(self, prompt: str, said: Mapping[str, Reply | None]) -> Iterator[tuple[Messages, int]]:
        """Questions that are yet to be put, with how many of their answers are yet to be had."""
        for pair in self._task.pairs:
            replies = [said[model] for model in pair]
            a, b = (reply.text if reply else "" for reply in replies)
            for swapped in (False, True):
                question = verdicts.question(_as_messages(prompt), a, b, swapped)
                unknown = replies.count(None)
                if unknown or self._journal.find(journal.key(self._task.judge, question, verdicts.TOKENS)) is None:
                    yield question, unknown

    def _price(self, model: str) -> Price:
        return self._prices.get(model, Price(0.0, 0.0))


def _as_messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]
