"""Reads and writes. Every write is committed, and synced to disk, when its method returns."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from feedback import (
    alike,
    comparisons,
    decisions,
    history,
    intake,
    keys,
    listing,
    outcomes,
    pins,
    ratings,
    spend,
)
from feedback.alike import Alike, Logged
from feedback.comparisons import Place
from feedback.connected import LONG_SECONDS
from feedback.forgetting import Forgetting
from feedback.judged import Judged
from feedback.keys import Idempotency
from feedback.listing import Line, Wanted
from feedback.records import (
    Comparison,
    ComparisonReceipt,
    Outcome,
    Rating,
    Receipt,
    Record,
    Taken,
)
from feedback.together import Together
from feedback.versioned import Versioned
from scorer.budget import Slot
from scorer.decisions import Decision
from scorer.sessions import Pin

_PAGE = 1000
_LATE_SECONDS = 3600.0  # by which a decision may be written after it was made, and still expires


class Store(Versioned, Judged, Forgetting):
    """All that is kept in a migrated database. Every method may raise Unavailable."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._pins = Together(self._write_pins)
        self._expired_to = 0.0  # decisions made before are settled, so that a pass need not look at all of them

    async def add_decisions(self, made: Sequence[Decision]) -> None:
        """Adds those whose id is new; the others stay as they are."""
        await self._write(partial(decisions.add, made))

    async def find_decision(self, decision_id: str) -> Decision | None:
        """The decision as it was made, or None."""
        return await self._read(partial(decisions.find, decision_id))

    async def decision(self, decision_id: str, unwritten: Decision | None = None) -> Record | None:
        """All that is known under the id, or None; `unwritten` is the decision if it may not be added yet."""
        return await self._read(partial(history.record, decision_id, unwritten))

    async def rated_alike(self, encoder_id: str, embedding: NDArray[np.float32], but: str, limit: int) -> list[Alike]:
        """Of the newest rated decisions, other than one, those whose prompts are nearest to a unit vector (d,)."""
        return await self._read(partial(alike.rated, encoder_id, embedding, but, limit))

    async def known_prompts(self, text_hashes: Collection[str]) -> dict[str, Logged]:
        """By hash of the prompt, its newest decision."""
        return await self._read(partial(alike.logged, text_hashes))

    async def decided(self, after: float) -> int:
        """How many decisions were made after a time (Unix seconds)."""
        return await self._read(partial(decisions.count, after), LONG_SECONDS)

    async def record_outcomes(self, reports: Sequence[Outcome]) -> None:
        """Merges reports into what is known; the same reports again change nothing."""
        await self._write(partial(outcomes.record, reports))
        if any(report.cached_tokens is not None for report in reports):
            await self._write(partial(pins.learn, reports))
        if self.listener:
            for report in reports:
                self.listener.reported(report.status)

    async def expire(self, older_than: float) -> int:
        """Gives up decisions made more than `older_than` seconds ago that have no outcome; how many."""
        before, count = time.time() - older_than, 0
        start = min(self._expired_to, before) - _LATE_SECONDS  # the clock may have been ahead
        while (end := await self._read(partial(decisions.page_end, start, before))) is not None:
            count += await self._write(partial(decisions.expire, start, end))
            start = end
        self._expired_to = before
        return count

    async def listing(self, wanted: Wanted, limit: int) -> list[Line]:
        """Decisions in short, the newest first."""
        return await self._read(partial(listing.page, wanted, limit))

    async def anything(self) -> bool:
        """Whether any request was ever heard of."""
        return await self._read(listing.anything)

    # Conversations, and what is spent

    async def find_pin(self, session: str, requested: str) -> Pin | None:
        """What the conversation is on under that virtual name."""
        return await self._read(partial(pins.find, session, requested))

    async def write_pin(self, pin: Pin, seen: Pin | None) -> Pin:
        """The pin that counts: this one, unless another has come since `seen` was read."""
        return await self._pins.submit((pin, seen))

    async def _write_pins(self, asked: Sequence[tuple[Pin, Pin | None]]) -> list[Pin]:
        return await self._write(partial(pins.write_all, asked))

    async def forget_pins(self, before: float) -> int:
        """Deletes those not seen since (Unix seconds); how many."""
        return await self._write(partial(pins.forget, before))

    async def spend(self, strongest: str, now: float) -> list[Slot]:
        """What the last week's and today's decisions came to, brought up to date."""

        def work(connection: Connection) -> list[Slot]:
            spend.refresh(strongest, now, connection)
            return spend.slots(now, connection)

        return await self._write(work)

    async def weighed(
        self, router: str, version: str, limit: int = 500
    ) -> list[tuple[dict[str, float], dict[str, float]]]:
        """Win rates and expected dollars, by model, of the version's newest decisions."""
        return await self._read(partial(spend.sample, router, version, limit))

    # What people say

    async def rate(self, rating: Rating, idempotency: Idempotency | None = None, known: bool = False) -> Receipt:
        """Makes this the current rating of its decision, source and user.

        `known` vouches for a decision that has not been written yet. Raises UnknownDecision and KeyReused.
        """
        receipt = await self._write(partial(ratings.rate, rating, idempotency, known))
        return self._heard(rating, receipt)

    async def rate_call(
        self, call_id: str, rating: Rating, idempotency: Idempotency | None = None, unwritten: Collection[str] = ()
    ) -> Receipt:
        """Rates the one decision on a LiteLLM call, whatever decision the rating names.

        `unwritten` are ids of the call's decisions that may not be added yet. Raises UnknownCall, AmbiguousCall and
        KeyReused.
        """
        receipt = await self._write(partial(ratings.rate_call, call_id, unwritten, rating, idempotency))
        return self._heard(rating, receipt)

    async def compare(
        self, comparison: Comparison, idempotency: Idempotency | None = None, known: bool = False
    ) -> ComparisonReceipt:
        """Adds a comparison; arguments and errors as for `rate`."""
        receipt = await self._write(partial(comparisons.add, comparison, idempotency, known))
        if self.listener and receipt.comparison_id == comparison.comparison_id:
            self.listener.rated("comparison", comparison.source, receipt.status)
        return receipt

    async def take(self, rated: Sequence[Rating], compared: Sequence[Comparison]) -> Taken:
        """Takes over ratings and comparisons from elsewhere, all or none; others' writes wait meanwhile."""
        return await self._write(partial(intake.take, rated, compared), LONG_SECONDS)

    async def forget_keys(self) -> int:
        """Deletes idempotency keys older than a day; how many."""
        return await self._write(keys.forget)

    # Pages to learn from

    def rated(
        self,
        after: float = 0.0,
        before: float = math.inf,
        *,
        signals: Collection[str] = (),
        page: int = _PAGE,
        vectors: bool = True,
    ) -> AsyncIterator[list[Record]]:
        """Everything with a current rating or one of the signals (feedback/signals.py), in pages, oldest first.

        From the ids minted at `after` on to those minted before `before`, in Unix seconds. Nothing is left out:
        fallbacks, retractions, expired and lost decisions are there for the caller to tell.
        Without `vectors` embeddings and features are None.
        """
        return self._pages(partial(history.telling, signals), after, before, page, vectors)

    def logged(
        self,
        after: float = 0.0,
        before: float = math.inf,
        *,
        page: int = _PAGE,
        vectors: bool = True,
        part: float = 1.0,
    ) -> AsyncIterator[list[Record]]:
        """Everything, rated or not, or a random part of it in (0, 1], always the same; otherwise as `rated`."""
        return self._pages(partial(history.everything, part=part), after, before, page, vectors)

    async def comparisons(
        self, after: float = 0.0, before: float = math.inf, *, page: int = _PAGE, vectors: bool = True
    ) -> AsyncIterator[list[Comparison]]:
        """Those made from `after` on and before `before` (Unix seconds), in pages, oldest first.

        With all that is kept of their prompts; of an unknown decision's prompt nothing is.
        """
        place = Place(after, "")
        while found := await self._read(partial(comparisons.page, place, before, page, vectors)):
            yield found
            place = Place(found[-1].created_at, found[-1].comparison_id)

    async def _pages(
        self,
        choose: Callable[[str, str, int, Connection], list[str]],
        after: float,
        before: float,
        page: int,
        vectors: bool,
    ) -> AsyncIterator[list[Record]]:
        last, end = history.first_id(after), history.first_id(before)

        def following(connection: Connection) -> list[Record]:
            return history.records(choose(last, end, page, connection), connection, vectors)

        while found := await self._read(following, LONG_SECONDS):
            yield found
            last = found[-1].decision_id

    def _heard(self, rating: Rating, receipt: Receipt) -> Receipt:
        """Tells of a rating, unless it is an answer once given that is given again."""
        if self.listener and receipt.feedback_id == rating.feedback_id:
            kind = "retraction" if rating.value is None else rating.kind
            self.listener.rated(kind, rating.source, receipt.status)
        return receipt
