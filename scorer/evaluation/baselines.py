"""Baselines: what a router must beat. Scores that need no training, and routings that do not look."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scorer.evaluation.metrics import Floats
from scorer.evaluation.routing import Mixture
from scorer.routers.base import spread

NEIGHBOURS = 50
FOLDS = 10


def random(outcomes: Floats, costs: Floats) -> Mixture:
    """The expectation of random routing: uniform scores, spread over the ladder (n, m). With two models the straight
    line, whose APGR is 1/2 and CPT(x) is x.

    At threshold t the cheapest i rungs are within reach of a uniform score u with chance min(1, t (m - 1) / i), so the
    mix is linear in t between t = 1 / (m - 1), 2 / (m - 1), ...
    """
    models = outcomes.shape[1]
    thresholds = np.arange(models)[::-1] / (models - 1)
    rungs = np.arange(1, models)
    reach = np.minimum(1, thresholds[:, None] * (models - 1) / rungs)  # (m, m - 1): P(rung i or cheaper)
    reach = np.concatenate([np.ones((models, 1)), reach, np.zeros((models, 1))], axis=1)
    return Mixture(reach[:, :-1] - reach[:, 1:], outcomes, costs)


def prompt_length(texts: Sequence[str]) -> Floats:
    """(n,) scores: characters; the longer, the stronger."""
    return np.array([len(text) for text in texts], np.float64)


def on_ladder(scores: Floats, models: int) -> Floats:
    """(n, m) win rates of a single score (n,) of any scale: its quantile, spread over the ladder; ties stay ties."""
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(sizes) - sizes / 2
    return spread(middle[group] / len(scores), models)


def nearest_neighbours(
    embeddings: NDArray[np.float32], known: NDArray[np.float32], outcomes: Floats, k: int = NEIGHBOURS
) -> Floats:
    """(n, m) win rates: 1/2 + half the mean lead of the strongest model over each, on the k known prompts (unit rows,
    with outcomes (., m)) nearest by cosine."""
    similarity = embeddings @ known.T
    nearest = np.argpartition(-similarity, min(k, len(known)) - 1, axis=1)[:, :k]
    mean = outcomes[nearest].mean(axis=1)
    win_rates: Floats = 0.5 + (mean[:, :1] - mean) / 2
    return win_rates


def cross_fitted_neighbours(
    texts: Sequence[str], embeddings: NDArray[np.float32], outcomes: Floats, k: int = NEIGHBOURS, folds: int = FOLDS
) -> Floats:
    """(n, m) as above, each prompt from the other folds of the same benchmark: what labels of one's own would give.

    Folds go by a hash of the text, so that a repeated prompt is not its own neighbour.
    """
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    fold = np.array([int.from_bytes(digest[:8], "big") % folds for digest in digests])
    win_rates = np.full_like(outcomes, 0.5)
    for number in np.unique(fold):
        inside = fold == number
        if not inside.all():
            win_rates[inside] = nearest_neighbours(embeddings[inside], embeddings[~inside], outcomes[~inside], k)
    return win_rates


def best_mixture(costs: Floats, results: Floats) -> NDArray[np.intp]:
    """Which of m models, by mean cost and mean result, span the upper hull from the cheapest to the best, in order.

    No routing that does not look at the prompt is above the lines between them: RouterBench's "zero router" (arXiv
    2403.12031, section 3.3).
    """
    order = np.lexsort((-results, costs))
    hull: list[int] = []
    for model in order.tolist():
        if hull and results[model] <= results[hull[-1]]:
            continue
        while len(hull) > 1 and _below(costs, results, hull[-2], hull[-1], model):
            hull.pop()
        hull.append(model)
    return np.array(hull)


def _below(costs: Floats, results: Floats, a: int, b: int, c: int) -> bool:
    """Whether b lies on or below the line from a to c."""
    rise, run = results[c] - results[a], costs[c] - costs[a]
    return bool((results[b] - results[a]) * run <= rise * (costs[b] - costs[a]))
