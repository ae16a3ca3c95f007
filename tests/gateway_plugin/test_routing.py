from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_plugin import ids, routing
from gateway_plugin.routing import Routing

_ANSWER = {
    "mode": "route",
    "router": "mf",
    "version": "v3",
    "win_rates": {"strong": 0.5, "weak": 0.7125},
    "threshold": 0.75,
    "reason": "below the threshold",
}


def _routing() -> Routing:
    return Routing(ids.mint(), "router-mf", "acompletion", call_id="c1", session_id="s1", user="u1")


def test_a_decision_tells_the_chosen_models_win_rate() -> None:
    found = _routing()
    found.decide(_ANSWER, "weak", ["strong", "weak"])
    headers = found.headers()
    assert headers.pop("x-routerd-decision-id") == found.decision_id
    assert headers == {
        "x-routerd-router": "mf",
        "x-routerd-version": "v3",
        "x-routerd-model": "weak",
        "x-routerd-win-rate": "0.7125",
        "x-routerd-threshold": "0.7500",
        "x-routerd-status": "routed",
        "x-routerd-reason": "below the threshold",
    }


def test_a_rating_token_is_passed_on_whole() -> None:
    found, token = _routing(), f"{ids.mint()}.{10**10}.{'s' * 43}"
    found.decide(_ANSWER | {"rating_token": token}, "weak", ["strong", "weak"])
    assert found.headers()["x-routerd-rating-token"] == token
    assert "rating_token" not in found.outcome("success", {})


@pytest.mark.parametrize(
    ("model", "candidates", "win_rate"),
    [
        ("large", ["large", "medium", "small"], 0.6),  # the lowest of those it was preferred to
        ("medium", ["large", "medium", "small"], 0.6),
        ("small", ["large", "medium", "small"], 0.7),
        ("medium", ["medium", "small"], 0.7),  # the strongest that the key may use
        ("small", ["small"], None),
    ],
)
def test_the_win_rate_is_the_one_that_was_compared_with_the_threshold(
    model: str, candidates: list[str], win_rate: float | None
) -> None:
    found = _routing()
    found.decide({"win_rates": {"large": 0.5, "medium": 0.6, "small": 0.7}}, model, candidates)
    assert found.win_rate == win_rate


@pytest.mark.parametrize(
    "answer",
    [{}, {"win_rates": 5, "threshold": "x", "router": 1}, {"win_rates": {"weak": None}, "threshold": True}],
)
def test_missing_or_odd_parts_are_left_out(answer: dict[str, object]) -> None:
    found = _routing()
    found.decide(answer, "weak", ["strong", "weak"])
    assert set(found.headers()) == {"x-routerd-decision-id", "x-routerd-model", "x-routerd-status"}


def test_a_fallback_left_on_the_virtual_group_names_it() -> None:
    found = _routing()
    found.fall_back(None, "timeout")
    assert found.headers()["x-routerd-model"] == "router-mf"
    assert found.outcome("success", {})["chosen"] == "router-mf"


def test_an_outcome_of_a_decision_is_short() -> None:
    found = _routing()
    found.decide(_ANSWER, "weak", ["strong", "weak"])
    outcome = found.outcome("success", {"served": "weak", "cost": 0.0, "ttft_ms": None})
    assert outcome == {
        "decision_id": found.decision_id,
        "status": "success",
        "chosen": "weak",
        "served": "weak",
        "cost": 0.0,
        "call_id": "c1",
        "call_type": "acompletion",
    }


def test_an_outcome_of_a_fallback_can_be_rated_without_a_decision() -> None:
    found = _routing()
    found.fall_back("strong", "breaker open")
    outcome = found.outcome("success", {"served": "strong"})
    assert outcome["status"] == "fallback"
    assert outcome["requested"] == "router-mf"
    assert outcome["reason"] == "breaker open"
    assert (outcome["session_id"], outcome["user"]) == ("s1", "u1")
    assert outcome["created_at"] == pytest.approx(ids.minted_at(found.decision_id), abs=1)
    json.dumps(outcome)


@given(st.text(st.characters(exclude_categories=()), min_size=1), st.text(st.characters(exclude_categories=())))
def test_headers_are_latin_1_without_controls(model: str, reason: str) -> None:
    found = _routing()
    found.decide({"reason": reason}, model, [model])
    for value in found.headers().values():
        value.encode("latin-1")
        assert value.isprintable() or "\xa0" in value or "\xad" in value
        assert len(value) <= 200


def test_it_is_found_in_either_bucket_and_in_a_copy() -> None:
    found = _routing()
    assert routing.find({"a": 1}, {routing.KEY: found}) is found
    assert routing.find({routing.KEY: found}, None) is found
    assert routing.find(copy.deepcopy({routing.KEY: found})) == found


@pytest.mark.parametrize("forged", [{"decision_id": "x"}, "x", None, ["x"]])
def test_what_a_client_can_write_is_not_found(forged: object) -> None:
    assert routing.find({routing.KEY: forged}, "metadata", None) is None
