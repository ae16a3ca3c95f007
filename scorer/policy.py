"""Scores to probabilities: the threshold rule on the ladder, and exploration. Pure functions, nothing drawn here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def greedy(win_rates: Mapping[str, float], candidates: Sequence[str], threshold: float) -> str:
    """The cheapest candidate whose win rate is below the threshold; none: the strongest candidate.

    `candidates` run from the strongest to the cheapest. With two models this is RouteLLM's rule.
    """
    for model in reversed(candidates[1:]):
        if win_rates[model] < threshold:
            return model
    return candidates[0]


def probabilities(choice: str, candidates: Sequence[str], exploration: float) -> dict[str, float]:
    """P(model) for every candidate: `exploration` in [0, 1] spread evenly over all of them, the rest on `choice`."""
    share = exploration / len(candidates)
    return {model: share + (1 - exploration) * (model == choice) for model in candidates}
