"""Weighing: what nothing can change, exploration, and propensities that are the frequencies drawn."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer import sampler, weighing
from scorer.guards import Guarded
from scorer.policy import Facts, Threshold
from scorer.rules import Rule
from scorer.sessions import Pin
from scorer.weighing import Circumstances

LADDER = ("large", "medium", "small")
FACTS = Facts(LADDER, {"large": 0.5, "medium": 0.6, "small": 0.7})
FREE = Circumstances(Guarded(LADDER, {}), exploration=0.3)


def rule(model: str | None = None, router: str | None = None) -> Rule:
    return Rule("legal", model, router, lambda request, text: True)


def pin(model: str) -> Pin:
    return Pin(session="s", requested="router", model=model, version="1", pinned_at=0, seen_at=0, tokens=0)


@pytest.mark.parametrize(
    ("under", "model", "pinned"),
    [
        (FREE._replace(rule=rule("large")), "large", "rule"),
        (FREE._replace(pin=pin("medium")), "medium", "session"),
        (FREE._replace(pin=pin("large"), continuation=True), "large", "tool_loop"),
        (FREE._replace(rule=rule("large"), pin=pin("medium")), "large", "rule"),  # a rule outranks a session
        (FREE._replace(rule=rule("large"), pin=pin("medium"), continuation=True), "medium", "tool_loop"),
        (FREE._replace(pin=pin("medium"), blank=True), "medium", "session"),
    ],
)
def test_what_is_pinned_is_certain_and_says_so(under: Circumstances, model: str, pinned: str) -> None:
    weighed = weighing.weigh(FACTS, Threshold(0.65), under)
    assert weighed.probabilities == {name: float(name == model) for name in LADDER}
    assert weighed.pinned == pinned
    assert not weighing.reason(weighed, model, under).startswith("explored")


def test_the_only_candidate_is_the_guards() -> None:
    under = FREE._replace(guarded=Guarded(("small",), {"large": "no images", "medium": "in cooldown"}))
    weighed = weighing.weigh(FACTS._replace(candidates=("small",)), Threshold(0.0), under)
    assert (weighed.probabilities, weighed.pinned) == ({"small": 1.0}, "guard")
    said = weighing.reason(weighed, "small", under)
    assert said == "the only candidate; left out: large (no images), medium (in cooldown)"


def test_without_text_the_strongest_candidate_is_certain_and_not_pinned() -> None:
    weighed = weighing.weigh(FACTS, Threshold(1.0), FREE._replace(blank=True))
    assert weighed.probabilities == {"large": 1.0, "medium": 0.0, "small": 0.0}
    assert weighed.pinned is None


def test_reasons_say_what_bore_on_the_choice() -> None:
    under = FREE._replace(rule=rule(router="router-mf-p80"), away=True)
    weighed = weighing.weigh(FACTS, Threshold(0.65), under)
    assert weighing.reason(weighed, "medium", under) == (
        "win rate 0.600 is below 0.650; rule 'legal' asks router-mf-p80; "
        "the database did not say what the session is on"
    )
    assert weighing.reason(weighed, "large", FREE) == "explored; the rule says medium"
    forced = FREE._replace(guarded=Guarded(LADDER[:1], {"large": "no audio"}, forced=True))
    weighed = weighing.weigh(FACTS._replace(candidates=LADDER[:1]), Threshold(0.65), forced)
    said = weighing.reason(weighed, "large", forced)
    assert said == "the only candidate; no candidate can do it, the strongest may try; left out: large (no audio)"


CIRCUMSTANCES = st.builds(
    Circumstances,
    guarded=st.just(Guarded(LADDER, {})),
    rule=st.none() | st.builds(rule, st.sampled_from(LADDER)),
    pin=st.none() | st.builds(pin, st.sampled_from(LADDER)),
    continuation=st.booleans(),
    blank=st.booleans(),
    exploration=st.floats(0, 1),
    warm_costs=st.none() | st.fixed_dictionaries(dict.fromkeys(LADDER, st.floats(0, 1))),
    away=st.booleans(),
)


@given(
    candidates=st.sets(st.sampled_from(LADDER), min_size=1),
    rates=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    threshold=st.floats(0, 1),
    under=CIRCUMSTANCES,
    unit=st.text(max_size=10),
)
def test_probabilities_sum_to_one_over_the_candidates_and_a_draw_can_be_made_again(
    candidates: set[str], rates: tuple[float, float], threshold: float, under: Circumstances, unit: str
) -> None:
    left = tuple(model for model in LADDER if model in candidates)
    if under.rule is not None and under.rule.model not in left:
        under = under._replace(rule=None)  # as rules.first has it
    facts = Facts(left, {"large": 0.5, "medium": rates[0], "small": rates[1]})
    weighed = weighing.weigh(facts, Threshold(threshold), under)
    assert tuple(weighed.probabilities) == left
    assert sum(weighed.probabilities.values()) == pytest.approx(1, abs=1e-12)
    drawn = sampler.draw(weighed.probabilities, unit)
    assert drawn in left
    assert sampler.draw(dict(weighed.probabilities), unit) == drawn
    if weighed.pinned:
        assert weighed.probabilities[drawn] == 1


@given(rates=st.tuples(st.floats(0, 1), st.floats(0, 1)), exploration=st.floats(0.05, 1))
def test_the_propensity_is_the_frequency_drawn(rates: tuple[float, float], exploration: float) -> None:
    """2,000 units: each model's count within five standard deviations of its probability's."""
    facts = Facts(LADDER, {"large": 0.5, "medium": rates[0], "small": rates[1]})
    weighed = weighing.weigh(facts, Threshold(0.5), FREE._replace(exploration=exploration))
    drawn = [sampler.draw(weighed.probabilities, f"unit-{i}") for i in range(2000)]
    for model, probability in weighed.probabilities.items():
        deviation = math.sqrt(2000 * probability * (1 - probability))
        assert abs(drawn.count(model) - 2000 * probability) <= 5 * deviation + 1e-6
