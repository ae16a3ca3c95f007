"""Figures as SVG: where things lie, and that whatever they are given is finite, closed and escaped."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from feedback.dashboard import figures, formats
from feedback.dashboard.figures import Axis, Spot
from feedback.ope import Estimate

NAN = math.nan
NUMBERS = st.floats(-1e6, 1e6) | st.just(NAN)


def drawn(svg: Markup) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)
    assert "nan" not in str(svg)
    assert "inf" not in str(svg)
    return root


def test_whisker_lies_where_its_numbers_say() -> None:
    rule, interval, dot = drawn(figures.whisker(0.5, 0.25, 0.75, (0.0, 1.0)))
    assert (rule.get("x1"), rule.get("x2")) == ("0", "160")
    assert (interval.get("x1"), interval.get("x2"), dot.get("cx")) == ("42", "118", "80")


def test_whisker_without_an_interval_is_a_dot_and_without_a_value_a_rule() -> None:
    assert [one.get("class") for one in drawn(figures.whisker(0.5, NAN, NAN, (0, 1)))] == ["rule", "dot"]
    assert [one.get("class") for one in drawn(figures.whisker(NAN, NAN, NAN, (0, 1)))] == ["rule"]


def test_bar_is_as_long_as_its_share_with_the_mark_on_it() -> None:
    _, fill, mark = drawn(figures.bar(0.25, 0.5))
    assert (fill.get("width"), mark.get("x1")) == ("40", "80")


def test_frontier_says_where_we_are() -> None:
    curve = [Spot(1, 0.8, 0.7, 0.9), Spot(2, 0.85, NAN, NAN), Spot(4, 0.9, 0.85, 0.95)]
    root = drawn(figures.frontier(curve, Spot(2, 0.86, 0.8, 0.9), "a < b", "x", "y"))
    assert root.get("aria-label") == "a < b"
    assert [one.text for one in root if one.get("class") == "here"] == ["you are here"]
    places = next(one for one in root if one.get("class") == "curve").get("points", "").split()
    assert len(places) == 3
    across = [float(place.split(",")[0]) for place in places]
    assert across[2] - across[0] == pytest.approx(3 * (across[1] - across[0]), abs=0.3)


def test_histogram_has_a_bar_for_each_bin_and_steps_for_the_calibration() -> None:
    root = drawn(figures.histogram([0.0, 0.5, 1.0], [0.25, 0.75], [0.5, 0.5], 0.5, "label"))
    heights = [float(one.get("height", "")) for one in root if one.get("class") == "fill"]
    assert heights[1] == pytest.approx(3 * heights[0], rel=0.01)
    assert len(next(one for one in root if one.get("class") == "known").get("points", "").split()) == 4
    assert [one.text for one in root if one.get("class") == "here"] == ["threshold 0.500"]


@pytest.mark.parametrize(
    ("low", "high", "ticks"), [(0, 1, [0, 0.5, 1]), (0.83, 0.91, [0.84, 0.86, 0.88, 0.9]), (-3, 9, [0, 5])]
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert Axis(low, high, 0, 100).ticks() == pytest.approx(ticks)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=6), st.text(max_size=20))
def test_any_frontier_is_finite_and_its_words_are_text(spots: list[tuple[float, ...]], words: str) -> None:
    printable = re.sub("[^ -~]", "", words)
    *curve, here = [Spot(*spot) for spot in [*spots, (0.0, 0.0, 0.0, 0.0)]]
    root = drawn(figures.frontier(curve, here, printable, printable, printable))
    assert root.get("aria-label") == printable
    assert printable in [one.text or "" for one in root if one.get("class") == "label"]


@given(st.lists(NUMBERS))
def test_span_holds_all_that_is_finite_and_is_never_empty(values: list[float]) -> None:
    low, high = figures.span(values)
    assert low < high
    assert all(low <= value <= high for value in values if math.isfinite(value))


def test_numbers_are_written_as_people_read_them() -> None:
    assert formats.number(1234.5, 1) == "1,234.5"
    assert formats.number(-0.25, 2) == "−0.25"
    assert formats.percent(0.4123) == "41.2\u202f%"
    assert formats.dollars(-1.5) == "−$1.50"
    assert [formats.number(NAN), formats.percent(None), formats.dollars(None)] == ["–"] * 3
    assert formats.between(Estimate(2, 1.25, 2.75, 0.4, 100), 1, 1) == "1.2 to 2.8"
    assert formats.between(Estimate(2, NAN, NAN, 0.4, 5)) == "–"
    time = '<time datetime="1970-01-01T00:00:00Z"><span>1970-01-01</span> <span>00:00</span></time>'
    assert formats.moment(0.0) == time
    assert formats.short("20260131-020000-1a2b3c4d") == "20260131-020000-1a2b3c4d"
    assert formats.short("a-very-long-name-for-a-version") == "a-very-lon…-version"
