"""Small regressions that estimates lean on: cross-fitted ridge for outcomes, logistic regression for who rates."""

from __future__ import annotations

import numpy as np

from feedback.ope import Floats, Ints, at

FOLDS = 5
_RIDGES = (30.0, 100.0, 300.0, 1000.0)  # of contexts with columns of about unit variance
_OWN = 0.5  # how readily a model departs from what all share; 1: as readily as all do together
_DOUBT = 10.0  # decisions that a model's mean is pulled to the mean of all with
_STEPS = 50


def cross_fitted(context: Floats, chosen: Ints, outcome: Floats, cluster: Ints, models: int) -> Floats:
    """(n, models): the outcome to expect of every model, each decision's from the other folds of clusters.

    One ridge over all models: a mean each, what the context (n, k) tells about all of them (the difficulty they share),
    and a shrunken departure of each. Outcomes (n,) that are NaN are predicted and not learned from. The ridge is the
    one that predicts best across folds.
    """
    known = ~np.isnan(outcome)
    if not known.any():
        return np.zeros((len(chosen), models))
    fold = _folds(cluster)
    best, least = np.zeros(0), np.inf
    predicted = np.empty((len(_RIDGES), len(chosen), models))
    for number in range(FOLDS):
        inside, training = fold == number, known & (fold != number)
        predicted[:, inside] = _fit(context[training], chosen[training], outcome[training], models, context[inside])
    for each in np.clip(predicted, outcome[known].min(), outcome[known].max()):
        loss = ((outcome - at(each, chosen))[known] ** 2).mean()
        if loss < least:
            best, least = each, loss
    return best


def logistic(x: Floats, y: Floats, penalty: float = 1.0) -> Floats:
    """(k,) coefficients of P(y = 1 | x (n, k)), with a ridge `penalty` on each; Newton's method."""
    beta = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        p = sigmoid(x @ beta)
        gradient = x.T @ (y - p) - penalty * beta
        hessian = (x.T * (p * (1 - p))) @ x + penalty * np.eye(len(beta))
        step = np.linalg.solve(hessian, gradient)
        beta = beta + step
        if np.abs(step).max() < 1e-9:
            break
    return beta


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    result: Floats = np.exp(-np.logaddexp(0, -x))
    return result


def _folds(cluster: Ints) -> Ints:
    """(n,): a fold for each cluster, dealt evenly at random, always alike."""
    names, place = np.unique(cluster, return_inverse=True)
    return np.random.default_rng(0).permutation(len(names))[place] % FOLDS


def _fit(context: Floats, chosen: Ints, outcome: Floats, models: int, asked: Floats) -> Floats:
    """(ridges, n, models) expectations for the contexts asked about."""
    if not len(outcome):
        return np.zeros((len(_RIDGES), len(asked), models))
    means = _means(chosen, outcome, models)
    design = _design(context, np.eye(models)[chosen])
    gram, moments = design.T @ design, design.T @ (outcome - means[chosen])
    fits = []
    for ridge in _RIDGES:
        beta = np.linalg.solve(gram + ridge * np.eye(len(gram)), moments)
        shared, *own = beta.reshape(models + 1, -1)
        fits.append(means + (asked @ shared)[:, None] + _OWN * asked @ np.array(own).T)
    return np.array(fits)


def _design(context: Floats, places: Floats) -> Floats:
    """(n, k (m + 1)): the context for all models, then for each its own where it was chosen."""
    own = _OWN * places[:, :, None] * context[:, None, :]
    return np.concatenate([context, own.reshape(len(context), -1)], axis=1)


def _means(chosen: Ints, outcome: Floats, models: int) -> Floats:
    """(m,): each model's mean, pulled to the mean of all."""
    counts = np.bincount(chosen, minlength=models)
    sums = np.bincount(chosen, weights=outcome, minlength=models)
    means: Floats = (sums + _DOUBT * outcome.mean()) / (counts + _DOUBT)
    return means
