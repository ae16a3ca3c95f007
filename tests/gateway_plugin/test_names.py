from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_plugin import names
from gateway_plugin.names import ROUTERS, BadName, VirtualModel


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("router", VirtualModel()),
        ("router-mf", VirtualModel("mf")),
        ("router-mf-0.116", VirtualModel("mf", threshold=0.116)),
        ("router-mf-.5", VirtualModel("mf", threshold=0.5)),
        ("router-bert-0", VirtualModel("bert", threshold=0.0)),
        ("router-sw-1", VirtualModel("sw", threshold=1.0)),
        ("router-mf-p30", VirtualModel("mf", share=0.3)),
        ("router-random-p0", VirtualModel("random", share=0.0)),
        ("router-causal-p100", VirtualModel("causal", share=1.0)),
        ("router-boosted-p12.5", VirtualModel("boosted", share=0.125)),
        ("router-sw_ranking-0.2", VirtualModel("sw", threshold=0.2)),  # RouteLLM's own spellings
        ("router-causal_llm-0.2", VirtualModel("causal", threshold=0.2)),
    ],
)
def test_a_name_means(name: str, meaning: VirtualModel) -> None:
    assert names.parse(name) == meaning


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("router-", "no router ''"),
        ("router-nope", "no router 'nope'"),
        ("router-mf-", "threshold '' is not a number from 0 to 1"),
        ("router-mf-1.01", "threshold '1.01' is not a number from 0 to 1"),
        ("router-mf--0.5", "threshold '-0.5' is not a number from 0 to 1"),
        ("router-mf-1e-3", "threshold '1e-3' is not a number from 0 to 1"),
        ("router-mf-nan", "threshold 'nan' is not a number from 0 to 1"),
        ("router-mf-0.5-0.6", "threshold '0.5-0.6' is not a number from 0 to 1"),
        ("router-mf-p101", "share '101' is not a number from 0 to 100"),
        ("router-mf-p", "share '' is not a number from 0 to 100"),
        ("router-mf-\N{ARABIC-INDIC DIGIT ONE}", "is not a number from 0 to 1"),
        ("gpt-4o", "not a virtual model"),
    ],
)
def test_a_bad_name_says_what_is_wrong_and_what_is_accepted(name: str, fault: str) -> None:
    with pytest.raises(BadName) as raised:
        names.parse(name)
    message = str(raised.value)
    assert fault in message
    assert "accepted: router, router-<router>" in message
    assert all(router in message for router in ROUTERS)
    assert "\n" not in message


@pytest.mark.parametrize("model", ["router", "router-", "router-mf", "router-anything at all"])
def test_names_that_are_ours(model: str) -> None:
    assert names.is_virtual(model)


@pytest.mark.parametrize("model", ["routers", "router_mf", "Router-mf", " router", "gpt-4o", "", None, 5, ["router"]])
def test_names_that_are_not(model: object) -> None:
    assert not names.is_virtual(model)


@pytest.mark.parametrize("name", ["router-" + "x" * 10**6, "router-mf-" + "9" * 10**6, "router-mf-p" + "9" * 10**6])
def test_a_very_long_name_has_a_short_message(name: str) -> None:
    with pytest.raises(BadName) as raised:
        names.parse(name)
    assert len(str(raised.value)) < 500


@given(st.sampled_from(ROUTERS), st.integers(0, 10**6))
def test_every_threshold_survives_being_written_into_a_name(router: str, millionths: int) -> None:
    threshold = millionths / 10**6
    assert names.parse(f"router-{router}-{threshold:.6f}") == VirtualModel(router, threshold=threshold)


@given(st.text(max_size=80) | st.from_regex(r"\Arouter-[a-z_]*(-p?[0-9.]*)?\Z", fullmatch=True))
def test_any_text_is_parsed_or_refused_in_one_line(text: str) -> None:
    virtual, message = VirtualModel(), "not refused"
    try:
        virtual = names.parse(text)
    except BadName as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    assert len(message) < 1000
    assert virtual.router is None or virtual.router in ROUTERS
    assert virtual.threshold is None or 0 <= virtual.threshold <= 1
    assert virtual.share is None or 0 <= virtual.share <= 1
    assert names.is_virtual(text) or message != "not refused"
