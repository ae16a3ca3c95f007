"""What a night learns from, and what its challengers are compared on: three parts of all that was said.

The golden set: what people and judges said in sessions drawn by hash, of the older half of what was said. It grows from
the oldest on until it is full, and then stays as it is; no challenger learns from it. Drawn sessions of the newer half
wait: were they golden at once, a bad night would be tested on what it has spoilt. After it is full they are learned
from.
The newest slice: the newest part of what was said, whichever session's; it is learned from on later nights.
The training part: all else that is older than the newest slice.

Every fit begins at its prior, so no challenger depends on the golden set in any way. The champion was chosen on it,
and is the more likely to look good there: that makes publishing harder, never easier.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from feedback.battles import Evidence, Gathering, Weights, unit_of
from feedback.judgements import JUDGE
from feedback.records import Comparison, Record
from feedback.store import Store
from gateway_plugin import ids
from scorer import sampler

_SALT = b"routerd/golden/1\0"  # so that who is golden is drawn apart from who is routed where
_MOST_NEWEST = 2000  # ratings; beyond, more to learn from is worth more than more to compare on


@dataclass(frozen=True)
class Parts:
    """golden: the share of sessions that the golden set is drawn from; most: ratings, and as many comparisons, that it
    takes; newest: the share of what was said that is newest."""

    golden: float = 0.25
    most: int = 4000
    newest: float = 0.2

    def draws(self, unit: str) -> bool:
        """Whether what is said in a session is golden, while there is room."""
        return sampler.uniform(unit, _SALT) < self.golden


class Said(NamedTuple):
    """All that was said so far, in so far as it can tell that more was said since."""

    ratings: int
    comparisons: int
    newest: float  # Unix seconds, as is
    judged: float  # when the judge spoke last; 0: never


@dataclass(frozen=True)
class Material:
    """The three parts. raters: the effective number of people learned from; records: the rated decisions of the golden
    set and the newest slice."""

    training: Evidence
    golden: Evidence
    newest: Evidence
    raters: float
    records: list[Record]
    said: Said


async def gather(store: Store, encoder_id: str, weights: Weights, parts: Parts, now: float) -> Material:
    """All that was said up to `now` (Unix seconds), parted."""
    said, middle, cut = await _survey(store, parts, now)
    lasting = replace(weights, signals={}, half_life_days=float("inf"))  # what people and judges said, at any age
    older = _Older(parts, Gathering(encoder_id, weights, now), Gathering(encoder_id, lasting, now))
    newest = Gathering(encoder_id, lasting, now)
    records: list[Record] = []
    spans = (0.0, middle, True), (middle, cut, False)
    for after, before, old in spans:
        async for page in store.rated(after, before, signals=tuple(weights.signals)):
            records += older.add_ratings(page, old)
    for after, before, old in spans:
        async for compared in store.comparisons(after, before):
            older.add_comparisons(compared, old)
    async for page in store.rated(after=cut):
        newest.add_ratings(page)
        records += page
    async for compared in store.comparisons(after=cut):
        newest.add_comparisons(compared)
    learned, late = older.training.evidence, newest.evidence
    # A session that went on after the cut is compared on no more: its prompts are known by then.
    late = late.take(~np.isin(late.session, learned.session))
    return Material(learned, older.golden.evidence, late, older.training.raters, records, said)


class _Older:
    """Deals what is older than the newest slice, ratings first, into the golden set and the training part. A session is
    never in both."""

    def __init__(self, parts: Parts, training: Gathering, golden: Gathering) -> None:
        self.training, self.golden = training, golden
        self._parts = parts
        self._golden: set[str] = set()  # sessions
        self._learned: set[str] = set()  # sessions that were drawn and found no room
        self._ratings = 0  # that are golden

    def add_ratings(self, page: Iterable[Record], old: bool) -> list[Record]:
        """Those that became golden. old: of the older half."""
        taken = []
        for record in page:
            part = self._part(unit_of(record), old, len(self.golden) < self._parts.most)
            if part is not None:
                part.add_ratings([record])
            if part is self.golden:
                taken.append(record)
        self._ratings = len(self.golden)
        return taken

    def add_comparisons(self, page: Iterable[Comparison], old: bool) -> None:
        for one in page:
            part = self._part(unit_of(one), old, len(self.golden) - self._ratings < self._parts.most)
            if part is not None:
                part.add_comparisons([one])

    def _part(self, unit: str, old: bool, room: bool) -> Gathering | None:
        """Where what was said in the session goes; None: nowhere yet."""
        if not self._parts.draws(unit) or unit in self._learned:
            return self.training
        if room and old:
            self._golden.add(unit)
            return self.golden
        if room or unit in self._golden:
            return None
        self._learned.add(unit)
        return self.training


async def _survey(store: Store, parts: Parts, now: float) -> tuple[Said, float, float]:
    """How much there is, where its newer half begins and where the newest slice does (Unix seconds): by when decisions
    and comparisons were made."""
    made: list[float] = []
    spoken = [0.0]
    ratings, comparisons, judged = 0, 0, 0.0
    async for page in store.rated(vectors=False):
        made += [ids.minted_at(record.decision_id) for record in page]
        given = [rating.created_at for record in page for rating in record.ratings]
        spoken.append(max(given, default=0.0))
        ratings += len(given)
    async for compared in store.comparisons(vectors=False):
        made += [one.created_at for one in compared]
        comparisons += len(compared)
        judged = max([judged, *(one.created_at for one in compared if one.source == JUDGE)])
    said = Said(ratings, comparisons, max([*spoken, *made[len(made) - comparisons :]]), judged)
    if not made:
        return said, now, now
    newest = min(max(round(len(made) * parts.newest), 1), _MOST_NEWEST)
    made.sort()
    return said, min(made[len(made) // 2], made[-newest]), made[-newest]
