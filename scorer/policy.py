"""Scores to probabilities: which model a rule says, and exploration. Pure functions, nothing drawn here.

Candidates run from the strongest to the cheapest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

BUDGET = "budget"  # the name of a threshold that a budget is kept by


class Facts(NamedTuple):
    """What a choice rests on, by model: win rates and quality in [0, 1], expected dollars of this call."""

    candidates: Sequence[str]
    win_rates: Mapping[str, float]
    quality: Mapping[str, float] | None = None
    costs: Mapping[str, float] | None = None

    def gap(self, model: str) -> float:
        """How much better the strongest model is than this one, in [-1, 1]: the difference in quality, or what a win
        rate says of it."""
        return 0.0 if model == next(iter(self.win_rates)) else 2 * self.win_rates[model] - 1


class Choice(NamedTuple):
    """A model, the threshold that its win rate was compared with (of the strongest: that of the cheaper one that came
    next), and why, in a few words."""

    model: str
    threshold: float
    why: str


class Policy(Protocol):
    """One way to choose."""

    name: str
    spent: bool  # no money is left, not for exploration either

    def choose(self, facts: Facts) -> Choice:
        """The model that it says; of one candidate, that."""
        ...


class Threshold:
    """The cheapest candidate whose win rate is below it; none: the strongest. With two models RouteLLM's rule."""

    def __init__(self, value: float, name: str = "threshold") -> None:
        self.value, self.name = value, name
        self.spent = name == BUDGET and value >= 1

    def choose(self, facts: Facts) -> Choice:
        model = greedy(facts.win_rates, facts.candidates, self.value)
        if model == facts.candidates[0]:
            return Choice(model, self.value, f"no cheaper candidate's win rate is below {self.value:.3f}")
        return Choice(model, self.value, f"win rate {facts.win_rates[model]:.3f} is below {self.value:.3f}")


class Priced:
    """The candidate with the most `quality - rate * dollars`; of equals, the cheaper one.

    Against the strongest model s that is a threshold of its own for each: win rate < 1/2 + rate * (c_s - c_m) / 2.
    """

    name, spent = "lambda", False

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def choose(self, facts: Facts) -> Choice:
        assert facts.costs is not None
        worth = {model: -facts.gap(model) - self.rate * facts.costs[model] for model in facts.candidates}
        model = max(reversed(facts.candidates), key=worth.__getitem__)
        strongest, *cheaper = facts.candidates
        compared = model if model != strongest or not cheaper else max(cheaper, key=worth.__getitem__)
        at_par = -worth[strongest] - self.rate * facts.costs[compared]  # the gap at which both are worth the same
        return Choice(model, _bounded(0.5 + at_par / 2), f"most quality less {self.rate:g} times the dollars")


class Target:
    """The cheapest candidate whose quality is at least the target; none: the one of the best quality."""

    name, spent = "quality target", False

    def __init__(self, value: float) -> None:
        self.value = value

    def choose(self, facts: Facts) -> Choice:
        assert facts.quality is not None
        quality = facts.quality
        good = [model for model in facts.candidates if quality[model] >= self.value]
        model = good[-1] if good else max(facts.candidates, key=quality.__getitem__)
        strongest = quality[next(iter(facts.win_rates))]
        threshold = _bounded(0.5 + (strongest - self.value) / 2)
        if good:
            return Choice(model, threshold, f"quality {quality[model]:.3f} reaches {self.value:.3f}")
        return Choice(model, threshold, f"no candidate's quality reaches {self.value:.3f}: the best")


def greedy(win_rates: Mapping[str, float], candidates: Sequence[str], threshold: float) -> str:
    """The cheapest candidate whose win rate is below the threshold; none: the strongest candidate."""
    for model in reversed(candidates[1:]):
        if win_rates[model] < threshold:
            return model
    return candidates[0]


def probabilities(choice: str, candidates: Sequence[str], exploration: float) -> dict[str, float]:
    """P(model) for every candidate: `exploration` in [0, 1] spread evenly over all of them, the rest on `choice`."""
    share = exploration / len(candidates)
    return {model: share + (1 - exploration) * (model == choice) for model in candidates}


def _bounded(rate: float) -> float:
    return min(max(rate, 0.0), 1.0)
