"""What is known of models: the configuration first, LiteLLM's price map for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from scorer import models
from scorer.models import Model, Price, Size
from scorer.sections import Rung

LISTED: Mapping[str, Mapping[str, Any]] = {
    "gpt-4o": {
        "input_cost_per_token": 2.5e-6,
        "output_cost_per_token": 1e-5,
        "cache_read_input_token_cost": 1.25e-6,
        "max_input_tokens": 128_000,
        "supports_vision": True,
        "supports_function_calling": True,
    }
}


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "price_map", lambda: LISTED)


def test_a_call_costs_its_tokens_at_a_million_for_so_many_dollars() -> None:
    """1000 tokens at $2.5 and 200 at $10 are $0.0045; with 800 of the 1000 at $1.25, $0.001 less."""
    price = Price(2.5, 10, cached=1.25)
    assert price.dollars(1000, 200) == pytest.approx(0.0045)
    assert price.dollars(1000, 200, cached=800) == pytest.approx(0.0035)
    assert price.dollars(1000, 200, cached=5000) == pytest.approx(0.00325)  # no more than all of them
    assert Price(2.5, 10).dollars(1000, 200, cached=800) == pytest.approx(0.0045)


def test_gaps_are_filled_from_the_price_map() -> None:
    model = models.known([Rung("gpt-4o", window=4000)])["gpt-4o"]
    assert model.price == pytest.approx((2.5, 10.0, 1.25))
    assert (model.window, model.images, model.tools) == (4000, True, True)
    assert model.audio is False  # as LiteLLM reads a listed model without it
    assert model.json is None


def test_what_the_configuration_says_counts() -> None:
    rung = Rung("gpt-4o", price=(1.0, 2.0), images=False, tags={"region": "eu"})
    model = models.known([rung])["gpt-4o"]
    assert (model.price, model.images, model.tags) == (Price(1.0, 2.0, None), False, {"region": "eu"})


def test_a_group_of_another_name_says_which_model_it_is() -> None:
    assert models.known([Rung("ours", litellm="gpt-4o")])["ours"].window == 128_000


def test_nothing_is_known_of_a_model_that_nobody_describes() -> None:
    assert models.known([Rung("ours")])["ours"] == Model("ours")


def test_expected_costs_take_an_ordinary_answer_or_the_most_that_may_come() -> None:
    two = {"a": Model("a", Price(1, 10), answer_tokens=400), "b": Model("b", Price(1, 1), answer_tokens=100)}
    assert models.costs(two, Size(1000)) == pytest.approx({"a": 0.005, "b": 0.0011})
    assert models.costs(two, Size(1000, most_out=200)) == pytest.approx({"a": 0.003, "b": 0.0011})
    assert models.costs(two | {"c": Model("c")}, Size(1000)) is None


def test_only_the_model_that_has_read_it_has_it_in_its_cache() -> None:
    both = {name: Model(name, Price(1, 1, cached=0.1), answer_tokens=1) for name in "ab"}
    costs = models.costs(both, Size(1000, cached=1000), cache_of="a")
    assert costs == pytest.approx({"a": 0.000101, "b": 0.001001})


def test_litellms_own_map_is_read_from_its_file_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    models.price_map.cache_clear()
    pytest.importorskip("litellm")
    assert models.known([Rung("gpt-4o")])["gpt-4o"].price == pytest.approx((2.5, 10.0, 1.25))
