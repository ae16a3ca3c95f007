"""What fed a decision, from its record alone: above all what would have been chosen at other levels of its policy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations, pairwise
from typing import Any, NamedTuple

from scorer.decisions import Decision
from scorer.policy import Facts, Priced, Target, Threshold


class Step(NamedTuple):
    """The model that the policy chooses at levels from `above` to `up_to`; None: without end."""

    above: float | None
    up_to: float | None
    model: str


def explain(decision: Decision) -> dict[str, Any]:
    """`level`: what the steps are steps of; `otherwise`: the same in words, for the models that were not chosen."""
    facts = Facts(tuple(decision.probabilities), decision.win_rates, decision.quality, decision.costs)
    level, found = _steps(decision, facts)
    return {
        "level": level,
        "steps": [step._asdict() for step in found],
        "otherwise": [_said(level, step) for step in found if step.model != decision.model],
    }


def _steps(decision: Decision, facts: Facts) -> tuple[str, list[Step]]:
    if decision.policy == Priced.name and facts.costs is not None:
        costs = facts.costs
        crossings = [
            (facts.gap(b) - facts.gap(a)) / (costs[a] - costs[b])
            for a, b in combinations(facts.candidates, 2)
            if costs[a] != costs[b]
        ]
        return "lambda", steps((one for one in crossings if one > 0), lambda at: Priced(at).choose(facts).model)
    if decision.policy == Target.name and facts.quality is not None:
        quality = [facts.quality[model] for model in facts.candidates]
        return "quality target", steps(quality, lambda at: Target(at).choose(facts).model)
    rates = [facts.win_rates[model] for model in facts.candidates[1:]]
    return "threshold", steps(rates, lambda at: Threshold(at).choose(facts).model)


def steps(points: Iterable[float], choose: Callable[[float], str]) -> list[Step]:
    """What is chosen between the points at which the choice may change, neighbours alike joined."""
    cuts = sorted(set(points))
    if not cuts:
        return [Step(None, None, choose(0.0))]
    between = [cuts[0] - 1.0, *((low + high) / 2 for low, high in pairwise(cuts)), cuts[-1] + 1.0]
    found: list[Step] = []
    for low, high, at in zip([None, *cuts], [*cuts, None], between, strict=True):
        model = choose(at)
        if found and found[-1].model == model:
            found[-1] = found[-1]._replace(up_to=high)
        else:
            found.append(Step(low, high, model))
    return found


def _said(level: str, step: Step) -> str:
    ends = [] if step.above is None else [f"above {step.above:.4g}"]
    ends += [] if step.up_to is None else [f"up to {step.up_to:.4g}"]
    return f"{level} {' and '.join(ends) or 'of any size'}: {step.model}"
