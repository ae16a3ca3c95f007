"""Rules: the plain needs that come before any router. The first one that matches counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from scorer.requests import RouteRequest
from scorer.sections import RuleConfig


class Rule(NamedTuple):
    """Where `matches` (the request, the text to score), it goes to the model, or is asked of the router."""

    name: str
    model: str | None
    router: str | None
    matches: Callable[[RouteRequest, str], bool]


def prepare(configured: Sequence[RuleConfig]) -> tuple[Rule, ...]:
    """In their order, ready to match."""
    return tuple(Rule(one.name, one.model, one.router, _matcher(one)) for one in configured)


def first(rules: Sequence[Rule], request: RouteRequest, text: str, candidates: Collection[str]) -> Rule | None:
    """The first that matches. One whose model the guards left out does not count."""
    for rule in rules:
        if (rule.model is None or rule.model in candidates) and rule.matches(request, text):
            return rule
    return None


def _matcher(rule: RuleConfig) -> Callable[[RouteRequest, str], bool]:
    """All that the rule says must hold."""
    regex = re.compile(rule.regex) if rule.regex else None
    keywords = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, rule.keywords))})(?!\w)", re.IGNORECASE)

    def matches(request: RouteRequest, text: str) -> bool:
        return (
            (not rule.keys or request.key in rule.keys)
            and (not rule.teams or request.team in rule.teams)
            and rule.metadata.items() <= request.metadata.items()
            and (not rule.keywords or keywords.search(text) is not None)
            and (regex is None or regex.search(text) is not None)
        )

    return matches
