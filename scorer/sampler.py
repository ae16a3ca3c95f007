"""Probabilities and a unit to one model, drawn by hashing: a draw can be reproduced, and its propensity is exact."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

_SALT = b"routerd/draw/1\0"
JUDGED = b"routerd/judge/1\0"  # so that who is judged is drawn apart from who is routed where
_BITS = 53  # of a double's mantissa


def uniform(unit: str, salt: bytes = _SALT) -> float:
    """A number in [0, 1), the same for the same unit everywhere: the first 53 bits of a SHA-256."""
    digest = hashlib.sha256(salt + unit.encode()).digest()
    return math.ldexp(int.from_bytes(digest[:8], "big") >> (64 - _BITS), -_BITS)


def draw(probabilities: Mapping[str, float], unit: str) -> str:
    """The model whose slice of [0, 1) holds the unit's number; slices lie in the mapping's order."""
    point = uniform(unit)
    cumulative = 0.0
    drawn = ""
    for model, probability in probabilities.items():
        if probability <= 0:
            continue
        drawn = model  # the last possible model catches what rounding leaves above the sum
        cumulative += probability
        if point < cumulative:
            break
    if not drawn:
        raise ValueError("no model has a positive probability")
    return drawn
