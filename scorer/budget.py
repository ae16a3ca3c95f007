"""A budget is kept by a threshold: what is left of it, over the calls that the rest of the day should bring, is what a
call may cost; the threshold is the one at which the last decisions would have cost that.

Planned anew every few seconds from what was spent, so whatever the plan got wrong (prices, lengths of answers, bursts)
is made good. Everything comes from the database: replicas agree, and a restart goes on where it was. Pure, but for the
threshold that `Steering` holds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from scorer.sections import Budget

SLOT_SECONDS = 900
DAY_SECONDS = 86_400
HISTORY_DAYS = 7
LEAST_SAMPLE = 100  # decisions to plan by; with fewer, the default's threshold stands

_PRIOR_DAYS = 0.1  # how much of a day the days before weigh in how many calls today will bring
_HOUR = 3600.0
_GRID = 201  # thresholds that are compared

Floats = NDArray[np.float64]


class Slot(msgspec.Struct, frozen=True):
    """What the decisions of a quarter of an hour came to."""

    start: int  # Unix seconds
    calls: int
    strong: int  # to the strongest model
    dollars: float  # as paid, and as expected where that is not known
    expected: float  # all as expected


class Sample(NamedTuple):
    """Recent decisions, by the model's place on the ladder: win rates (n, m), expected dollars (n, m)."""

    win_rates: Floats
    costs: Floats


class Steering:
    """The thresholds of a budget, by the versions of routers that they were planned for."""

    def __init__(self) -> None:
        self._planned: dict[str, float] = {}

    def threshold(self, version: str) -> float | None:
        """None: there is no plan for that version yet."""
        return self._planned.get(version)

    def steer(self, version: str, threshold: float | None) -> None:
        """Takes over a plan; None takes none over, and leaves the one for the same version."""
        if threshold is not None:
            self._planned[version] = threshold


def plan(budget: Budget, slots: Sequence[Slot], sample: Sample, now: float, exploration: float) -> float | None:
    """The threshold from now on; None: the sample is too small for one."""
    if len(sample.costs) < LEAST_SAMPLE:
        return None
    today = [slot for slot in slots if slot.start >= now - now % DAY_SECONDS]
    coming = remaining(slots, now)
    if budget.daily_dollars is not None:
        left = budget.daily_dollars - sum(slot.dollars for slot in today)
        costs = sample.costs * _overrun(slots)
    else:
        assert budget.strong_share is not None
        calls = sum(slot.calls for slot in today)
        coming = max(coming, float(LEAST_SAMPLE))  # the last call of the day need not make everything good
        left = budget.strong_share * (calls + coming) - sum(slot.strong for slot in today)
        costs = np.zeros_like(sample.costs)
        costs[:, 0] = 1.0
    return threshold_for(left / max(coming, 1.0), Sample(sample.win_rates, costs), exploration)


def threshold_for(dollars: float, sample: Sample, exploration: float = 0.0) -> float:
    """The lowest threshold, in [0, 1], at which the sample's mean call costs no more than that; 1 if none does. Costs
    fall as the threshold rises, where the ladder falls in price."""
    cheaper = sample.win_rates[:, 1:]
    grid = np.unique(np.quantile(cheaper, np.linspace(0, 1, _GRID)))
    grid = np.concatenate([[0.0], (grid[:-1] + grid[1:]) / 2, [1.0]])
    explored = exploration * sample.costs.mean()
    place = bisect_left(
        grid, True, key=lambda threshold: (1 - exploration) * _chosen(sample, threshold) + explored <= dollars
    )
    return float(grid[min(place, len(grid) - 1)])


def remaining(slots: Sequence[Slot], now: float) -> float:
    """Calls that the rest of the day should bring: as many more as today's pace and the days before say.

    The share of a day's calls that come by this time is that of the days before, up to a week, and of one more on which
    they come evenly. No fewer than a burst would bring that went on for another hour; without a day before, until
    midnight: a first day's morning says little.
    """
    midnight = now - now % DAY_SECONDS
    before = [slot for slot in slots if slot.start < midnight]
    calls = sum(slot.calls for slot in slots if slot.start >= midnight)
    days = len({slot.start // DAY_SECONDS for slot in before})
    elapsed = (now - midnight) / DAY_SECONDS
    lately = sum(slot.calls for slot in slots if slot.start >= now - _HOUR)
    if not days:
        by_now = max(elapsed, 1 / DAY_SECONDS)
        return (1 - by_now) * max(calls / by_now, lately * DAY_SECONDS / _HOUR, 1.0)
    usual = sum(slot.calls for slot in before)
    then = sum(slot.calls * _passed(slot, now - midnight) for slot in before) / max(usual, 1)
    by_now = (days * then + elapsed) / (days + 1)
    total = (calls + _PRIOR_DAYS * usual / days) / (by_now + _PRIOR_DAYS)
    return max(total * (1 - by_now), lately * min((DAY_SECONDS - now % DAY_SECONDS) / _HOUR, 1.0))


def _passed(slot: Slot, seconds: float) -> float:
    """How much of the slot, in [0, 1], lies before that many seconds of a day."""
    return min(max((seconds - slot.start % DAY_SECONDS) / SLOT_SECONDS, 0.0), 1.0)


def _overrun(slots: Sequence[Slot]) -> float:
    """What is paid for a dollar that was expected."""
    expected = sum(slot.expected for slot in slots)
    ratio = sum(slot.dollars for slot in slots) / expected if expected > 0 else 1.0
    return min(max(ratio, 0.1), 10.0)


def _chosen(sample: Sample, threshold: float) -> float:
    """Mean cost of what the threshold rule chooses."""
    below = sample.win_rates < threshold
    below[:, 0] = True  # the strongest stands in
    places = below.shape[1] - 1 - below[:, ::-1].argmax(axis=1)
    return float(np.take_along_axis(sample.costs, places[:, None], axis=1).mean())
