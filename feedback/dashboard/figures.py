"""Figures as SVG in the page: no script, no request of their own, colours from the style sheet.

All text is escaped by markupsafe. What a figure shows is also in a table beside it, so most are one image with a label.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

_WIDTH, _HEIGHT = 440, 260  # of a chart, in units that are pixels on a phone
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 14, 40
_ROW_WIDTH, _ROW_HEIGHT = 160, 18


class Spot(NamedTuple):
    """A point of a chart with its interval; low and high are NaN without one."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Axis:
    """A stretch of numbers and where it lies on the page."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, wanted: int = 4) -> list[float]:
        """Round numbers, 1, 2 or 5 times a power of ten apart."""
        step = _step((self.high - self.low) / wanted)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def span(values: Sequence[float], margin: float = 0.05) -> tuple[float, float]:
    """A stretch that holds them all, with some margin; finite and not empty whatever they are."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    room = margin * (high - low) or max(abs(high), 1.0) * margin
    return low - room, high + room


def whisker(value: float, low: float, high: float, stretch: tuple[float, float]) -> Markup:
    """A value with its interval, in a row of a table that says the same in figures."""
    axis = Axis(*stretch, 4, _ROW_WIDTH - 4)
    middle = _ROW_HEIGHT / 2
    drawn = [_line("rule", 0, middle, _ROW_WIDTH, middle)]
    if math.isfinite(low) and math.isfinite(high):
        drawn.append(_line("interval", axis.at(low), middle, axis.at(high), middle))
    if math.isfinite(value):
        drawn.append(_circle("dot", axis.at(value), middle, 3.5))
    return _aside(drawn)


def bar(value: float, mark: float | None) -> Markup:
    """A number in [0, 1], with a mark such as a threshold, in a row of a table that says the same in figures."""
    axis = Axis(0, 1, 0, _ROW_WIDTH)
    drawn = [
        _rectangle("track", 0, 5, _ROW_WIDTH, _ROW_HEIGHT - 10),
        _rectangle("fill", 0, 5, axis.at(min(max(value, 0), 1)), _ROW_HEIGHT - 10),
    ]
    if mark is not None and 0 <= mark <= 1:
        drawn.append(_line("mark", axis.at(mark), 1, axis.at(mark), _ROW_HEIGHT - 1))
    return _aside(drawn)


def frontier(curve: Sequence[Spot], here: Spot, label: str, x_label: str, y_label: str) -> Markup:
    """A curve of estimates from left to right, and where we are on it."""
    spots = [spot for spot in (*curve, here) if math.isfinite(spot.x) and math.isfinite(spot.y)]
    x = Axis(*span([spot.x for spot in spots]), _LEFT, _WIDTH - _RIGHT)
    heights = [value for spot in spots for value in (spot.y, spot.low, spot.high)]
    y = Axis(*span(heights), _HEIGHT - _BOTTOM, _TOP)
    shown = [spot for spot in curve if spot in spots]
    drawn = [*_frame(x, y, x_label, y_label, _money, _plain)]
    drawn += [_upright("interval soft", one, x, y) for one in _sure(shown)]
    drawn.append(_path("curve", [(x.at(one.x), y.at(one.y)) for one in shown]))
    drawn += [_circle("point", x.at(one.x), y.at(one.y), 2.5) for one in shown]
    if here in spots:
        drawn += [_upright("interval here", here, x, y) for here in _sure([here])]
        drawn += [_circle("halo", x.at(here.x), y.at(here.y), 8), _circle("dot", x.at(here.x), y.at(here.y), 5)]
        late = x.at(here.x) > _WIDTH - 120
        offset, anchor = (-12, "end") if late else (12, "start")
        drawn.append(_text("here", x.at(here.x) + offset, y.at(here.y) + 20, "you are here", anchor))
    return _image(drawn, label)


