"""LiteLLM's classifiers are asked as a gateway would ask them, and their tiers are thresholds on our scores."""

from __future__ import annotations

import pytest
from litellm.router_strategy.complexity_router import ComplexityRouter

from scorer.evaluation import classifiers

TEXTS = [
    "hello",
    "What is the capital of France?",
    "Prove step by step that every finite integral domain is a field; analyze the trade-offs of each approach.",
    "Write a Python function that implements a distributed lock over a database with retries and a deadlock check.",
    "If 3x + 7 = 22, solve the equation. A. 3 B. 5 C. 7 D. 9",
    "word " * 4000,
]
TIERS = ["SIMPLE", "MEDIUM", "COMPLEX", "REASONING"]


def tiers(name: str) -> list[int]:
    router = ComplexityRouter(
        model_name="gateway",
        litellm_router_instance=None,
        complexity_router_config={"classifier_type": name, "tiers": {}},
    )
    return [TIERS.index(router._classify_locally(text, None).tier.value) for text in TEXTS]


@pytest.mark.parametrize("name", classifiers.NAMES)
def test_the_lowest_tier_is_a_threshold_on_the_score(name: str) -> None:
    scores = classifiers.scores(name, TEXTS)
    lowest = [score for score, tier in zip(scores, tiers(name), strict=True) if tier == 0]
    higher = [score for score, tier in zip(scores, tiers(name), strict=True) if tier > 0]
    assert max(lowest) < min(higher)


def test_the_rules_tell_a_greeting_from_a_proof() -> None:
    greeting, _, proof, *_ = classifiers.scores("heuristic", TEXTS)
    assert greeting < proof


def test_the_trained_tiers_give_a_probability() -> None:
    scores = classifiers.scores("heuristic_v2", TEXTS)
    assert ((scores > 0) & (scores < 1)).all()
    assert len(set(scores.tolist())) > 2


def test_the_installed_version_is_known() -> None:
    assert (classifiers.installed() or "").startswith("1.")
