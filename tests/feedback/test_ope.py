"""Estimators against values by hand, against the exact expectation over all draws, and against resampling."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback import ope
from feedback.ope import Floats, Ints, Logged, Terms


def log(
    chosen: Any, probabilities: Any, reward: Any, cluster: Ints | None = None, cost: Floats | None = None
) -> Logged:
    n = len(chosen)
    return Logged(
        np.asarray(chosen),
        np.asarray(probabilities, float),
        np.asarray(reward, float),
        np.full(n, np.nan) if cost is None else cost,
        np.arange(n) if cluster is None else cluster,
    )


def value(terms: Terms) -> float:
    return float(terms.numerator.sum() / terms.denominator.sum())


def four() -> tuple[Logged, Floats]:
    """Weights 1.5, 0.5, 0.9375 and 1.25."""
    probabilities = [[0.5, 0.5], [0.5, 0.5], [0.8, 0.2], [0.8, 0.2]]
    return log([0, 1, 0, 1], probabilities, [1, 0, 1, 1]), np.tile([0.75, 0.25], (4, 1))


def many(n: int = 3000, sessions: int = 1500, seed: int = 0) -> tuple[Logged, Floats, Floats]:
    """A log whose sessions share a draw and a level, a target, and a model of the outcome."""
    generator = np.random.default_rng(seed)
    cluster = np.sort(generator.integers(0, sessions, n))
    level, point = generator.uniform(0.2, 0.8, sessions)[cluster], generator.random(sessions)[cluster]
    strong = generator.random(n) < 0.4
    probabilities = np.where(strong[:, None], [0.9, 0.1], [0.1, 0.9])
    chosen = (point >= probabilities[:, 0]).astype(int)
    reward = (generator.random(n) < level + 0.15 * (chosen == 0)).astype(float)
    target = np.where((generator.random(n) < 0.5)[:, None], [0.95, 0.05], [0.05, 0.95])
    q = np.stack([level + 0.1, level], axis=1)
    return log(chosen, probabilities, reward, cluster), target, q


# By hand


def test_ips_snips_and_dr_of_four_decisions() -> None:
    logged, target = four()
    q = np.tile([0.8, 0.4], (4, 1))
    assert value(ope.ips(logged, target, logged.reward)) == pytest.approx(0.921875, abs=1e-12)
    assert value(ope.snips(logged, target, logged.reward)) == pytest.approx(3.6875 / 4.1875, abs=1e-12)
    assert value(ope.dr(logged, target, logged.reward, q)) == pytest.approx(0.959375, abs=1e-12)


def test_effective_size_of_four_decisions() -> None:
    logged, target = four()
    size = ope.effective_size(ope.weights(logged, target), logged.cluster)
    assert size == pytest.approx(4.1875**2 / (1.5**2 + 0.5**2 + 0.9375**2 + 1.25**2), abs=1e-12)


def test_effective_size_counts_equally_weighted_clusters() -> None:
    assert ope.effective_size(np.full(10, 3.0), np.arange(10)) == pytest.approx(10)
    assert ope.effective_size(np.full(10, 3.0), np.arange(10) // 2) == pytest.approx(5)
    assert ope.effective_size(np.array([0.0, 7.0, 0.0]), np.arange(3)) == pytest.approx(1)
    assert ope.effective_size(np.zeros(3), np.arange(3)) == 0


def test_unrated_decisions_count_neither_for_nor_against() -> None:
    logged, target = four()
    partly = replace(logged, reward=np.array([1.0, 0.0, np.nan, np.nan]))
    assert value(ope.ips(partly, target, partly.reward)) == pytest.approx(1.5 / 2)
    assert value(ope.snips(partly, target, partly.reward)) == pytest.approx(1.5 / 2.0)


def test_cost_is_estimated_like_a_rating() -> None:
    logged, target = four()
    cost = np.array([4.0, 1.0, 4.0, 1.0])
    assert value(ope.dr(logged, target, cost, np.tile([4.0, 1.0], (4, 1)))) == pytest.approx(0.75 * 4 + 0.25)


# The expectation over everything that can be drawn

shares = st.lists(st.floats(0.05, 1), min_size=3, max_size=3).map(lambda raw: np.array(raw) / sum(raw))
unit = st.lists(st.floats(0, 1), min_size=3, max_size=3).map(np.array)


def expectation(p: Floats, terms: Callable[[Ints], Terms]) -> tuple[Floats, list[Terms]]:
    """E[numerator sum], E[denominator sum] over all choices of (n, m) probabilities, and the terms of each."""
    total, all_terms = np.zeros(2), []
    for chosen in itertools.product(range(p.shape[1]), repeat=len(p)):
        found = terms(np.array(chosen))
        chance = np.prod([p[row, model] for row, model in enumerate(chosen)])
        total += chance * np.array([found.numerator.sum(), found.denominator.sum()])
        all_terms.append(found)
    return total, all_terms


@settings(max_examples=40, deadline=None)
@given(st.tuples(shares, shares), st.tuples(shares, shares), st.tuples(unit, unit), st.tuples(unit, unit))
def test_ips_and_dr_are_unbiased_whatever_the_model(p: Any, pi: Any, r: Any, q: Any) -> None:
    p, pi, r, q = (np.array(each) for each in (p, pi, r, q))
    truth = (pi * r).sum() / 2

    def logged(chosen: Ints) -> Logged:
        return log(chosen, p, ope.at(r, chosen))

    for terms in (
        lambda chosen: ope.ips(logged(chosen), pi, ope.at(r, chosen)),
        lambda chosen: ope.dr(logged(chosen), pi, ope.at(r, chosen), q),
    ):
        (numerator, denominator), _ = expectation(p, terms)
        assert numerator / denominator == pytest.approx(truth, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.tuples(shares, shares), st.tuples(shares, shares), st.tuples(unit, unit))
def test_dr_with_a_perfect_model_does_not_vary(p: Any, pi: Any, r: Any) -> None:
    p, pi, r = (np.array(each) for each in (p, pi, r))
    _, found = expectation(p, lambda chosen: ope.dr(log(chosen, p, ope.at(r, chosen)), pi, ope.at(r, chosen), r))
    assert [value(terms) for terms in found] == pytest.approx([(pi * r).sum() / 2] * len(found), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(shares, shares, unit, unit, unit, unit)
def test_means_among_raters_and_of_everyone_are_unbiased(
    p: Floats, pi: Floats, r: Floats, chance: Floats, q: Floats, guess: Floats
) -> None:
    """Over who is chosen and who rates: E[R y] and E[R] are right with any model; the mean of everyone with a right
    model of the raters or of the ratings."""
    chance, guess = np.maximum(chance, 0.1), np.maximum(guess, 0.1)
    among, everyone, by_ratings = np.zeros(2), 0.0, 0.0
    for model, known in itertools.product(range(3), (True, False)):
        logged = log([model], [p], [r[model] if known else np.nan])
        odds = p[model] * (chance[model] if known else 1 - chance[model])
        found = ope.dr(logged, pi[None], logged.reward, q[None], guess[None])
        among += odds * np.array([found.numerator[0], found.denominator[0]])
        everyone += odds * ope.dr_everyone(logged, pi[None], logged.reward, q[None], chance[None]).numerator[0]
        by_ratings += odds * ope.dr_everyone(logged, pi[None], logged.reward, r[None], guess[None]).numerator[0]
    assert among == pytest.approx([(pi * chance * r).sum(), (pi * chance).sum()], abs=1e-12)
    assert everyone == pytest.approx((pi * r).sum(), abs=1e-12)
    assert by_ratings == pytest.approx((pi * r).sum(), abs=1e-12)


# What must not matter


@given(st.floats(0.1, 10), st.floats(-3, 3))
def test_snips_scales_with_no_weight_and_shifts_with_the_ratings(scale: float, shift: float) -> None:
    logged, target = four()
    plain = value(ope.snips(logged, target, logged.reward))
    assert value(ope.snips(logged, scale * target, logged.reward)) == pytest.approx(plain, abs=1e-9)
    assert value(ope.snips(logged, target, logged.reward + shift)) == pytest.approx(plain + shift, abs=1e-9)
    assert value(ope.ips(logged, target, logged.reward + 1)) != pytest.approx(
        value(ope.ips(logged, target, logged.reward)) + 1, abs=1e-3
    )


def test_all_agree_on_the_policy_that_logged() -> None:
    logged, _, q = many()
    target = logged.probabilities
    for terms in (ope.ips, ope.snips):
        assert value(terms(logged, target, logged.reward)) == pytest.approx(logged.reward.mean(), abs=1e-12)
    found = ope.dr(logged, target, logged.reward, q, np.ones_like(q))
    assert value(found) == pytest.approx(value(ope.dr(logged, target, logged.reward, q)), abs=1e-12)


# Intervals


def test_interval_of_lone_decisions_is_that_of_a_mean() -> None:
    y = np.random.default_rng(0).random(500)
    found = ope.mean(y, np.arange(500))
    assert found.error == pytest.approx(y.std(ddof=1) / 500**0.5, abs=1e-12)
    assert found.value == pytest.approx(y.mean())
    assert found.size == pytest.approx(500)
    assert (found.high - found.low) / 2 == pytest.approx(1.964739 * found.error, rel=1e-5)  # t with 499 degrees


def test_share_has_wilsons_interval() -> None:
    """Of 20, none and four; and of 20 sessions whose members agree."""
    none = ope.share(np.zeros(20), np.arange(20))
    assert (none.low, none.high) == pytest.approx((0, 0.16113), abs=1e-5)
    four = ope.share(np.r_[np.ones(4), np.zeros(16), np.full(5, np.nan)], np.arange(25))
    assert (four.low, four.high) == pytest.approx((0.080657, 0.416017), abs=1e-6)
    sessions = ope.share(np.r_[np.ones(40), np.zeros(160)], np.arange(200) // 10)
    assert (sessions.low, sessions.high) == pytest.approx((four.low, four.high), abs=1e-9)


@pytest.mark.parametrize(("freedom", "point"), [(99, 1.984217), (250, 1.969498), (1000, 1.962339)])
def test_t_is_that_of_the_tables(freedom: int, point: float) -> None:
    assert ope._t(freedom) == pytest.approx(point, abs=5e-6)


def test_repeating_a_decision_in_its_session_adds_nothing() -> None:
    logged, target, q = many()
    twice = np.repeat(np.arange(len(logged)), 2)
    doubled = Logged(
        logged.chosen[twice],
        logged.probabilities[twice],
        logged.reward[twice],
        logged.cost[twice],
        logged.cluster[twice],
    )
    once = ope.estimate(ope.dr(logged, target, logged.reward, q), logged.cluster)
    terms = ope.dr(doubled, target[twice], doubled.reward, q[twice])
    assert ope.estimate(terms, doubled.cluster).error == pytest.approx(once.error, rel=1e-9)
    assert ope.estimate(terms, doubled.cluster).size == pytest.approx(once.size, rel=1e-9)
    ignored = ope.estimate(terms, np.arange(len(doubled)))
    assert ignored.error < 0.8 * once.error


def test_intervals_agree_with_resampled_sessions() -> None:
    logged, target, q = many()
    rated = np.where(np.random.default_rng(1).random(len(logged)) < 0.6, logged.reward, np.nan)
    chance = np.full_like(q, 0.6)
    _, session = np.unique(logged.cluster, return_inverse=True)
    count = session.max() + 1
    resampled = np.random.default_rng(2).multinomial(count, np.full(count, 1 / count), size=2000)
    for terms in (
        ope.ips(logged, target, logged.reward),
        ope.snips(logged, target, logged.reward),
        ope.dr(logged, target, logged.reward, q),
        ope.dr(logged, target, rated, q, chance),
        ope.dr_everyone(logged, target, rated, q, chance),
    ):
        sums = [np.bincount(session, weights=column) for column in (terms.numerator, terms.denominator)]
        draws = (resampled @ sums[0]) / (resampled @ sums[1])
        found = ope.estimate(terms, logged.cluster)
        assert found.error == pytest.approx(draws.std(), rel=0.1)
        low, high = np.quantile(draws, [0.025, 0.975])
        assert found.high - found.low == pytest.approx(high - low, rel=0.1)


def test_difference_is_paired() -> None:
    logged, target, q = many()
    a, b = (ope.dr(logged, each, logged.reward, q) for each in (target, logged.probabilities))
    found = ope.difference(a, b, logged.cluster)
    assert found.value == pytest.approx(value(a) - value(b), abs=1e-12)
    nothing = ope.difference(a, a, logged.cluster)
    assert (nothing.value, nothing.error) == (0, 0)
    apart = np.hypot(ope.estimate(a, logged.cluster).error, ope.estimate(b, logged.cluster).error)
    assert found.error < apart


def test_intervals_hold_the_truth() -> None:
    """Of 400 logs with sessions, DR's intervals hold it in about 95 %; those that ignore sessions in fewer."""
    truth = 0.5 + 0.15 * 0.5
    held, naive = 0, 0
    for seed in range(400):
        logged, target, q = many(n=1500, sessions=500, seed=seed)
        terms = ope.dr(logged, target, logged.reward, q)
        found, ignored = ope.estimate(terms, logged.cluster), ope.estimate(terms, np.arange(len(logged)))
        held += found.low <= truth <= found.high
        naive += ignored.low <= truth <= ignored.high
    assert 0.92 < held / 400 < 0.98
    assert naive < held