def histogram(
    edges: Sequence[float], recent: Sequence[float], known: Sequence[float] | None, threshold: float | None, label: str
) -> Markup:
    """Shares of requests by score as bars, those of the calibration as a line of steps, and the threshold."""
    highest = max([*recent, *(known or ()), 1e-9])
    x = Axis(edges[0], edges[-1], _LEFT, _WIDTH - _RIGHT)
    y = Axis(0, highest * 1.08, _HEIGHT - _BOTTOM, _TOP)
    drawn = [*_frame(x, y, "lowest win rate over the cheaper models", "share of requests", _plain, _percent)]
    for (left, right), share in zip(itertools.pairwise(edges), recent, strict=True):
        top = y.at(share)
        drawn.append(_rectangle("fill", x.at(left) + 0.5, top, max(x.at(right) - x.at(left) - 1, 0.5), y.start - top))
    if known:
        ends = [edge for pair in itertools.pairwise(edges) for edge in pair]
        heights = [share for share in known for _ in range(2)]
        drawn.append(_path("known", [(x.at(edge), y.at(share)) for edge, share in zip(ends, heights, strict=True)]))
    if threshold is not None and edges[0] <= threshold <= edges[-1]:
        place = x.at(threshold)
        drawn.append(_line("mark", place, _TOP, place, y.start))
        offset, anchor = (-5, "end") if place > _WIDTH - 110 else (5, "start")
        drawn.append(_text("here", place + offset, _TOP + 10, f"threshold {threshold:.3f}", anchor))
    return _image(drawn, label)


def _frame(
    x: Axis, y: Axis, x_label: str, y_label: str, x_words: Callable[[float], str], y_words: Callable[[float], str]
) -> Iterator[Markup]:
    """Grid lines, their numbers and what they are of."""
    for tick in y.ticks():
        yield _line("grid", x.start, y.at(tick), x.end, y.at(tick))
        yield _text("tick", x.start - 6, y.at(tick) + 4, y_words(tick), "end")
    for tick in x.ticks(6):
        yield _line("grid", x.at(tick), y.start, x.at(tick), y.start + 4)
        yield _text("tick", x.at(tick), y.start + 17, x_words(tick), "middle")
    yield _line("axis", x.start, y.start, x.end, y.start)
    yield _text("label", x.end, _HEIGHT - 5, x_label, "end")
    yield _text("label", 2, _TOP - 3, y_label, "start")


def _upright(kind: str, spot: Spot, x: Axis, y: Axis) -> Markup:
    """A point's interval."""
    return _line(kind, x.at(spot.x), y.at(spot.low), x.at(spot.x), y.at(spot.high))


def _sure(spots: Sequence[Spot]) -> list[Spot]:
    return [spot for spot in spots if math.isfinite(spot.low) and math.isfinite(spot.high)]


def _step(least: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(power * times for times in (1, 2, 5, 10) if power * times >= least * (1 - 1e-9))


def _plain(value: float) -> str:
    return f"{value:.4g}" if abs(value) > 1e-9 else "0"


def _money(value: float) -> str:
    return f"${_plain(value)}"


def _percent(value: float) -> str:
    return f"{_plain(100 * value)} %"


def _image(drawn: Sequence[Markup], label: str) -> Markup:
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(_WIDTH, _HEIGHT, label)
    return head + Markup("").join(drawn) + Markup("</svg>")


def _aside(drawn: Sequence[Markup]) -> Markup:
    """Beside figures that say the same; screen readers need it not."""
    head = Markup('<svg class="row" viewBox="0 0 {0} {1}" width="{0}" height="{1}" aria-hidden="true">')
    head = head.format(_ROW_WIDTH, _ROW_HEIGHT)
    return head + Markup("").join(drawn) + Markup("</svg>")


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    places = map(_number, (x1, y1, x2, y2))
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, *places)


def _circle(kind: str, x: float, y: float, radius: float) -> Markup:
    return Markup('<circle class="{}" cx="{}" cy="{}" r="{}"/>').format(kind, _number(x), _number(y), _number(radius))


def _rectangle(kind: str, x: float, y: float, width: float, height: float) -> Markup:
    places = map(_number, (x, y, width, height))
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(kind, *places)


def _path(kind: str, places: Sequence[tuple[float, float]]) -> Markup:
    drawn = " ".join(f"{_number(x)},{_number(y)}" for x, y in places)
    return Markup('<polyline class="{}" points="{}"/>').format(kind, drawn)


def _text(kind: str, x: float, y: float, words: str, anchor: str) -> Markup:
    places = map(_number, (x, y))
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(kind, *places, anchor, words)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
