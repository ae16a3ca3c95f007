"""Sampler: hashing a unit is a fair, reproducible draw."""

from __future__ import annotations

import hashlib
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer import sampler


def test_number_of_a_unit_is_the_first_53_bits_of_its_salted_sha256() -> None:
    bits = bin(int(hashlib.sha256(b"routerd/draw/1\0session-7").hexdigest(), 16))[2:].zfill(256)[:53]
    assert sampler.uniform("session-7") == int(bits, 2) / 2**53


def test_the_same_unit_always_draws_the_same_model() -> None:
    probabilities = {"a": 0.5, "b": 0.5}
    assert len({sampler.draw(probabilities, "session-7") for _ in range(100)}) == 1


def test_shares_of_100000_units_match_their_probabilities() -> None:
    """Pearson's chi-squared with 2 degrees of freedom stays below its 99.9 % point, 13.82."""
    probabilities = {"a": 0.02, "b": 0.08, "c": 0.9}
    drawn = [sampler.draw(probabilities, f"unit-{i}") for i in range(100_000)]
    chi_squared = sum((drawn.count(m) - 1e5 * p) ** 2 / (1e5 * p) for m, p in probabilities.items())
    assert chi_squared < 13.82


def test_uniforms_of_consecutive_ids_are_uncorrelated() -> None:
    numbers = [sampler.uniform(f"unit-{i}") for i in range(20_000)]
    products = [(x - 0.5) * (y - 0.5) for x, y in itertools.pairwise(numbers)]
    assert abs(math.fsum(products) / len(products)) < 4 * (1 / 12) / math.sqrt(len(products))


@given(weights=st.lists(st.floats(0, 1), min_size=1, max_size=8).filter(lambda w: sum(w) > 0), unit=st.text())
def test_a_model_without_probability_is_never_drawn(weights: list[float], unit: str) -> None:
    total = sum(weights)
    probabilities = {f"m{i}": weight / total for i, weight in enumerate(weights)}
    if all(p == 0 for p in probabilities.values()):
        return
    assert probabilities[sampler.draw(probabilities, unit.encode("utf-8", "ignore").decode())] > 0


def test_nothing_to_draw_from_is_an_error() -> None:
    with pytest.raises(ValueError, match="no model has a positive probability"):
        sampler.draw({"a": 0.0}, "unit")
