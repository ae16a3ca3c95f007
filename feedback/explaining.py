"""What spoke for a decision's scores: found on demand, from what was logged, by the version that scored."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np

from feedback.alike import Alike, Logged
from feedback.store import Store
from scorer import explanation
from scorer.artifacts import ArtifactError
from scorer.config import ConfigError
from scorer.decisions import Decision
from scorer.features import NAMES
from scorer.routers import grounds
from scorer.routers.base import Prompts, Router, UnknownModel, known_as
from scorer.routers.grounds import Explains, Grounds
from scorer.tables import DataError

_PARTS = 8  # of a score, that are named
_ALIKE = 5

_UNKNOWN = Logged(None, None)

Find = Callable[[str, str], Router]


class Near(msgspec.Struct, frozen=True):
    """A prompt that a score rests on, as in routers.grounds.Neighbour. decision_id: of the newest decision on it, and
    text, where they are kept."""

    similarity: float
    share: float
    value: float
    won: Mapping[str, float]
    source: str
    text_hash: str
    decision_id: str | None
    text: str | None

    @property
    def told(self) -> str:
        """Which it is, in words."""
        if self.text is not None or self.decision_id is not None:
            return self.text or f"decision {self.decision_id}"
        kind = "logged" if self.text_hash else "pretrained"
        return f"a {kind} battle from {self.source}" if self.source else f"a {kind} battle"


class Score(msgspec.Struct, frozen=True):
    """Of one model, by its name on the ladder: `score` is the sigmoid of `total`, which parts and neighbours sum to
    (nats)."""

    model: str
    of: str
    score: float
    total: float
    parts: dict[str, float]
    neighbours: list[Near]


class Evidence(msgspec.Struct, frozen=True):
    """scores: strongest model first; or why there are none, in a line. alike: rated decisions, the nearest first."""

    scores: list[Score] = []
    why_none: str | None = None
    alike: list[Alike] = []


class _Silent(Exception):
    """Why nothing can be said, in a line."""


class Explainer:
    """find: the router of a name and version, if it is still there (ArtifactError); like: stand-ins of models."""

    def __init__(self, store: Store, encoder_id: str, like: Mapping[str, str], find: Find) -> None:
        self._store = store
        self._encoder_id = encoder_id
        self._like = like
        self._find = find

    async def explain(self, decision: Decision) -> dict[str, Any]:
        """All that fed it: the steps of its policy (scorer.explanation) and the `evidence`. Raises Unavailable."""
        return {**explanation.explain(decision), "evidence": await self._evidence(decision)}

    async def _evidence(self, decision: Decision) -> Evidence:
        try:
            prompt = self._prompt(decision)
        except _Silent as reason:
            return Evidence(why_none=str(reason))
        alike = await self._store.rated_alike(self._encoder_id, prompt.embeddings[0], decision.decision_id, _ALIKE)
        try:
            found = await asyncio.to_thread(self._grounds, decision, prompt)
        except _Silent as reason:
            return Evidence(why_none=str(reason), alike=alike)
        hashes = {near.text_hash for one in found.values() for near in one.neighbours if near.text_hash}
        logged = await self._store.known_prompts(hashes)
        return Evidence([_score(model, one, logged) for model, one in found.items()], None, alike)

    def _prompt(self, decision: Decision) -> Prompts:
        """As it was scored; the text is not needed."""
        if decision.embedding is None or decision.features is None:
            raise _Silent("nothing is kept of the prompt but its hash")
        if decision.encoder_id != self._encoder_id:
            raise _Silent("the prompt was encoded by another encoder than the one in use")
        if len(decision.features) != 4 * len(NAMES):
            raise _Silent("the prompt was measured by other features than the ones in use")
        kept = decision.embedding, decision.features
        return Prompts([""], *(np.frombuffer(one, "<f4").astype(np.float32)[None] for one in kept))

    def _grounds(self, decision: Decision, prompt: Prompts) -> dict[str, Grounds]:
        """By the ladder's names."""
        try:
            router = self._find(decision.router, decision.version)
            if not isinstance(router, Explains):
                raise _Silent(f"{decision.router} cannot say what its scores rest on")
            models = tuple(decision.win_rates)
            ladder = known_as(router, models, self._like)
            told = {one.model: one for one in grounds.shortened(router.explain(prompt, ladder), _PARTS)}
        except (ArtifactError, ConfigError, DataError, UnknownModel) as error:
            raise _Silent(str(error)) from None
        return {model: told[known] for model, known in zip(models, ladder, strict=True) if known in told}


def _score(model: str, grounds: Grounds, logged: Mapping[str, Logged]) -> Score:
    near = [Near(**vars(one), **logged.get(one.text_hash, _UNKNOWN)._asdict()) for one in grounds.neighbours]
    return Score(model, grounds.of, 1 / (1 + math.exp(-grounds.total)), grounds.total, dict(grounds.parts), near)
