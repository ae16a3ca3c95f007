"""Sides are compared as by hand, and as by brute force over all pairs of models."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scorer.battles import BAR, Battles, concatenate
from scorer.pairing import ThreeWay, peers, three_way
from scorer.tables import DataError

STRONG, WEAK = ("s1", "s2"), ("w1", "w2")
Row = tuple[str, str, str, float, float]  # prompt, model_a, model_b, outcome, weight


def battles(*rows: Row) -> Battles:
    prompt, a, b, outcome, weight = zip(*rows, strict=True)
    return Battles.of(prompt, a, b, outcome, weight)


def test_hard_thumbs_are_a_win_when_only_the_strong_one_was_good() -> None:
    pairing = three_way(
        battles(
            *[("only strong", "s1", BAR, 1, 1), ("only strong", "w1", BAR, 0, 1)],
            *[("both", "s1", BAR, 1, 1), ("both", BAR, "w1", 0, 1)],
            *[("neither", "s1", BAR, 0, 1), ("neither", "w1", BAR, 0, 1)],
            *[("only weak", "s1", BAR, 0, 1), ("only weak", "w1", BAR, 1, 1)],
            ("one-sided", "s1", BAR, 1, 1),
        ),
        STRONG,
        WEAK,
    )
    assert pairing.prompt.tolist() == [0, 1, 2, 3]
    assert pairing.shares.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert pairing.weight.tolist() == [1, 1, 1, 1]
    assert pairing.win_rate.tolist() == [1, 0.5, 0.5, 0]


def test_soft_outcomes_and_weights_by_hand() -> None:
    """Means s = (3 * 1 + 1 * 0.2) / 4 = 0.8 and w = 0.5: win 0.4, tie 0.4 + 0.1, loss 0.1, of weight min(4, 2); a
    direct battle of weight 6 at 0.25 for the strong model is half a tie and half a loss."""
    inferred: list[Row] = [("q", "s1", BAR, 1, 3), ("q", BAR, "s2", 0.8, 1), ("q", "w1", BAR, 0.5, 2)]
    alone = three_way(battles(*inferred), STRONG, WEAK)
    np.testing.assert_allclose(alone.shares, [[0.4, 0.5, 0.1]])
    assert alone.weight.tolist() == [2]
    both = three_way(battles(*inferred, ("q", "w2", "s1", 0.75, 6)), STRONG, WEAK)
    np.testing.assert_allclose(both.shares, [[0.8 / 8, (1 + 3) / 8, (0.2 + 3) / 8]])
    assert both.weight.tolist() == [8]


names = st.sampled_from([*STRONG, *WEAK, BAR, "other"])
rows = st.tuples(
    st.sampled_from(["p", "q", "r"]), names, names, st.floats(0, 1, width=16), st.floats(0.125, 4, width=16)
).filter(lambda row: row[1] != row[2])


@settings(deadline=None, max_examples=200)
@given(st.lists(rows, min_size=1, max_size=25))
def test_it_is_the_mean_over_all_pairs_of_rows(given_rows: list[Row]) -> None:
    expected: dict[str, list[float]] = {}
    for text in dict.fromkeys(row[0] for row in given_rows):
        seen = [row for row in given_rows if row[0] == text]
        seen += [(text, b, a, 1 - outcome, weight) for _, a, b, outcome, weight in seen]  # from either side
        total = np.zeros(3)
        for _, a, b, y, weight in seen:
            if a in STRONG and b in WEAK:
                total += weight * np.array([max(0, 2 * y - 1), 1 - abs(2 * y - 1), max(0, 1 - 2 * y)])
        sides = defaultdict(list)
        for _, a, b, y, weight in seen:
            if b == BAR:
                sides["s" if a in STRONG else "w" if a in WEAK else "-"].append((y, weight))
        pairs, mass = np.zeros(3), 0.0
        for (s, u), (w, v) in itertools.product(sides["s"], sides["w"]):
            pairs += u * v * np.array([s * (1 - w), s * w + (1 - s) * (1 - w), (1 - s) * w])
            mass += u * v
        if mass:
            total += min(sum(u for _, u in sides["s"]), sum(v for _, v in sides["w"])) * pairs / mass
        if total.sum() > 0:
            expected[text] = [*(total / total.sum()).tolist(), total.sum()]
    if not expected:
        with pytest.raises(DataError, match=r"no prompt has battles of both sides, s1, s2 and w1, w2, with each other"):
            three_way(battles(*given_rows), STRONG, WEAK)
        return
    found = battles(*given_rows)
    pairing: ThreeWay = three_way(found, STRONG, WEAK)
    assert [found.prompts[i] for i in pairing.prompt] == list(expected)
    np.testing.assert_allclose(np.column_stack([pairing.shares, pairing.weight]), list(expected.values()), atol=1e-12)
    np.testing.assert_allclose(pairing.shares.sum(axis=1), 1)


def ladder(**strength: float) -> Battles:
    """Every model's exact expected outcome against the bar of strength 0, on one prompt, with much weight."""
    outcome = [1 / (1 + np.exp(-theta)) for theta in strength.values()]
    return Battles.of(["q"] * len(outcome), list(strength), [BAR] * len(outcome), outcome, 1e6, "exam")


def test_peers_lie_within_a_third_of_the_gap_of_either_end() -> None:
    made = ladder(best=3, strong=1.5, near=1.05, upper=0.95, lower=0.55, close=0.45, weak=0, worse=-0.45, worst=-0.55)
    assert peers(made, "strong", "weak") == (("best", "near", "strong"), ("close", "weak", "worse"))


def test_a_source_is_as_hard_as_the_models_it_shares_say() -> None:
    """`new` fails a hard exam as often as `strong` fails it, and more often than `weak` fails the easy one."""
    easy = Battles.of(["e"] * 2, ["strong", "weak"], [BAR] * 2, [0.9, 0.6], 1e6, "easy")
    hard = Battles.of(["h"] * 2, ["strong", "new"], [BAR] * 2, [0.3, 0.3], 1e6, "hard")
    alien = Battles.of(["x"], ["alien"], [BAR], [0.99], 1e6, "its own")
    assert peers(concatenate([easy, hard, alien]), "strong", "weak") == (("new", "strong"), ("weak",))


def test_an_unknown_model_and_a_pair_without_a_gap_are_refused() -> None:
    made = ladder(strong=1, weak=0)
    with pytest.raises(DataError, match="model 'week' has no battles; some that have: weak"):
        peers(made, "strong", "week")
    with pytest.raises(DataError, match=r"weak is rated no better than strong: -1\.00 nats"):
        peers(made, "weak", "strong")


def test_a_pair_that_nothing_ties_together_is_refused() -> None:
    apart = Battles.of(["p", "q"], ["strong", "weak"], [BAR] * 2, [1, 0], 1.0, ["one", "another"])
    with pytest.raises(DataError, match="strong and weak: no chain of battles ties them together"):
        peers(apart, "strong", "weak")
