"""How much of a fit is luck: matrix factorization fitted several times from other seeds, on the same prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scorer.battles import BAR, Battles
from scorer.evaluation import metrics, routing
from scorer.routers.base import Prompts
from scorer.routers.factorization import Factorization, Hyperparameters
from scorer.tables import DataError

_HELD_OUT = 0.2  # of the prompts, the same for all seeds


class Luck(NamedTuple):
    """What one seed's router reaches on the held-out prompts: mean log loss (nats), and APGR of a pair, NaN if the two
    were not rated on the same prompts."""

    seed: int
    loss: float
    apgr: float


def spread(
    battles: Battles, prompts: Prompts, pair: tuple[str, str], seeds: int, encoder_id: str, features: tuple[str, ...]
) -> Iterator[Luck]:
    """Of each seed in turn. pair: strong and weak. Raises DataError if either has no battle."""
    for model in pair:
        if model not in battles.players:
            raise DataError(f"no battle of {model!r}; players: {', '.join(battles.players[:20])}")
    order = np.random.default_rng(0).permutation(len(prompts))
    held_out = np.isin(battles.prompt, order[: round(_HELD_OUT * len(order))])
    training, asked = (_part(battles, prompts, rows) for rows in (~held_out, held_out))
    default = Hyperparameters()
    for seed in range(seeds):
        chosen = replace(default, seed=seed * default.restarts)  # restarts count on from the seed
        router = Factorization.fit(*training, encoder_id=encoder_id, features=features, chosen=chosen)
        yield Luck(seed, router.loss(*asked), _apgr(router, *asked, pair))


def _part(battles: Battles, prompts: Prompts, rows: NDArray[np.bool_]) -> tuple[Battles, Prompts]:
    used = np.unique(battles.prompt[rows])
    part = battles.take(rows)
    return part, Prompts(part.prompts, prompts.embeddings[used], prompts.features[used])


def _apgr(router: Factorization, battles: Battles, prompts: Prompts, pair: tuple[str, str]) -> float:
    """On the prompts where both models met the bar."""
    outcomes = np.full((len(prompts), 2), np.nan)
    for column, model in enumerate(pair):
        rows = (battles.model_a == model) & (battles.model_b == BAR)
        outcomes[battles.prompt[rows], column] = battles.outcome[rows]
    both = ~np.isnan(outcomes).any(axis=1)
    if not both.any():
        return float("nan")
    win_rates = router.score(prompts, pair).win_rates[both]
    curve = routing.ladder_sweep(win_rates, outcomes[both], np.zeros((int(both.sum()), 2)))
    drawn = curve.curve(np.ones(int(both.sum()), np.int64))
    return metrics.apgr(drawn.share, drawn.pgr)
