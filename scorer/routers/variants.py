"""Variants of similarity-weighted ranking: how much each row counts for a prompt, by its similarity."""

from __future__ import annotations

from typing import Annotated, ClassVar, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta

from scorer.routers.cells import Floats

Positive: TypeAlias = Annotated[float, Meta(gt=0)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]


class Upstream(msgspec.Struct, frozen=True, tag_field="variant", tag="upstream"):
    """RouteLLM's hyperparameters, and the ridge that its regression lacks."""

    gamma: Positive = 10.0
    tiers: Annotated[int, Meta(ge=1)] = 10
    own: tuple[str, ...] = ()  # models that stay players of their own, as the bar always does
    ridge: Positive = 1.0  # on strengths in nats, beside at least `gamma` of weight a battle at similarity 0
    most_rows: Annotated[int, Meta(ge=1)] = 200_000  # about; of more, a coreset is kept (routers.coreset)
    features: ClassVar[float] = 0.0

    def weights(self, similarity: Floats) -> Floats:
        """(rows,) of a prompt."""
        most = max(similarity.max(), 1e-6)  # upstream's normaliser; below it no row is like the prompt
        weights: Floats = np.exp(np.log(self.gamma) * (1 + similarity / most))
        return weights


class Sharp(msgspec.Struct, frozen=True, tag_field="variant", tag="sharp"):
    """The defaults were chosen on held-out training prompts (pretrained/sw/CARD.md)."""

    nearest: Positive = 100.0  # rows; one on which only one of the two models fought counts as `one_sided` of a row
    one_sided: Share = 0.1
    sharpness: Annotated[float, Meta(ge=0)] = 2.0  # a row weighs exp(sharpness * (its similarity - the nearest row's))
    features: Annotated[float, Meta(ge=0)] = 0.5  # length of the standardised features beside the unit embedding
    ridge: Positive = 1.0  # towards the global ranking: the prior precision of a strength in nats

    def weights(self, similarity: Floats, evidence: Floats) -> Floats:
        """(rows,): of the nearest rows that together are worth `nearest`, those as near as the last included. evidence
        (rows,): what each is worth."""
        weights, rows = np.zeros(len(similarity)), np.flatnonzero(evidence)
        if not len(rows):
            return weights
        near, worth = similarity[rows], evidence[rows]
        least = max(float(worth.min()), self.nearest / len(rows))
        enough = min(int(self.nearest / least) + 1, len(rows) - 1)  # so many rows are worth it, and one more
        order = np.argpartition(-near, enough)[: enough + 1]
        order = order[np.argsort(-near[order])]
        reached = np.flatnonzero(np.cumsum(worth[order]) >= self.nearest)
        within = near >= (near[order[reached[0]]] if len(reached) else -np.inf)
        weights[rows[within]] = worth[within] * np.exp(self.sharpness * (near[within] - near[order[0]]))
        return weights


Variant: TypeAlias = Upstream | Sharp
