"""Target policies: for decisions that were logged, with which probability each model would have been chosen.

All are (n, m) probabilities over a ladder of m models, strongest first. `candidates` (n, m) says which of them each
request could go to; at least one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from feedback.ope import Floats
from scorer import policy

Flags = NDArray[np.bool_]


def routed(win_rates: Floats, candidates: Flags, models: Sequence[str], threshold: float, exploration: float) -> Floats:
    """What the daemon does with these win rates (n, m): its own policy, asked decision by decision."""
    target = np.zeros(win_rates.shape)
    place = {model: column for column, model in enumerate(models)}
    for row, (rates, allowed) in enumerate(zip(win_rates.tolist(), candidates.tolist(), strict=True)):
        names = list(compress(models, allowed))
        choice = policy.greedy(dict(zip(models, rates, strict=True)), names, threshold)
        for model, probability in policy.probabilities(choice, names, exploration).items():
            target[row, place[model]] = probability
    return target


def strongest(candidates: Flags) -> Floats:
    """Always the strongest candidate."""
    return _always(candidates.argmax(axis=1), candidates)


def cheapest(candidates: Flags) -> Floats:
    """Always the cheapest candidate."""
    return _always(candidates.shape[1] - 1 - candidates[:, ::-1].argmax(axis=1), candidates)


def shuffled(target: Floats, candidates: Flags, costs: Floats) -> Floats:
    """As many calls of each model as the target's, dealt without a look at the prompt, then as many moved to the
    strongest or the cheapest as it takes to cost the same at the expected costs (n, m): money spent without insight.

    Calls are dealt among requests with the same candidates. Where no mixture costs as much, the nearest.
    """
    dealt = np.empty_like(target)
    _, group = np.unique(candidates, axis=0, return_inverse=True)
    for number in np.unique(group):
        dealt[group == number] = target[group == number].mean(axis=0)
    missing = _spent(target, costs) - _spent(dealt, costs)
    end = strongest(candidates) if missing > 0 else cheapest(candidates)
    room = _spent(end, costs) - _spent(dealt, costs)
    moved = min(max(missing / room, 0.0), 1.0) if room else 0.0
    return (1 - moved) * dealt + moved * end


def _always(places: NDArray[np.intp], candidates: Flags) -> Floats:
    certain: Floats = np.eye(candidates.shape[1])[places]
    return certain


def _spent(target: Floats, costs: Floats) -> float:
    return float((target * costs).sum())
