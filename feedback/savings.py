"""What routing saves: dollars a request, against sending everything to one end of the ladder.

What a request would have cost elsewhere is estimated as in the report (DR, feedback/ope.py): the difference of two of
its lines, on the same requests, so that its interval is shorter than theirs together.
"""

from __future__ import annotations

from dataclasses import dataclass

from feedback import costs, ope, policies
from feedback.logged import Log
from feedback.ope import Estimate


@dataclass(frozen=True)
class Savings:
    """requests: with a choice, that estimates can use. Dollars a request: below always the strongest candidate, and
    above always the cheapest one. part: of what the strongest would have cost; NaN where that is nothing."""

    requests: int
    below_strongest: Estimate
    above_cheapest: Estimate
    part: float


def savings(log: Log) -> Savings:
    """Of usable requests."""
    expected = costs.expected(log.chosen, log.cost, log.tokens_in, len(log.models))
    targets = (log.probabilities, policies.strongest(log.candidates), policies.cheapest(log.candidates))
    spent, strongest, cheapest = (ope.dr(log.logged, target, log.cost, expected) for target in targets)
    below = ope.difference(strongest, spent, log.cluster)
    whole = ope.estimate(strongest, log.cluster).value
    return Savings(
        requests=len(log),
        below_strongest=below,
        above_cheapest=ope.difference(spent, cheapest, log.cluster),
        part=below.value / whole if whole > 0 else float("nan"),
    )
