"""Which units are served by something else than the others: a share of them, the same ones on every replica.

Each choice hashes the unit with a salt of its own, so that it is independent of the prompt, of the draw among models,
and of every other such choice; probabilities of models are then exact within an arm.
"""

from __future__ import annotations

from scorer import sampler

_HOLDBACK = "routerd/holdback/1\0"
_CANARY = b"routerd/canary/1\0"


def held_back(unit: str, router: str, number: int, share: float) -> bool:
    """Whether the version before goes on serving the unit; drawn anew with every activation of the router, by its
    number."""
    return sampler.uniform(unit, f"{_HOLDBACK}{router}/{number}\0".encode()) < share


def canary(unit: str, share: float) -> bool:
    """Whether the unit is the canary's. A larger share adds units and takes none away."""
    return sampler.uniform(unit, _CANARY) < share
