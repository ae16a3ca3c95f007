"""Everything between the scores and the draw: what a guard, a rule or a pin fixes, else the policy's choice and
exploration. Pure, so that propensities are exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from scorer import policy, sessions
from scorer.guards import Guarded
from scorer.policy import Choice, Facts, Policy
from scorer.rules import Rule
from scorer.sections import Sessions
from scorer.sessions import Pin


class Circumstances(NamedTuple):
    """What a decision is made under, beside its scores."""

    guarded: Guarded
    rule: Rule | None = None
    pin: Pin | None = None
    continuation: bool = False  # in the middle of a tool loop
    blank: bool = False  # no text to score
    exploration: float = 0.0
    sessions: Sessions = Sessions()
    warm_costs: Mapping[str, float] | None = None  # as the facts' costs, with the pinned model's cache
    away: bool = False  # the database did not say whether there is a pin


class Weighed(NamedTuple):
    """P(model) over the candidates, what the policy chose, what left no choice (guard, rule, session, tool_loop or
    None), and why."""

    probabilities: dict[str, float]
    choice: Choice
    pinned: str | None
    why: str


def weigh(facts: Facts, chosen: Policy, under: Circumstances) -> Weighed:
    """What is fixed is certain; else every candidate has its share of exploration, and the choice the rest."""
    choice = chosen.choose(facts)
    fixed = _fixed(facts, choice, under)
    if fixed is not None:
        model, pinned, why = fixed
        return Weighed(policy.probabilities(model, facts.candidates, 0.0), choice, pinned, why)
    if under.blank:
        strongest = facts.candidates[0]
        choice = choice._replace(model=strongest, why="no text to score: the strongest candidate")
        return Weighed(policy.probabilities(strongest, facts.candidates, 0.0), choice, None, choice.why)
    return Weighed(policy.probabilities(choice.model, facts.candidates, under.exploration), choice, None, choice.why)


def reason(weighed: Weighed, model: str, under: Circumstances) -> str:
    """Why this model was drawn, in one line."""
    explored = weighed.pinned is None and model != weighed.choice.model
    parts = [f"explored; the rule says {weighed.choice.model}" if explored else weighed.why]
    if under.rule is not None and under.rule.router is not None:
        parts.append(f"rule {under.rule.name!r} asks {under.rule.router}")
    if under.guarded.forced:
        parts.append("no candidate can do it, the strongest may try")
    if under.guarded.left_out:
        parts.append("left out: " + ", ".join(f"{name} ({why})" for name, why in under.guarded.left_out.items()))
    if under.away:
        parts.append("the database did not say what the session is on")
    return "; ".join(parts)


def _fixed(facts: Facts, choice: Choice, under: Circumstances) -> tuple[str, str, str] | None:
    """The model that nothing can change, what fixes it, and why; None: there is a choice."""
    if len(facts.candidates) == 1:
        return facts.candidates[0], "guard", "the only candidate"
    warm = facts._replace(costs=under.warm_costs)
    pin, rule = under.pin, under.rule
    held = pin and sessions.hold(pin, warm, choice, under.continuation, under.sessions)
    if held and held.by == "tool_loop":
        return held.model, held.by, held.why
    if rule is not None and rule.model is not None:
        return rule.model, "rule", f"rule {rule.name!r}"
    return (held.model, held.by, held.why) if held else None
