"""The figures of a summary: which of its numbers each shows, and the words for who cannot see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from feedback.dashboard import figures, formats
from feedback.dashboard.figures import Spot
from feedback.dashboard.summary import Scores, Summary
from feedback.ope import Estimate
from feedback.report import Group, Line

_SHOWN = ("always cheapest", "as it was", "always strongest")  # lines of the report, from cheap to dear


@dataclass(frozen=True)
class Charts:
    """costs, ratings: by the name of a line or group. frontier: None where there is no estimate to draw."""

    lines: tuple[Line, ...]
    costs: dict[str, Markup]
    ratings: dict[str, Markup]
    frontier: Markup | None
    histogram: Markup


def of(found: Summary) -> Charts:
    by_name = {line.policy: line for line in found.what_if.lines}
    lines = tuple(by_name[name] for name in _SHOWN)
    return Charts(
        lines=lines,
        costs=_whiskers({line.policy: line.cost for line in lines}, _from_zero([line.cost for line in lines])),
        ratings=_whiskers(
            {group.name: group.rating for group in found.happened.groups}, _within(found.happened.groups)
        ),
        frontier=_frontier(found),
        histogram=_histogram(found.scores),
    )


def groups(found: Summary, models: Sequence[str]) -> tuple[list[Group], list[Group]]:
    """By model, and by version."""
    named = [group for group in found.happened.groups if group.name != "all"]
    return [one for one in named if one.name in models], [one for one in named if one.name not in models]


def _whiskers(estimates: dict[str, Estimate], stretch: tuple[float, float]) -> dict[str, Markup]:
    return {name: figures.whisker(one.value, one.low, one.high, stretch) for name, one in estimates.items()}


def _from_zero(estimates: Sequence[Estimate]) -> tuple[float, float]:
    values = [0.0, *(value for one in estimates for value in (one.value, one.high))]
    return 0.0, figures.span(values)[1]


def _within(groups: Sequence[Group]) -> tuple[float, float]:
    """A stretch of [0, 1] that holds all their ratings."""
    low, high = figures.span([end for group in groups for end in (group.rating.low, group.rating.high)], 0.2)
    return max(low, 0.0), min(high, 1.0)


def _frontier(found: Summary) -> Markup | None:
    curve = [Spot(1000 * one.cost, one.rating.value, one.rating.low, one.rating.high) for one in found.curve.points]
    drawn = [spot for spot in curve if spot.y == spot.y and spot.x == spot.x]
    if len(drawn) < 2:
        return None
    cost, rating = found.here.cost, found.here.snips
    here = Spot(1000 * cost.value, rating.value, rating.low, rating.high)
    label = (
        f"Mean rating against dollars a thousand requests: from {drawn[0].y:.3f} at {formats.dollars(drawn[0].x)} to "
        f"{drawn[-1].y:.3f} at {formats.dollars(drawn[-1].x)}; you are at {here.y:.3f} and {formats.dollars(here.x)}."
    )
    return figures.frontier(drawn, here, label, "dollars per 1,000 requests", "mean rating")


def _histogram(scores: Scores) -> Markup:
    label = f"Lowest win rates of {scores.requests:,} requests from {scores.edges[0]:.3f} to {scores.edges[-1]:.3f}"
    if scores.threshold is not None:
        label += f"; the threshold is {scores.threshold:.3f}"
    return figures.histogram(scores.edges, scores.recent, scores.known, scores.threshold, label)
