from __future__ import annotations

from typing import Any

import litellm
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litellm.proxy import proxy_server

from gateway_plugin import failover

LADDER = ["large", "medium", "small", "tiny"]


@pytest.mark.parametrize(
    ("chosen", "others"),
    [
        ("tiny", ["small", "medium", "large"]),
        ("small", ["medium", "large", "tiny"]),
        ("large", ["medium", "small", "tiny"]),
        ("configured elsewhere", ["tiny", "small", "medium", "large"]),
    ],
)
def test_it_climbs_first_and_descends_then(chosen: str, others: list[str]) -> None:
    assert failover.above_then_below(chosen, LADDER) == others


@given(st.lists(st.text(min_size=1), unique=True, min_size=1), st.data())
def test_everybody_else_gets_one_turn(candidates: list[str], data: st.DataObject) -> None:
    chosen = data.draw(st.sampled_from(candidates))
    others = failover.above_then_below(chosen, candidates)
    assert sorted([*others, chosen]) == sorted(candidates)


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ({"probabilities": {"large": 1.0, "tiny": 0.0}}, ["large", "tiny"]),
        ({}, LADDER),
        ({"probabilities": 5}, LADDER),
    ],
)
def test_what_has_a_probability_is_left(answer: dict[str, object], left: list[str]) -> None:
    assert failover.left(LADDER, answer) == left


@pytest.mark.parametrize(
    ("data", "configured", "expected"),
    [
        ({}, [], [{"small": ["medium", "large", "tiny"]}]),
        ({}, [{"large": ["tiny"]}], [{"small": ["medium", "large", "tiny"]}]),
        ({}, [{"small": ["tiny"]}], None),
        ({}, [{"*": ["tiny"]}], None),
        ({"fallbacks": ["mine"]}, [], ["mine"]),
        ({"router_settings_override": {"fallbacks": [{"small": ["tiny"]}]}}, [], None),
        ({"router_settings_override": {"num_retries": 2}}, [], [{"small": ["medium", "large", "tiny"]}]),
    ],
)
def test_fallbacks_that_others_gave_are_kept(
    data: dict[str, Any], configured: list[Any], expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = [{"model_name": name, "litellm_params": {"model": f"openai/{name}"}} for name in LADDER]
    monkeypatch.setattr(proxy_server, "llm_router", litellm.Router(model_list=groups, fallbacks=configured))
    failover.climb(data, "small", LADDER)
    assert data.get("fallbacks") == expected


def test_a_single_candidate_has_nobody_to_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_server, "llm_router", None)
    data: dict[str, Any] = {}
    failover.climb(data, "small", ["small"])
    assert data == {}
