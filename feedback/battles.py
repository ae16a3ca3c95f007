"""Ratings and comparisons to battles. A thumb is a battle of the model that served against the bar; a comparison is a
battle between its models; an implicit signal is a weaker thumb.

Prompts go by their hashes: vectors come from the log, nothing is encoded twice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from feedback import signals
from feedback.judgements import JUDGE
from feedback.records import Comparison, LoggedComparison, Record
from scorer.battles import BAR, Battles
from scorer.features import NAMES
from scorer.routers.base import Prompts

Floats = NDArray[np.float64]

_DAY = 86_400.0
_WINNERS = {"model_a": 1.0, "tie": 0.5, "model_b": 0.0}


@dataclass(frozen=True)
class Weights:
    """How much a rating counts."""

    sources: Mapping[str, float] = field(default_factory=dict)  # by source; one that is not named counts 1
    signals: Mapping[str, float] = field(default_factory=dict)  # by kind (feedback/signals.py); none: not used
    half_life_days: float = math.inf  # a rating this old counts half
    most_per_user: float = math.inf  # together, in units of an equal share of the total

    def at_age(self, seconds: Floats | float) -> Floats | float:
        """What age leaves of a weight."""
        faded: Floats | float = 0.5 ** (np.maximum(seconds, 0) / (self.half_life_days * _DAY))
        return faded


@dataclass(frozen=True)
class Evidence:
    """Logged feedback to learn from: n battles on p prompts.

    prompts: row i belongs to text i of `battles.prompts`, the prompt's hash; propensity (n,): the probability with
    which the policy chose the model that was rated, 1 where nothing was drawn; session (n,): whose rows are not
    independent of each other; dropped: rows by reason.
    """

    battles: Battles
    prompts: Prompts
    propensity: Floats
    session: NDArray[np.str_]
    dropped: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.battles)

    def take(self, rows: NDArray[np.bool_]) -> Evidence:
        """The battles that a mask selects; prompts without any are dropped."""
        used = np.unique(self.battles.prompt[rows])
        battles = self.battles.take(rows)
        prompts = Prompts(battles.prompts, self.prompts.embeddings[used], self.prompts.features[used])
        return Evidence(battles, prompts, self.propensity[rows], self.session[rows], self.dropped)


class _Row(NamedTuple):
    text_hash: str
    model_a: str
    model_b: str
    outcome: float
    weight: float
    source: str
    user: str
    propensity: float
    session: str


class Gathering:
    """Gathers pages of the log into evidence for routers of one encoder."""

    def __init__(self, encoder_id: str, weights: Weights, now: float) -> None:
        """now: Unix seconds, from which ages are counted."""
        self._encoder_id, self._weights, self._now = encoder_id, weights, now
        self._rows: list[_Row] = []
        self._vectors: dict[str, tuple[bytes, bytes]] = {}
        self._dropped: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._rows)

    def add_ratings(self, records: Iterable[Record]) -> None:
        """A page of `Store.rated`. Credit goes to the model that served."""
        for record in records:
            for row in self._of_record(record):
                self._keep(row, record.decision)

    def add_comparisons(self, comparisons: Iterable[Comparison]) -> None:
        """A page of `Store.comparisons`."""
        for one in comparisons:
            weight = self._weight(one.source, one.created_at)
            sides = one.model_a, one.model_b, _WINNERS[one.winner]
            self._keep(_Row(one.text_hash or "", *sides, weight, one.source, one.user, 1.0, unit_of(one)), one)

    @property
    def evidence(self) -> Evidence:
        """All of it."""
        columns = list(zip(*self._rows, strict=True)) or [()] * len(_Row._fields)
        hashes, model_a, model_b, outcome, _, source, _, propensity, session = columns
        battles = Battles.of(hashes, model_a, model_b, outcome, self._capped, source)
        stored = [self._vectors[text_hash] for text_hash in battles.prompts]
        prompts = Prompts(battles.prompts, *(_matrix([pair[i] for pair in stored]) for i in (0, 1)))
        return Evidence(battles, prompts, np.array(propensity, float), np.array(session, np.str_), dict(self._dropped))

    @property
    def raters(self) -> float:
        """How many people, had all as much to say, would be as many as these: 1 / sum of squared shares of the weight.
        Judges and signals are no people; infinite where nobody else said anything."""
        people = np.array([row.source != JUDGE and row.source not in signals.KINDS for row in self._rows], bool)
        if not people.any():
            return math.inf
        _, number = np.unique(self._people[people], return_inverse=True)
        total = np.bincount(number.reshape(-1), self._capped[people])
        return float(total.sum() ** 2 / (total**2).sum())

    @property
    def _people(self) -> NDArray[np.str_]:
        """(n,): who said it; of the anonymous, every session is taken for a person."""
        return np.array([f"user {row.user}" if row.user else f"session {row.session}" for row in self._rows], np.str_)

    @property
    def _capped(self) -> Floats:
        """(n,) weights. Judges are not capped: how far they are trusted is in their weight."""
        weight = np.array([row.weight for row in self._rows], float)
        people = np.array([row.source != JUDGE for row in self._rows], bool)
        weight[people] = capped(weight[people], self._people[people], self._weights.most_per_user)
        return weight

    def _of_record(self, record: Record) -> Iterable[_Row]:
        text_hash = record.decision.text_hash if record.decision else ""
        session = unit_of(record)
        served = record.outcome.served if record.outcome else None
        if served is None and record.decision is not None and record.outcome is None and not record.expired:
            served = record.decision.model  # not reported yet: what was sent is what is rated
        for rating in record.ratings:
            if rating.value is None:
                self._dropped["retracted"] += 1
            elif not served:
                self._dropped["nobody is known to have served it"] += 1
            else:
                weight = self._weight(rating.source, rating.created_at)
                credit = served, BAR, rating.value, weight, rating.source, rating.user, _propensity(record, served)
                yield _Row(text_hash, *credit, session)
        for signal in signals.implicit(record, self._weights.signals):
            made = record.decision.created_at if record.decision else self._now
            weight = signal.weight * float(self._weights.at_age(self._now - made))
            user = (record.decision.user if record.decision else None) or ""
            credit = signal.model, BAR, signal.value, weight, signal.kind, user, _propensity(record, signal.model)
            yield _Row(text_hash, *credit, session)

    def _weight(self, source: str, created_at: float) -> float:
        return self._weights.sources.get(source, 1.0) * float(self._weights.at_age(self._now - created_at))

    def _keep(self, row: _Row, kept: object) -> None:
        """A row with what is kept of its prompt: attributes encoder_id, embedding, features."""
        encoder_id, embedding, features = (
            getattr(kept, name, None) for name in ("encoder_id", "embedding", "features")
        )
        if not embedding or not features or not row.text_hash:
            self._dropped["no vectors kept of the prompt"] += 1
        elif encoder_id != self._encoder_id:
            self._dropped["encoded by another encoder"] += 1
        elif len(features) != 4 * len(NAMES):
            self._dropped["measured by other features"] += 1
        elif row.model_a == row.model_b or not row.weight > 0:
            self._dropped["counts nothing"] += 1
        else:
            self._vectors[row.text_hash] = embedding, features
            self._rows.append(row)


def _propensity(record: Record, served: str) -> float:
    """1 where the policy did not draw the model that is rated: then there is nothing to correct for."""
    decision = record.decision
    drawn = decision is not None and record.status == "routed" and served == decision.model
    return decision.propensity if decision is not None and drawn else 1.0


def capped(weight: Floats, person: NDArray[np.str_], most: float) -> Floats:
    """Nobody's weights sum to more than `most` equal shares of the total that is left; those who do are scaled down.

    So of any hundred people one holds at most `most` % in the end, however much he says. With p people, the k of
    them who are capped at c, and u the sum of the others: c = most (u + k c) / p.
    """
    names, number = np.unique(person, return_inverse=True)
    if len(names) <= most:
        return weight
    total = np.bincount(number.reshape(-1), weight, len(names))
    ascending = np.sort(total)
    below = np.cumsum(ascending)  # of the first i + 1
    above = np.arange(len(names))[::-1]
    # the last who is not capped: at his total, so many equal shares are still more
    last = np.flatnonzero(most * (below + above * ascending) >= len(names) * ascending).max(initial=0)
    limit = most * below[last] / (len(names) - most * above[last])
    factor: Floats = np.minimum(1.0, limit / total)
    return weight * factor[number.reshape(-1)]


def unit_of(one: Record | Comparison) -> str:
    """What a decision was drawn by, its session if it had one; of a comparison that has no decision its prompt."""
    if isinstance(one, Record):
        return one.decision.unit if one.decision else one.decision_id
    unit = one.unit if isinstance(one, LoggedComparison) else None
    return unit or one.decision_id or one.text_hash or one.comparison_id


def _matrix(rows: list[bytes]) -> NDArray[np.float32]:
    """Stored vectors of one length; (0, 0) of none."""
    return np.frombuffer(b"".join(rows), "<f4").reshape(len(rows), -1).astype(np.float32) if rows else _NONE


_NONE = np.zeros((0, 0), np.float32)
