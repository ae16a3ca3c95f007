"""What a night is refused for before anything is compared, and a challenger however well it compares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feedback import signals
from feedback.battles import Evidence
from feedback.golden import Material
from scorer.battles import BAR
from scorer.routers.base import Prompts, Router

LEAST_JUDGED = 20.0  # verdicts to be expected; that there is none of them is then no chance

_ANOTHER_ENCODER = "encoded by another encoder"


def of_night(material: Material, least_raters: float) -> str:
    """Why nothing is to be learned from this, or ''."""
    training = material.training
    strange = training.dropped.get(_ANOTHER_ENCODER, 0)
    if strange > len(training):
        return f"another encoder: {strange} of {strange + len(training)} ratings were {_ANOTHER_ENCODER}"
    if one_class(training):
        return f"one class only: all {len(training)} ratings to learn from say the same"
    if material.raters < least_raters:
        return (
            f"few raters: the ratings to learn from are worth those of {material.raters:.1f} people, "
            f"{least_raters:g} are needed"
        )
    return ""


def one_class(training: Evidence) -> bool:
    """Whether all ratings are up, or all down: then no answer is known to be better than another. Comparisons tell that
    by themselves; signals are down always, and so no second class."""
    battles = training.battles
    rated = battles.outcome[(battles.model_b == BAR) & ~np.isin(battles.source, signals.KINDS)]
    compared = bool((battles.model_b != BAR).any())
    return bool(len(rated)) and not compared and bool((rated >= 0.5).all() or (rated <= 0.5).all())


def silent_judge(share: float, judged: float, since: float, decisions: int) -> str:
    """Why a judge must be thought broken, or ''. share: of the traffic that it is given; judged: when it spoke last
    (Unix seconds; 0: never); since, decisions: when the last run was, and how many there were from then on."""
    expected = share * decisions
    if not 0 < judged <= since or expected < LEAST_JUDGED:
        return ""
    return f"the judge has gone silent: no verdict since the last run, {expected:.0f} were to be expected"


def not_finite(router: Router, samples: Sequence[Prompts], ladder: Sequence[str]) -> str:
    """Why the router must not serve, or ''."""
    for prompts in filter(len, samples):
        scores = router.score(prompts, ladder)
        quality = scores.win_rates if scores.quality is None else scores.quality
        if not (np.isfinite(scores.win_rates).all() and np.isfinite(quality).all()):
            return "its scores are not all finite numbers"
    return ""
