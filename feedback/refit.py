"""The refit: a router's prior moved by all logged feedback, corrected for who was seen. Pure; knows no database.

Only the answer of the model that was chosen is rated, and it was chosen for what was believed of the prompt. So what
ratings say of a prompt's difficulty is learned from all of them together, whichever model served (the bar's vector),
and what sets a model apart is learned from its own, shrunken towards the prior and weighted by clipped inverse
propensity: what the policy seldom does counts more, and evens out what it prefers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedback.battles import Evidence
from scorer.battles import BAR, Battles, concatenate
from scorer.routers.factorization import Factorization, Ridge
from scorer.routers.similarity import Similarity

Floats = NDArray[np.float64]

GRID = tuple(Ridge(shared=shared, own=own) for shared in (0.7, 2.0) for own in (5.0, 15.0, 45.0))
CLIP = 4.0  # at most so many times the weight of a model that is always chosen
MOST_ROWS = 20_000  # that SW appends: a score costs a product with every row
LEAST = 1000  # ratings to choose a ridge by
_FOLDS = 3
_MOST = 6000  # battles that ridges are chosen on: a prior's precision does not depend on how many there are


def refit_mf(
    prior: Factorization,
    evidence: Evidence,
    *,
    ladder: Sequence[str] = (),
    like: Mapping[str, str] | None = None,
    ridge: Ridge | None = None,
    data: Mapping[str, Any] | None = None,
) -> Factorization:
    """MF refitted from its prior; new models of the ladder begin as the ones they are `like`. ridge None: the one of
    GRID that predicts held-out ratings best, and the default while there are fewer than LEAST to tell by."""
    if ridge is None:
        ridge = chosen_ridge(prior, evidence, ladder, like) if len(evidence) >= LEAST else Ridge()
    corrected = balanced(evidence)
    return prior.refit(corrected.battles, corrected.prompts, ladder=ladder, like=like, ridge=ridge, data=data)


def refit_sw(
    prior: Similarity,
    evidence: Evidence,
    mf: Factorization,
    *,
    ladder: Sequence[str],
    like: Mapping[str, str] | None = None,
    data: Mapping[str, Any] | None = None,
) -> Similarity:
    """SW with the newest MOST_ROWS ratings and comparisons appended; no rebuild. mf: refitted on the evidence,
    which says what the models that did not serve would have been rated."""
    router = prior.joined_by(ladder, like or {})
    if not len(evidence):
        return router
    recent = evidence.take(np.arange(len(evidence)) >= len(evidence) - MOST_ROWS)
    battles = imputed(recent, mf, ladder)
    return router.append(battles, replace(recent.prompts, texts=battles.prompts), data)


def imputed(evidence: Evidence, mf: Factorization, ladder: Sequence[str]) -> Battles:
    """The battles, and for every rating of a ladder's model what `mf` expects of the others on that prompt.

    Rankings come from rows on which both models fought, and of a routed prompt only one is rated. Left so, a region
    that one model always serves would be ranked by prompts from elsewhere.
    """
    battles = evidence.battles
    quality = mf.score(evidence.prompts, ladder).quality
    assert quality is not None
    parts = [battles]
    for column, model in enumerate(ladder):
        others = (battles.model_b == BAR) & np.isin(battles.model_a, ladder) & (battles.model_a != model)
        prompt, n = battles.prompt[others], int(others.sum())
        names = np.full(n, model), np.full(n, BAR)
        expected = quality[prompt, column]
        parts.append(Battles(battles.prompts, prompt, *names, expected, battles.weight[others], np.full(n, "expected")))
    return concatenate(parts)


def balanced(evidence: Evidence, clip: float = CLIP) -> Evidence:
    """Weights times clipped inverse propensity, the total unchanged."""
    battles = evidence.battles
    if not len(battles):
        return evidence
    weight = battles.weight * np.minimum(1 / evidence.propensity, clip)
    return replace(evidence, battles=replace(battles, weight=weight * (battles.weight.sum() / weight.sum())))


def chosen_ridge(
    prior: Factorization,
    evidence: Evidence,
    ladder: Sequence[str] = (),
    like: Mapping[str, str] | None = None,
    grid: Sequence[Ridge] = GRID,
) -> Ridge:
    """By cross-validation over prompts, the log loss of whose battles it compares; the first of equals.

    Unweighted: inverse propensities would make of it the loss on the few explored prompts.
    """
    fold = np.random.default_rng(0).permutation(len(evidence.prompts))[evidence.battles.prompt] % _FOLDS
    few = np.random.default_rng(1).permutation(len(evidence)) < _MOST
    losses = np.zeros(len(grid))
    for number in range(_FOLDS):
        training, held_out = evidence.take(few & (fold != number)), evidence.take(few & (fold == number))
        if not len(held_out):
            continue
        for i, ridge in enumerate(grid):
            fitted = prior.refit(training.battles, training.prompts, ladder=ladder, like=like, ridge=ridge)
            losses[i] += fitted.loss(held_out.battles, held_out.prompts) * held_out.battles.weight.sum()
    return grid[int(losses.argmin())]
