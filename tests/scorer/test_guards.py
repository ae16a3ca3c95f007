"""Guards: who is left, and why others are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer import guards, requests
from scorer.guards import Guarded
from scorer.models import Model
from scorer.requests import Asked, RouteRequest

EU = {"region": "eu"}
MODELS = {
    "large": Model("large", window=8000, images=True, audio=True, tools=True, json=True),
    "medium": Model("medium", window=4000, images=True, audio=False, tools=True, json=False, tags=EU),
    "small": Model("small", window=2000, images=False, audio=False, tools=False, json=False, tags=EU),
    "unknown": Model("unknown"),
}


def asked(text: str = "hi", tags: dict[str, str] | None = None, **needs: bool | int) -> Asked:
    return Asked(text, needs, tags or {})


@pytest.mark.parametrize(
    ("needs", "left", "why"),
    [
        ({"images": True}, ("large", "medium", "unknown"), {"small": "no images"}),
        ({"audio": True}, ("large", "unknown"), {"medium": "no audio", "small": "no audio"}),
        ({"tools": True}, ("large", "medium", "unknown"), {"small": "no tools"}),
        ({"json": True}, ("large", "unknown"), dict.fromkeys(("medium", "small"), "no structured output")),
        ({"images": False, "tools": False}, tuple(MODELS), {}),
        ({"tokens": 1700}, tuple(MODELS), {}),  # 1,700 and an ordinary answer of 300 just fit
        ({"tokens": 1701}, ("large", "medium", "unknown"), {"small": "about 2001 tokens, its window holds 2000"}),
        ({"tokens": 500, "max_tokens": 1501}, ("large", "medium", "unknown"), None),
        ({"chars": 7800}, ("large", "medium", "unknown"), None),  # 1,716 tokens, as many for each as "hi" has
    ],
)
def test_a_model_that_cannot_is_left_out(
    needs: dict[str, bool | int], left: tuple[str, ...], why: dict[str, str] | None
) -> None:
    found = guards.narrow(MODELS, Asked("hi", needs, {}), None, ())
    assert found is not None
    assert found.candidates == left
    assert why is None or found.left_out == why
    assert not found.forced


def test_chinese_characters_count_as_more_than_a_token_each() -> None:
    """1,800 Chinese characters and an answer do not fit into 2,000 tokens; so many Latin ones do."""
    chinese, latin = asked("字" * 1800, chars=1800), asked("a" * 1800, chars=1800)
    assert guards.narrow(MODELS, chinese, ["small", "large"], ()) == Guarded(
        ("large",),
        {"medium": "not allowed", "small": "about 2820 tokens, its window holds 2000", "unknown": "not allowed"},
    )
    found = guards.narrow(MODELS, latin, None, ())
    assert found is not None
    assert "small" in found.candidates


def test_a_size_that_the_caller_tells_counts_for_more_than_what_it_sends() -> None:
    cases: list[tuple[dict[str, bool | int | str], float]] = [
        ({}, 1.0),
        ({"chars": 5000}, 1100.0),
        ({"chars": 5000, "tokens": 900}, 900.0),
    ]
    for needs, size in cases:
        assert requests.extract(RouteRequest(prompt="hi", needs=needs)).size.tokens_in == size


def test_a_model_in_cooldown_rests() -> None:
    found = guards.narrow(MODELS, asked(), None, ["large", "elsewhere"])
    assert found is not None
    assert found.candidates == ("medium", "small", "unknown")
    assert found.left_out == {"large": "in cooldown"}


def test_where_nobody_can_the_strongest_allowed_may_try() -> None:
    found = guards.narrow(MODELS, asked(audio=True), ["medium", "small"], ())
    assert found is not None
    assert (found.candidates, found.forced) == (("medium",), True)
    assert found.left_out["medium"] == "no audio"


def test_who_may_have_none_gets_none() -> None:
    assert guards.narrow(MODELS, asked(), [], ()) is None
    assert guards.narrow(MODELS, asked(), ["elsewhere"], ()) is None
    assert guards.narrow(MODELS, asked(tags={"region": "us"}), None, ()) is None


def test_a_tag_is_kept_even_where_nobody_who_has_it_can() -> None:
    found = guards.narrow(MODELS, asked(tags=EU, audio=True), None, ())
    assert found is not None
    assert (found.candidates, found.forced) == (("medium",), True)
    assert found.left_out["large"] == "not region: eu"


@given(
    needs=st.fixed_dictionaries({}, optional={need: st.booleans() for need in ("images", "audio", "tools", "json")}),
    tokens=st.integers(1, 10_000),
    most=st.integers(1, 3000),
    tags=st.sampled_from([{}, EU]),
    allowed=st.none() | st.lists(st.sampled_from([*MODELS, "elsewhere"])),
    cooldown=st.lists(st.sampled_from([*MODELS])),
)
def test_guards_are_never_passed(
    needs: dict[str, bool],
    tokens: int,
    most: int,
    tags: dict[str, str],
    allowed: list[str] | None,
    cooldown: list[str],
) -> None:
    found = guards.narrow(MODELS, Asked("hi", {**needs, "tokens": tokens, "max_tokens": most}, tags), allowed, cooldown)
    may = [n for n, m in MODELS.items() if (allowed is None or n in allowed) and tags.items() <= m.tags.items()]
    if found is None:
        assert not may
        return
    assert set(found.candidates) <= set(may)
    assert set(found.left_out) | set(found.candidates) == set(MODELS)
    if found.forced:
        assert found.candidates == (may[0],)
        return
    for name in found.candidates:
        model = MODELS[name]
        assert not any(wanted and getattr(model, need) is False for need, wanted in needs.items())
        assert model.window is None or tokens + most <= model.window
        assert name not in cooldown
