"""Trials: what versions expect of ratings and comparisons, what each counts, and what becomes of a challenger."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from feedback import trials
from feedback.battles import Evidence
from feedback.gate import Rules
from feedback.golden import Material, Said
from feedback.refit import CLIP
from feedback.trials import Case
from scorer.battles import BAR, Battles
from scorer.routers.base import Prompts, Scores

MODELS = ("strong", "weak")
RNG = np.random.default_rng(2)


class Fixed:
    """A router whose quality (n, 2) is written on the prompts."""

    name = "mf"

    def __init__(self, version: str, column: int = 0) -> None:
        self.version, self._column = version, column

    def knows(self, model: str) -> bool:
        return True

    def score(self, prompts: Prompts, ladder: object) -> Scores:
        quality = prompts.features[:, 2 * self._column : 2 * self._column + 2].astype(np.float64)
        return Scores(0.5 + (quality[:, :1] - quality) / 2, quality)


def case(champion: int = 0, challenger: int = 0) -> Case:
    return Case(MODELS, {}, "f", Fixed("old", champion), Fixed("shipped", champion), Fixed("new", challenger))


def evidence(
    qualities: NDArray[np.float64], sides: list[tuple[str, str]], outcomes: list[float], propensity: float = 0.5
) -> Evidence:
    """One prompt a battle, with its qualities (n, 2 for each version)."""
    n = len(sides)
    hashes = [f"p{i}" for i in range(n)]
    battles = Battles.of(hashes, [a for a, _ in sides], [b for _, b in sides], outcomes, [1.0] * n, "human")
    prompts = Prompts(battles.prompts, np.zeros((n, 1), np.float32), qualities.astype(np.float32))
    return Evidence(battles, prompts, np.full(n, propensity), np.array(hashes, np.str_))


def test_a_rating_is_expected_by_the_quality_of_the_model_that_served() -> None:
    said = evidence(np.array([[0.9, 0.2], [0.8, 0.3]]), [("strong", BAR), ("weak", BAR)], [1.0, 0.0])
    np.testing.assert_allclose(trials.predicted(case(), Fixed("v"), said), [0.9, 0.3], rtol=1e-6)


def test_a_comparison_is_expected_by_the_odds_against_the_bar() -> None:
    """Odds of 9 and of 1 to 4: 36 to 1 for the strong, by Bradley and Terry."""
    said = evidence(np.array([[0.9, 0.2]] * 2), [("strong", "weak"), ("weak", "strong")], [1.0, 0.0])
    np.testing.assert_allclose(trials.predicted(case(), Fixed("v"), said), [36 / 37, 1 / 37], rtol=1e-6)


def test_models_off_the_ladder_have_no_say() -> None:
    sides = [("strong", BAR), ("other", BAR), ("strong", "other"), ("weak", "strong")]
    said = evidence(np.full((4, 2), 0.5), sides, [1.0] * 4)
    kept = trials.on_ladder(said, MODELS).battles
    assert list(zip(kept.model_a.tolist(), kept.model_b.tolist(), strict=True)) == [sides[0], sides[3]]


@pytest.mark.parametrize(("propensity", "times"), [(0.5, 2.0), (0.25, 4.0), (0.001, CLIP)])
def test_a_rating_counts_by_its_clipped_inverse_propensity(propensity: float, times: float) -> None:
    said = evidence(np.full((2, 2), 0.5), [("strong", BAR)] * 2, [1.0, 0.0], propensity)
    said.propensity[0] = 1.0
    found = trials.compare(said, np.full(2, 0.5), np.array([0.6, 0.6]))
    assert found.challenger == pytest.approx((0.16 + times * 0.36) / (1 + times))


def planted(n: int, champion: float, challenger: float) -> Evidence:
    """Ratings whose truth is 0.3 or 0.7; the versions miss it by so much."""
    truth = RNG.choice([0.3, 0.7], n)
    served = [MODELS[i % 2] for i in range(n)]
    outcomes = (RNG.random(n) < truth).astype(float).tolist()
    columns = [np.clip(truth + RNG.choice([-1, 1], n) * off, 0.01, 0.99) for off in (champion, challenger)]
    qualities = np.stack([columns[0], columns[0], columns[1], columns[1]], axis=1)
    return evidence(qualities, [(model, BAR) for model in served], outcomes)


def tried(golden: Evidence, newest: Evidence) -> trials.Trial:
    material = Material(golden, golden, newest, 100.0, [], Said(0, 0, 0.0, 0.0))
    return trials.compared(case(0, 1), material, golden.prompts, Rules(), 0.02)


def test_a_better_challenger_passes_and_says_why() -> None:
    trial = tried(planted(600, 0.25, 0.0), planted(100, 0.25, 0.0))
    assert trial.objection == ""
    assert trial.tested
    assert trial.verdict.startswith("mf new would be published, better; loss ")
    assert trial.record["gate"]["champion"]["ratings"] == 600
    assert trial.record["thresholds"] == {}


def test_a_worse_challenger_is_refused_and_says_why() -> None:
    trial = tried(planted(600, 0.0, 0.25), planted(100, 0.0, 0.25))
    assert trial.verdict.startswith("mf new refused, worse than the champion; loss ")


def test_scores_that_are_no_numbers_are_refused_before_anything_is_compared() -> None:
    golden = planted(100, 0.0, 0.0)
    golden.prompts.features[3, 2] = np.nan
    trial = tried(golden, planted(50, 0.0, 0.0))
    assert trial.verdict == "mf new refused, its scores are not all finite numbers"
    assert not trial.tested
    assert trial.record["gate"] == {"premium": None}


def test_without_a_price_a_trial_stands_as_it_is() -> None:
    trial = tried(planted(600, 0.25, 0.0), planted(100, 0.25, 0.0))
    from scorer.calibration import Calibration

    fitted = Calibration("none", np.linspace(0, 1, 10))
    priced = trials.priced(trial, case(0, 1), [], [fitted, fitted], 0.5)
    assert priced.objection == ""
    assert priced.calibration is fitted
    assert priced.verdict.endswith("cost not compared: 0 rated decisions have a cost and a choice, 100 are needed")
