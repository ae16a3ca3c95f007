"""Pairing: what battles tell, prompt by prompt, of a strong side against a weak one. For routers that know two sides
and no models."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scorer.battles import BAR, Battles
from scorer.routers.bradley_terry import strengths
from scorer.tables import DataError

Floats = NDArray[np.float64]

_RIDGE = 1.0  # of a global rating, beside weights of battles: as the SW router's
_NEAR = 1 / 3  # of the reference pair's gap: how far from its own model a peer may be


@dataclass(frozen=True)
class ThreeWay:
    """k prompts with something known of both sides.

    prompt (k,): indices into the battles' prompts, ascending; shares (k, 3): P(strong side wins), P(tie), P(weak side
    wins), rows sum to 1; weight (k,) > 0.
    """

    prompt: NDArray[np.int64]
    shares: Floats
    weight: Floats

    @property
    def win_rate(self) -> Floats:
        """(k,) P(strong side wins), ties counted half."""
        half: Floats = self.shares[:, 0] + self.shares[:, 1] / 2
        return half


def three_way(battles: Battles, strong: Collection[str], weak: Collection[str]) -> ThreeWay:
    """What is known of the strong models against the weak ones. Raises DataError if that is nothing.

    Battles of a strong with a weak model count with their weights; an outcome between 1/2 and 1 is that much of a win,
    the rest of it a tie. Battles of both sides with the bar count as the mean over all pairs of models, taken to be
    independent: with mean outcomes s and w it is win s(1 - w), loss w(1 - s), and its weight is the lighter side's.
    """
    a_strong, b_strong = np.isin(battles.model_a, list(strong)), np.isin(battles.model_b, list(strong))
    a_weak, b_weak = np.isin(battles.model_a, list(weak)), np.isin(battles.model_b, list(weak))
    a_bar, b_bar = battles.model_a == BAR, battles.model_b == BAR
    met = _summed(battles, a_strong & b_weak, a_weak & b_strong)
    s, s_weight = _mean(battles, a_strong & b_bar, a_bar & b_strong)
    w, w_weight = _mean(battles, a_weak & b_bar, a_bar & b_weak)
    inferred = np.stack([s * (1 - w), s * w + (1 - s) * (1 - w), w * (1 - s)], axis=1)
    total = met + np.minimum(s_weight, w_weight)[:, None] * inferred
    weight = total.sum(axis=1)
    known = np.flatnonzero(weight > 0)
    if not len(known):
        raise DataError(
            f"no prompt has battles of both sides, {_some(strong)} and {_some(weak)}, with each other or with the bar"
        )
    return ThreeWay(known, total[known] / weight[known, None], weight[known])


def _summed(battles: Battles, forward: NDArray[np.bool_], backward: NDArray[np.bool_]) -> Floats:
    """(prompts, 3): weight of wins, ties and losses over the rows; `backward` ones are read from b's side."""
    rows = forward | backward
    margin = 2 * np.where(forward, battles.outcome, 1 - battles.outcome)[rows] - 1
    parts = (np.maximum(margin, 0), 1 - np.abs(margin), np.maximum(-margin, 0))
    prompt, weight = battles.prompt[rows], battles.weight[rows]
    return np.stack([_sums(prompt, weight * part, len(battles.prompts)) for part in parts], axis=1)


def _mean(battles: Battles, forward: NDArray[np.bool_], backward: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """(prompts,) weighted mean outcome over the rows, 0 where there is none, and the weight."""
    rows = forward | backward
    outcome = np.where(forward, battles.outcome, 1 - battles.outcome)[rows]
    prompt, weight = battles.prompt[rows], battles.weight[rows]
    total, won = (_sums(prompt, each, len(battles.prompts)) for each in (weight, weight * outcome))
    return won / np.where(total > 0, total, 1), total


def _sums(group: NDArray[np.int64], values: Floats, groups: int) -> Floats:
    """(groups,) sums of `values` by group."""
    sums: Floats = np.bincount(group, values, groups).astype(np.float64)  # of none at all, bincount's zeros are whole
    return sums


def peers(battles: Battles, strong: str, weak: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Models as good as each of the reference pair, themselves included, by a global Bradley-Terry rating.

    On the strong side those above the strong model less a third of the pair's gap, on the weak side those within a
    third of the gap of the weak model. Much worse ones are on neither: to beat them says little of the weak model.

    RouteLLM took tiers of its rating instead, 0 and 1 against 2. The bar is a player of its own in every source, since
    sources differ in what they ask and call good; the models they share tie them together, and models that are not
    tied to the pair have no rating. Raises DataError.
    """
    models = [player for player in battles.players if player != BAR]
    for name in (strong, weak):
        if name not in models:
            close = difflib.get_close_matches(name, models, 3, 0.3) or models[:3]
            raise DataError(f"model {name!r} has no battles; some that have: {', '.join(close)}")
    rating = _ratings(battles, weak)
    if strong not in rating:
        raise DataError(f"{strong} and {weak}: no chain of battles ties them together")
    gap = rating[strong] - rating[weak]
    if gap <= 0:
        raise DataError(f"{strong} is rated no better than {weak}: {gap:+.2f} nats")
    above = tuple(model for model in models if rating.get(model, -np.inf) >= rating[strong] - gap * _NEAR)
    beside = tuple(model for model in models if abs(rating.get(model, np.inf) - rating[weak]) <= gap * _NEAR)
    return above, beside


def _ratings(battles: Battles, reference: str) -> dict[str, float]:
    """Global strengths, in nats, of all models that a chain of battles ties to `reference`."""
    sides = [
        np.where(side == BAR, np.char.add(f"{BAR}\n", battles.source), side)  # no model's name holds a line's end
        for side in (battles.model_a, battles.model_b)
    ]
    players, index = np.unique(np.concatenate(sides), return_inverse=True)
    a, b = index.reshape(2, -1)
    k = len(players)
    wins = _sums(a * k + b, battles.weight * battles.outcome, k * k)
    wins += _sums(b * k + a, battles.weight * (1 - battles.outcome), k * k)
    wins = wins.reshape(k, k)
    met, tied = wins + wins.T > 0, players == reference
    for _ in range(k):
        tied = tied | met[tied].any(axis=0)
    theta = strengths(wins[None][:, tied][:, :, tied], _RIDGE)[0]
    return dict(zip(players[tied].tolist(), theta.tolist(), strict=True))


def _some(models: Collection[str]) -> str:
    names = sorted(models)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
