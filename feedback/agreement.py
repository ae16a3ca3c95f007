"""How far the judge and people agree, on logged data, and what the judge's verdicts weigh for it (docs/judge.md).

Two tables. `pairs`: who is better, by the judge and by a person, on the same prompt and the same two models; a person
compared them, or gave both a thumb on it. `answers`: of one served answer, whether it won by the judge and whether it
got a thumb up; another question, which more of the data can answer.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from feedback.battles import Weights
from feedback.judgements import JUDGE
from feedback.records import Comparison, Record
from feedback.store import Store
from scorer.evaluation.bootstrap import Interval

HUMAN = "human"
DEFAULT_WEIGHT = 0.5
LEAST = 100  # of a table, for its kappa to set the weight

_WINNERS = ("model_a", "tie", "model_b")
_Z = 1.959963984540054  # of 95 %

Table = NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """(k, k) tables of counts, the judge's word by row and people's by column: model_a, tie, model_b; down, up."""

    pairs: Table
    answers: Table

    @property
    def weight(self) -> float:
        """What a verdict counts beside a person's: by pairs if there are enough, else by answers, else the default."""
        for table in (self.pairs, self.answers):
            if table.sum() >= LEAST:
                return reliability(table)
        return DEFAULT_WEIGHT

    @property
    def text(self) -> str:
        """In a line."""
        said = []
        for name, table in (("who is better", self.pairs), ("good or not", self.answers)):
            found = kappa(table)
            shown = f"kappa {found.value:.2f} ({found.low:.2f}, {found.high:.2f})" if table.sum() else "no kappa"
            said.append(f"{name}: {shown} of {int(table.sum())}")
        return f"judge and people, {', '.join(said)}; a verdict weighs {self.weight:.2f}"


def kappa(table: Table) -> Interval:
    """Cohen's, with its large-sample 95 % interval (Fleiss, Cohen and Everitt, 1969); NaN where both say one thing."""
    n = table.sum()
    if n == 0:
        return Interval(math.nan, math.nan, math.nan)
    p = table / n
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    observed, expected = np.trace(p), float(rows @ columns)
    if expected >= 1:
        return Interval(math.nan, math.nan, math.nan)
    value = float((observed - expected) / (1 - expected))
    loss = 1 - value
    agreed = (np.diag(p) * (1 - (rows + columns) * loss) ** 2).sum()
    crossed = (p * (columns[:, None] + rows[None, :]) ** 2).sum() - (np.diag(p) * (columns + rows) ** 2).sum()
    variance = (agreed + loss**2 * crossed - (value - expected * loss) ** 2) / (n * (1 - expected) ** 2)
    half = _Z * math.sqrt(max(float(variance), 0.0))
    return Interval(value, max(value - half, -1.0), min(value + half, 1.0))


def reliability(table: Table) -> float:
    """Kappa over the most that it could be with these margins (Cohen, 1960), in [0, 1].

    Two raters who put the same answers in the same order, and draw the line elsewhere, agree perfectly by it: a person
    who is content with an answer does not say that no model does better.
    """
    found = kappa(table).value
    p = table / table.sum()
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    expected = float(rows @ columns)
    most = (float(np.minimum(rows, columns).sum()) - expected) / (1 - expected) if expected < 1 else 0.0
    return min(max(found / most, 0.0), 1.0) if most > 0 and not math.isnan(found) else 0.0


async def measure(store: Store) -> Agreement:
    """On all that is logged. Raises Unavailable."""
    gathering = _Gathering()
    async for records in store.rated(vectors=False):
        gathering.add_thumbs(records)
    async for compared in store.comparisons(vectors=False):
        gathering.add_comparisons(compared)
    return gathering.agreement


async def weighed(store: Store, weights: Weights) -> Weights:
    """With the judge's weight by measurement, unless one is configured. Raises Unavailable."""
    if JUDGE in weights.sources:
        return weights
    return replace(weights, sources={**weights.sources, JUDGE: (await measure(store)).weight})


class _Gathering:
    """Means of what people say, in [0, 1], beside what the judge says."""

    def __init__(self) -> None:
        self._thumbs: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))  # prompt, model
        self._of_answer: dict[tuple[str | None, str], list[float]] = defaultdict(list)  # decision, model that served
        self._people: dict[tuple[str, str, str], list[float]] = defaultdict(list)  # prompt, models in order: first won
        self._judged: list[Comparison] = []

    def add_thumbs(self, records: Iterable[Record]) -> None:
        for record in records:
            values = [
                r.value for r in record.ratings if r.source == HUMAN and r.kind == "thumb" and r.value is not None
            ]
            served = record.outcome.served if record.outcome else None
            if values and served and record.decision:
                self._thumbs[record.decision.text_hash][served] += values
                self._of_answer[record.decision_id, served] += values

    def add_comparisons(self, compared: Iterable[Comparison]) -> None:
        for one in compared:
            if one.source == JUDGE:
                self._judged.append(one)
            elif one.source == HUMAN and one.text_hash:
                first, second = sorted((one.model_a, one.model_b))
                won = 1 - _WINNERS.index(one.winner) / 2
                self._people[one.text_hash, first, second].append(won if one.model_a == first else 1 - won)

    @property
    def agreement(self) -> Agreement:
        pairs, answers = np.zeros((3, 3), np.int64), np.zeros((2, 2), np.int64)
        for one in self._judged:
            theirs = self._preferred(one)
            if theirs is not None:
                pairs[_WINNERS.index(one.winner), theirs] += 1
            for model, won in ((one.model_a, one.winner == "model_a"), (one.model_b, one.winner == "model_b")):
                thumb = np.mean(self._of_answer.get((one.decision_id, model), [0.5]))
                if one.winner != "tie" and thumb != 0.5:
                    answers[int(won), int(thumb > 0.5)] += 1
        return Agreement(pairs, answers)

    def _preferred(self, one: Comparison) -> int | None:
        """People's word on the judged pair, as a place among the winners; their comparisons go before their thumbs."""
        prompt = one.text_hash or ""
        first, second = sorted((one.model_a, one.model_b))
        said = self._people.get((prompt, first, second))
        if said is not None:
            lead = float(np.mean(said)) - 0.5
            lead = lead if one.model_a == first else -lead
        else:
            thumbs: Mapping[str, list[float]] = self._thumbs.get(prompt, {})
            if not (thumbs.get(one.model_a) and thumbs.get(one.model_b)):
                return None
            lead = float(np.mean(thumbs[one.model_a]) - np.mean(thumbs[one.model_b]))
        return 1 - int(np.sign(lead))
