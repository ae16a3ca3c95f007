"""The log as columns: what was decided, served, rated and paid, and which decisions estimates may use."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feedback.ope import Floats, Ints, Logged
from feedback.records import Record
from feedback.store import Store
from scorer.decisions import Decision

_RATERS = "human"  # whose ratings count as what raters said; judges and others are not asked


@dataclass(frozen=True)
class Log:
    """n requests on a ladder of m models, strongest first. What is not known is NaN, -1 or ''."""

    models: tuple[str, ...]
    left_out: NDArray[np.str_]  # (n,): why estimates cannot use it; '' where they can
    router: NDArray[np.str_]
    version: NDArray[np.str_]
    encoder_id: NDArray[np.str_]
    text_hash: NDArray[np.str_]
    chosen: Ints  # (n,): which of the models was drawn
    served: Ints  # (n,): which of them answered
    probabilities: Floats  # (n, m): 0 for those that were no candidates
    win_rates: Floats  # (n, m)
    reward: Floats  # (n,): the mean of people's ratings, each in [0, 1]
    cost: Floats  # (n,): US dollars
    tokens_in: Floats
    cluster: Ints  # (n,): requests that were drawn as one, those of a session
    embeddings: NDArray[np.float32]  # (n, d), as are features (n, f): of requests that estimates can use
    features: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.left_out)

    def take(self, rows: NDArray[Any]) -> Log:
        """Some of the requests."""
        columns = {field.name: getattr(self, field.name)[rows] for field in fields(self) if field.name != "models"}
        return replace(self, **columns)

    def usable(self) -> Log:
        """Those that estimates can use."""
        return self.take(self.left_out == "")

    @property
    def candidates(self) -> NDArray[np.bool_]:
        """(n, m): which models each request could have gone to."""
        possible: NDArray[np.bool_] = self.probabilities > 0
        return possible

    @property
    def logged(self) -> Logged:
        """What the estimators take; of usable requests only."""
        return Logged(self.chosen, self.probabilities, self.reward, self.cost, self.cluster)


class _Row(NamedTuple):
    """One request, in the order of Log's columns; vectors as stored."""

    left_out: str
    router: str
    version: str
    encoder_id: str
    text_hash: str
    chosen: int
    served: int
    probabilities: list[float]
    win_rates: list[float]
    reward: float
    cost: float
    tokens_in: float
    unit: str
    embedding: bytes
    features: bytes


async def read(
    store: Store,
    models: Sequence[str],
    after: float = 0.0,
    before: float = math.inf,
    progress: Callable[[int], None] = lambda read: None,
    part: float = 1.0,
) -> Log:
    """Everything logged between two times (Unix seconds), or a random part of it, read in pages. Raises Unavailable."""
    rows: list[_Row] = []
    async for page in store.logged(after, before, part=part):
        rows += [_row(record, tuple(models)) for record in page if record.decision or record.outcome]
        progress(len(rows))
    return _columns(rows, tuple(models))


def of(records: Sequence[Record], models: Sequence[str]) -> Log:
    """What these say."""
    return _columns([_row(record, tuple(models)) for record in records], tuple(models))


def _row(record: Record, models: tuple[str, ...]) -> _Row:
    decision, outcome = record.decision, record.outcome
    left_out = _left_out(record, models)
    given = [one.value for one in record.ratings if one.source == _RATERS and one.value is not None]
    keeps = decision if decision and not left_out else None
    return _Row(
        left_out=left_out,
        router=decision.router if decision else "",
        version=decision.version if decision else "",
        encoder_id=(keeps and keeps.encoder_id) or "",
        text_hash=decision.text_hash if decision else "",
        chosen=_place(decision.model if decision else None, models),
        served=_place(outcome.served if outcome else None, models),
        probabilities=_over(models, decision.probabilities if decision else {}),
        win_rates=_over(models, decision.win_rates if decision else {}, math.nan),
        reward=sum(given) / len(given) if given else math.nan,
        cost=outcome.cost if outcome and outcome.cost is not None else math.nan,
        tokens_in=outcome.tokens_in if outcome and outcome.tokens_in is not None else math.nan,
        unit=decision.unit if decision else record.decision_id,
        embedding=(keeps and keeps.embedding) or b"",
        features=(keeps and keeps.features) or b"",
    )


def _left_out(record: Record, models: tuple[str, ...]) -> str:
    """Why estimates cannot use it, or ''."""
    decision, outcome = record.decision, record.outcome
    if decision is None or record.status != "routed":
        return {"observe": "observed only"}.get(record.status, record.status)
    if tuple(decision.win_rates) != models:
        return "another ladder"
    if outcome is None:
        return "no outcome yet"
    if outcome.status != "success":
        return "failed"
    if outcome.served != decision.model or outcome.chosen not in (None, decision.model):
        return "served by another model"
    return "" if _overlaps(decision) else "pinned, or nothing explored"


def _overlaps(decision: Decision) -> bool:
    """Whether there was a choice, and every candidate had a chance."""
    return decision.propensity < 1 and min(decision.probabilities.values()) > 0


def _place(model: str | None, models: tuple[str, ...]) -> int:
    return models.index(model) if model in models else -1


def _over(models: tuple[str, ...], given: dict[str, float], otherwise: float = 0.0) -> list[float]:
    return [given.get(model, otherwise) for model in models]


def _columns(rows: list[_Row], models: tuple[str, ...]) -> Log:
    columns = dict(zip(_Row._fields, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}
    given: dict[str, list[Any]] = {name: columns.get(name, []) for name in _Row._fields}
    _, cluster = np.unique(np.array(given["unit"], np.str_), return_inverse=True)
    held: dict[str, NDArray[Any]] = {name: np.array(given[name], np.str_) for name in _Row._fields[:5]}
    held |= {name: np.array(given[name], np.int64) for name in ("chosen", "served")}
    held |= {name: np.array(given[name], float).reshape(-1, len(models)) for name in ("probabilities", "win_rates")}
    held |= {name: np.array(given[name], float) for name in ("reward", "cost", "tokens_in")}
    held |= {"embeddings": _vectors(given["embedding"]), "features": _vectors(given["features"])}
    return Log(models=models, cluster=cluster.astype(np.int64), **held)


def _vectors(stored: list[bytes]) -> NDArray[np.float32]:
    """(n, d) of the longest length; rows of another are NaN."""
    width = max(map(len, stored), default=0) // 4
    vectors = np.full((len(stored), width), np.nan, np.float32)
    for row, one in enumerate(stored):
        if width and len(one) == 4 * width:
            vectors[row] = np.frombuffer(one, "<f4")
    return vectors
