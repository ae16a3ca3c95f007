"""Rules: the first that matches counts, and one of whose model guards left out does not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer import rules
from scorer.config import ConfigError, load
from scorer.requests import RouteRequest
from scorer.sections import RuleConfig

LADDER = ("strong", "weak")


def matched(rule: RuleConfig, text: str = "", **request: object) -> bool:
    found = rules.first(rules.prepare([rule]), msgspec.convert(request, RouteRequest), text, LADDER)
    return found is not None


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("Review this contract.", True),
        ("CONTRACT!", True),
        ("a non-disclosure agreement, please", True),
        ("contracts", False),  # whole words
        ("subcontract", False),
        ("", False),
    ],
)
def test_keywords_are_whole_words_in_any_case(text: str, matches: bool) -> None:
    rule = RuleConfig(name="legal", model="strong", keywords=("contract", "non-disclosure agreement"))
    assert matched(rule, text) is matches


def test_a_regular_expression_is_found_anywhere() -> None:
    rule = RuleConfig(name="sql", model="weak", regex=r"(?i)\bselect\b.*\bfrom\b")
    assert matched(rule, "Why is `SELECT * FROM t` slow?")
    assert not matched(rule, "from what I select")


def test_keys_teams_and_metadata_are_compared_as_they_come() -> None:
    assert matched(RuleConfig(name="r", model="weak", keys=("a", "b")), key="b")
    assert not matched(RuleConfig(name="r", model="weak", keys=("a",)))
    assert matched(RuleConfig(name="r", model="weak", teams=("x",)), team="x")
    both = RuleConfig(name="r", model="weak", metadata={"app": "billing", "tier": "1"})
    assert matched(both, metadata={"app": "billing", "tier": "1", "more": ""})
    assert not matched(both, metadata={"app": "billing"})


def test_all_that_a_rule_says_must_hold() -> None:
    rule = RuleConfig(name="r", model="weak", keywords=("hi",), teams=("x",))
    assert matched(rule, "hi", team="x")
    assert not matched(rule, "hi", team="y")
    assert not matched(rule, "ho", team="x")


def test_the_first_that_matches_counts_unless_its_model_is_left_out() -> None:
    prepared = rules.prepare(
        [
            RuleConfig(name="one", model="strong", keywords=("hi",)),
            RuleConfig(name="two", router="router-mf-p80", keywords=("hi",)),
        ]
    )
    first = rules.first(prepared, RouteRequest(), "hi", LADDER)
    second = rules.first(prepared, RouteRequest(), "hi", ("weak",))
    assert first is not None
    assert second is not None
    assert (first.name, second.name) == ("one", "two")
    assert rules.first(prepared, RouteRequest(), "ho", LADDER) is None


@given(word=st.text(st.characters(codec="utf-8"), min_size=1, max_size=5))
def test_a_keyword_is_no_pattern(word: str) -> None:
    assert matched(RuleConfig(name="r", model="weak", keywords=(word,)), f" {word} ")


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ("{name: r, model: strong, keywords: [a]}", None),
        ("{name: r, model: elsewhere, keywords: [a]}", "rules[0]: 'elsewhere' is not on the ladder (strong, weak)"),
        ("{name: r, router: router-zz, keywords: [a]}", "rules[0]: model 'router-zz': no router 'zz'"),
        ("{name: r, router: router-sw-p10, keywords: [a]}", "asks for a router that `routers` does not list"),
        ("{name: r, keywords: [a]}", "rule 'r': say either a model or a router"),
        ("{name: r, model: weak}", "rule 'r': say what it matches"),
        ("{name: r, model: weak, regex: '('}", "rule 'r': regex: missing )"),
        ("{name: r, model: weak, keyword: a}", "unknown field `keyword`; accepted: name, model, router, regex"),
    ],
)
def test_a_bad_rule_is_one_clear_line(rule: str, fault: str | None, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"ladder: [{{model: strong}}, {{model: weak}}]\nrules: [{rule}]\n")
    if fault is None:
        assert load(path).rules[0].model == "strong"
        return
    with pytest.raises(ConfigError) as error:
        load(path)
    assert fault in str(error.value)
    assert "\n" not in str(error.value)
