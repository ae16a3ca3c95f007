"""Metrics of routing: how much of the strong model's lead is kept at what share of strong calls. Pure, on arrays.

A routing curve is `share` (k,), rising from 0 (everything to the weak model) to 1 (everything to the strong one), and
`result` (k,), the mean result at each. PGR, APGR and CPT are RouteLLM's (arXiv 2406.18665, section 3.2); "the code"
is its evals/evaluate.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DECILES = np.linspace(0, 1, 11)  # the shares that the code measures at
MIDPOINTS = np.linspace(0.05, 0.95, 10)  # of ten equal intervals of the share


def pgr(result: Floats, weak: float, strong: float) -> Floats:
    """(k,) performance gap recovered, (r - r_weak) / (r_strong - r_weak): 0 at weak's level, 1 at strong's.

    NaN where both models are equally good.
    """
    gap: Floats = (result - weak) / ((strong - weak) or np.nan)
    return gap


def apgr(share: Floats, gap: Floats) -> float:
    """The paper's: the average of PGR over the share of strong calls, the integral of PGR, by trapezoids.

    Over the code's 11 points it is the code's (AUC - AUC_weak) / (AUC_strong - AUC_weak).
    """
    return float(np.trapezoid(gap, share))


def apgr_ten(share: Floats, gap: Floats) -> float:
    """The paper's approximation of that integral: the mean PGR at ten costs, (1/10) sum PGR(c_i).

    It does not print the c_i; the middles of ten equal intervals give random routing the 0.500 of its tables.
    """
    return float(np.interp(MIDPOINTS, share, gap).mean())


def cpt(share: Floats, gap: Floats, level: float) -> float:
    """CPT(level): the least share of strong calls that reaches a PGR of `level`, interpolated; NaN if none does.

    By the paper's definition, so also right where the gap falls again further on: the first crossing counts.
    """
    return _at(share, _first(gap >= level), gap, level)


def cpt_held(share: Floats, gap: Floats, level: float) -> float:
    """The least share from which on the PGR never falls below `level` again: the cautious CPT. NaN if it ends below.

    Never less than `cpt`, and equal to it where the gap rises all the way.
    """
    below = np.flatnonzero(~(gap >= level))  # NaN is below
    return _at(share, int(below[-1]) + 1 if len(below) else 0, gap, level)


def cpt_code(share: Floats, gap: Floats, level: float) -> float:
    """As the code has it: np.interp of the share over the PGR, silently wrong where that does not rise all the way."""
    return float(np.interp(level, gap, share))


def where_reached(result: Floats, level: float) -> float:
    """The first place (a fractional index into the curve) at which the result reaches `level`; NaN if nowhere."""
    return _at(np.arange(len(result), dtype=np.float64), _first(result >= level), result, level)


def at(place: float, values: Floats) -> float:
    """The value at a fractional index, NaN at NaN."""
    return float(np.interp(place, np.arange(len(values)), values)) if place == place else float("nan")


def _first(reached: NDArray[np.bool_]) -> int:
    k = int(reached.argmax())
    return k if reached[k] else len(reached)


def _at(share: Floats, k: int, gap: Floats, level: float) -> float:
    """The share between points k - 1 and k at which the gap, there crossing it, is `level`."""
    if k == len(gap) or not len(gap):
        return float("nan")
    if k == 0:
        return float(share[0])
    step = (level - gap[k - 1]) / (gap[k] - gap[k - 1])
    return float(share[k - 1] + step * (share[k] - share[k - 1]))
