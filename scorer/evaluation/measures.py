"""Measures: every number that is reported of one routing curve, by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scorer.evaluation import metrics
from scorer.evaluation.metrics import DECILES, Floats
from scorer.evaluation.routing import Counts, Curve, Path

LEVELS = (20, 50, 80)  # percent of the gap: CPT
QUALITIES = (90, 95, 99)  # percent of the strongest model's result

Progress = Callable[[int, int], None]  # done, of how many


def measure(curve: Curve) -> dict[str, float]:
    """All measures; NaN for those that the curve does not have.

    apgr, apgr_ten, apgr_code; cpt_N, cpt_held_N, cpt_code_N: shares; share_N, cost_N: strong calls and mean cost a
    prompt where the result first reaches N % of the strongest model's; over_shuffled: apgr minus that of the same calls
    dealt at random. The paper's and the code's forms are of two models.
    """
    spent, gap = curve.spent, curve.pgr
    found = {"apgr": metrics.apgr(spent, gap), **_upstream(curve)}
    for level in LEVELS:
        found[f"cpt_{level}"] = metrics.cpt(spent, gap, level / 100)
        found[f"cpt_held_{level}"] = metrics.cpt_held(spent, gap, level / 100)
    priced = bool(curve.costs.any())
    for quality in QUALITIES:
        place = metrics.where_reached(curve.result, quality / 100 * curve.results[0])
        found[f"share_{quality}"] = metrics.at(place, curve.share)
        found[f"cost_{quality}"] = metrics.at(place, curve.cost) if priced else float("nan")
    dealt = curve.shuffled()
    found["over_shuffled"] = found["apgr"] - metrics.apgr(dealt.spent, dealt.pgr)
    return found


def _upstream(curve: Curve) -> dict[str, float]:
    names = ["apgr_ten", "apgr_code", *(f"cpt_code_{level}" for level in LEVELS)]
    if curve.mix.shape[1] > 2:
        return dict.fromkeys(names, float("nan"))
    at_deciles = np.interp(DECILES, curve.share, curve.pgr)
    cpts = [metrics.cpt_code(DECILES, at_deciles, level / 100) for level in LEVELS]
    values = [metrics.apgr_ten(curve.share, curve.pgr), metrics.apgr(DECILES, at_deciles), *cpts]
    return dict(zip(names, values, strict=True))


def drawn(path: Path, counts: Counts, progress: Progress = lambda done, total: None) -> dict[str, Floats]:
    """Each measure (draws,) on bootstrap samples; the same counts (draws, n) make two methods' draws paired."""
    rows = []
    for done, times in enumerate(counts, start=1):
        rows.append(measure(path.curve(times)))
        if not done % 50:
            progress(done, len(counts))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}