def test_no_interval_without_overlap() -> None:
    logged, target = four()
    found = ope.estimate(ope.ips(logged, target, logged.reward), logged.cluster)
    assert not found.enough
    assert found.value == pytest.approx(0.921875)
    assert np.isnan([found.low, found.high]).all()
    assert found.error > 0


# Who rates by what he thinks


@given(st.floats(0.01, 0.99), st.floats(1, 5))
def test_selection_by_rating_is_undone(good: float, gamma: float) -> None:
    """If a bad answer is rated gamma times as likely, the raters' share follows; and back."""
    seen = (good / gamma) / (good / gamma + (1 - good))
    assert ope.under_selection(seen, gamma) == pytest.approx(good, abs=1e-12)
    assert ope.under_selection(seen, 1) == pytest.approx(seen, abs=1e-12)
    assert ope.under_selection(good, 1 / gamma) == pytest.approx(seen, abs=1e-12)


@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=5), st.floats(1, 5))
def test_selection_of_a_mean_over_unlike_requests_is_a_bound(good: list[float], gamma: float) -> None:
    for each in (gamma, 1 / gamma):
        seen = [ope.under_selection(share, 1 / each) for share in good]
        bound = ope.under_selection(float(np.mean(seen)), each)
        assert (bound - np.mean(good)) * (each - 1) >= -1e-12


