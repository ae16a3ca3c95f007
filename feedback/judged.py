"""The part of the store about what waits for the judge (feedback/judgements.py)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from feedback import judgements
from feedback.connected import Connected
from feedback.judgements import Counts
from feedback.records import Judgement


class Judged(Connected):
    """Answers that were drawn for the judge, and what judging costs."""

    async def queue_judgements(self, new: Sequence[Judgement]) -> int:
        """Adds those whose decision is new, while there is room; how many."""
        return await self._write(partial(judgements.queue, new))

    async def claim_judgement(self, expiry_seconds: float) -> Judgement | None:
        """One for the caller alone until the claim expires; None: nothing is due."""
        return await self._write(partial(judgements.claim, expiry_seconds))

    async def keep_judgement(self, one: Judgement, expiry_seconds: float) -> bool:
        """Keeps its steps and renews the claim. False, here and below: it is another's by now."""
        return await self._write(partial(judgements.keep, one, expiry_seconds))

    async def finish_judgement(self, one: Judgement) -> bool:
        """Makes the verdicts a comparison, and lets go of the texts, in one transaction."""
        finished = await self._write(partial(judgements.finish, one))
        if self.listener and finished:
            self.listener.rated("comparison", "judge", "stored")
        return finished

    async def give_up_judgement(self, one: Judgement, why: str) -> bool:
        """For good."""
        return await self._write(partial(judgements.give_up, one, why))

    async def retry_judgement(self, one: Judgement, seconds: float) -> bool:
        """After so many seconds."""
        return await self._write(partial(judgements.retry, one, seconds))

    async def postpone_judgement(self, one: Judgement) -> bool:
        """To the next day (UTC)."""
        return await self._write(partial(judgements.postpone, one))

    async def tidy_judgements(self) -> int:
        """Gives up what has waited too long; how many."""
        return await self._write(judgements.tidy)

    async def reserve_call(self, call_id: str, decision_id: str, model: str, estimate: float, cap: float) -> bool:
        """Books a call at its estimate in dollars. False: today's would exceed the cap."""
        return await self._write(partial(judgements.reserve, call_id, decision_id, model, estimate, cap))

    async def settle_call(self, call_id: str, cost: float) -> None:
        """What it did cost."""
        await self._write(partial(judgements.settle, call_id, cost))

    async def judging(self, after: float = 0.0) -> Counts:
        """How judging goes: of what was finished from then on (Unix seconds), and of what waits."""
        return await self._read(partial(judgements.counts, after))
