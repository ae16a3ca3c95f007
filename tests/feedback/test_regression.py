"""Models of outcomes and of raters: what they find, and that no decision teaches about itself."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from feedback import raters, regression
from feedback.contexts import context
from feedback.ope import Logged, at


def test_logistic_agrees_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    x = np.concatenate([generator.normal(size=(500, 3)), np.ones((500, 1))], axis=1)
    y = (generator.random(500) < regression.sigmoid(x @ np.array([1.0, -2.0, 0.0, 0.5]))).astype(float)
    theirs = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-10, max_iter=1000).fit(x, y).coef_[0]
    assert regression.logistic(x, y, penalty=2.0) == pytest.approx(theirs, abs=1e-5)


def test_sigmoid_does_not_overflow() -> None:
    with np.errstate(all="raise", under="ignore"):
        assert regression.sigmoid(np.array([-1000.0, 0.0, 1000.0])) == pytest.approx([0, 0.5, 1])


def test_shared_difficulty_and_each_models_own_are_found() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(4000, 4))
    chosen = generator.integers(0, 2, 4000)
    expected = np.stack([0.6 + 0.1 * x[:, 0], 0.4 + 0.1 * x[:, 0] + 0.1 * x[:, 1]], axis=1)
    noisy = at(expected, chosen) + 0.1 * generator.normal(size=4000)
    found = regression.cross_fitted(x, chosen, noisy, np.arange(4000), 2)
    for model in (0, 1):
        unexplained = ((found - expected)[:, model] ** 2).mean() / expected[:, model].var()
        assert unexplained < 0.02


def test_noise_is_not_learned() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(300, 60)), (generator.random(300) < 0.7).astype(float)
    found = regression.cross_fitted(x, np.zeros(300, int), y, np.arange(300), 1)[:, 0]
    assert ((y - found) ** 2).mean() < 1.1 * y.var()


def test_no_decision_teaches_about_its_own_session() -> None:
    generator = np.random.default_rng(0)
    x, chosen = generator.normal(size=(400, 3)), generator.integers(0, 2, 400)
    y, session = generator.random(400), np.arange(400) // 4
    before = regression.cross_fitted(x, chosen, y, session, 2)
    changed = np.where(session == 7, 1 - y, y)
    after = regression.cross_fitted(x, chosen, changed, session, 2)
    assert (after[session == 7] == before[session == 7]).all()
    assert (after[session != 7] != before[session != 7]).any()


def test_nothing_rated_nothing_expected() -> None:
    found = regression.cross_fitted(np.ones((3, 2)), np.zeros(3, int), np.full(3, np.nan), np.arange(3), 2)
    assert found.tolist() == [[0, 0]] * 3


def test_one_rating_is_no_failure() -> None:
    y = np.array([1.0, np.nan, np.nan])
    assert np.isfinite(regression.cross_fitted(np.ones((3, 2)), np.zeros(3, int), y, np.arange(3), 2)).all()


def test_who_rates_is_found_by_model_score_and_probability() -> None:
    generator = np.random.default_rng(0)
    n = 20_000
    win_rates = np.stack([np.full(n, 0.5), generator.uniform(0.3, 0.9, n)], axis=1)
    probabilities = np.where((generator.random(n) < 0.5)[:, None], [0.9, 0.1], [0.1, 0.9])
    chosen = (generator.random(n) > probabilities[:, 0]).astype(int)
    true = regression.sigmoid(np.array([-2.0, -1.0]) + 2 * (win_rates - 0.5) - 0.3 * np.log(probabilities))
    reward = np.where(generator.random(n) < at(true, chosen), 1.0, np.nan)
    found = raters.rated(Logged(chosen, probabilities, reward, np.full(n, np.nan), np.arange(n)), win_rates)
    assert np.abs(found - true).mean() < 0.01
    everybody = Logged(chosen, probabilities, np.ones(n), np.full(n, np.nan), np.arange(n))
    assert (raters.rated(everybody, win_rates) == 1).all()


def test_context_is_leading_directions_features_and_scores() -> None:
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(200, 40)) * np.linspace(5, 0.1, 40)
    features = generator.normal(size=(200, 3)) * 100 + 7
    found = context(embeddings, features, generator.random((200, 2)))
    assert found.shape == (200, 32 + 3 + 2)
    assert found[:, 0].std() == pytest.approx(2.0)
    correlations = np.corrcoef(found[:, :32].T) - np.eye(32)
    assert np.abs(correlations).max() < 1e-9
    assert found[:, 32:].std(axis=0) == pytest.approx(np.ones(5), abs=0.05)


def test_context_of_what_was_not_kept_is_the_mean() -> None:
    embeddings, features = np.array([[1.0, 0.0], [0.0, 1.0], [np.nan, np.nan]]), np.array([[1.0], [3.0], [np.nan]])
    found = context(embeddings, features, np.zeros((3, 0)))
    assert found[2] == pytest.approx(np.zeros(3))
    nothing = np.zeros((3, 0))
    assert context(nothing, nothing, nothing).shape == (3, 0)