def test_selection_keeps_to_shares() -> None:
    assert ope.under_selection(1.02, 3) == 1
    assert ope.under_selection(-0.01, 3) == 0


# What cannot be


def test_no_ratings_no_estimate() -> None:
    logged, target = four()
    unrated = np.full(4, np.nan)
    q = np.zeros((4, 2))
    for terms in (
        ope.ips(logged, target, unrated),
        ope.snips(logged, target, unrated),
        ope.dr(logged, target, unrated, q),
        ope.dr(logged, target, unrated, q, q),
    ):
        found = ope.estimate(terms, logged.cluster)
        assert np.isnan(found.value)
        assert (found.size, found.enough) == (0, False)
    assert np.isnan(ope.difference(terms, terms, logged.cluster).value)


def test_one_model_is_a_mean() -> None:
    logged = log([0] * 4, np.ones((4, 1)), [1, 0, 1, 1])
    assert value(ope.ips(logged, np.ones((4, 1)), logged.reward)) == 0.75


def test_empty_log_has_no_estimate() -> None:
    empty = log(np.zeros(0, int), np.zeros((0, 2)), [])
    assert np.isnan(ope.estimate(ope.ips(empty, np.zeros((0, 2)), empty.reward), empty.cluster).value)


def test_what_cannot_have_been_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="propensity is 0"):
        log([1], [[1.0, 0.0]], [1])
    with pytest.raises(ValueError, match="do not sum to 1"):
        log([1], [[0.5, 0.4]], [1])
    with pytest.raises(ValueError, match="differ in length"):
        log([1], [[0.5, 0.5]], [1, 0])
    logged = log([0], [[1.0, 0.0]], [1])
    with pytest.raises(ValueError, match="no overlap"):
        ope.weights(logged, np.array([[0.5, 0.5]]))
    with pytest.raises(ValueError, match=r"\(1, 3\) probabilities"):
        ope.weights(logged, np.array([[0.5, 0.5, 0]]))
