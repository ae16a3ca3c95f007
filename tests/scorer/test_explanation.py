"""Explanations: what would have been chosen at other levels, against the policy itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scorer.explanation import Step, explain
from scorer.policy import Facts, Priced, Target, Threshold
from tests.feedback.examples import a_decision
from tests.scorer.conftest import THREE, Start, route
from tests.scorer.test_deciding import logged

LADDER = ("strong", "medium", "cheap")


def test_steps_of_a_threshold_lie_at_the_win_rates() -> None:
    """Medium's win rate is 0.35, cheap's 0.2: medium is never the cheapest that is below."""
    told = explain(a_decision(policy="threshold"))
    assert told["level"] == "threshold"
    assert [Step(**step) for step in told["steps"]] == [Step(None, 0.2, "strong"), Step(0.2, None, "cheap")]
    assert told["otherwise"] == ["threshold up to 0.2: strong"]


def test_only_candidates_are_considered() -> None:
    told = explain(a_decision(probabilities={"medium": 1.0}, model="medium"))
    assert told["steps"] == [{"above": None, "up_to": None, "model": "medium"}]
    assert told["otherwise"] == []


def test_decisions_of_earlier_versions_are_explained_by_their_threshold() -> None:
    assert explain(a_decision())["level"] == "threshold"


@given(
    quality=st.tuples(*[st.floats(0, 1)] * 3),
    policy=st.sampled_from([Threshold, Priced, Target]),
    level=st.floats(0, 1),
)
def test_the_step_that_holds_a_level_is_what_the_policy_chooses_there(
    quality: tuple[float, ...], policy: type[Threshold] | type[Priced] | type[Target], level: float
) -> None:
    known = dict(zip(LADDER, quality, strict=True))
    rates = {model: 0.5 + (quality[0] - one) / 2 for model, one in known.items()}
    costs = {"strong": 0.01, "medium": 0.002, "cheap": 0.0005}
    at = level * (100 if policy is Priced else 1)
    name = {Threshold: "threshold", Priced: "lambda", Target: "quality target"}[policy]
    probabilities = dict.fromkeys(LADDER, 1 / 3)
    decision = a_decision(win_rates=rates, quality=known, costs=costs, policy=name, probabilities=probabilities)
    steps = [Step(**step) for step in explain(decision)["steps"]]
    ends = [end for step in steps for end in (step.above, step.up_to) if end is not None]
    if any(abs(end - at) < 1e-9 * max(1, at) for end in ends):
        return  # at a border rounding decides
    (holding,) = [s for s in steps if (s.above is None or s.above < at) and (s.up_to is None or at <= s.up_to)]
    assert holding.model == policy(at).choose(Facts(LADDER, rates, known, costs)).model


def test_the_endpoint_tells_it(start: Start) -> None:
    client = start(THREE)
    told = logged(client, route(client)["decision_id"])["explanation"]
    assert told["level"] == "threshold"  # type: ignore[index]
