"""What is refused whatever it compares like."""

from __future__ import annotations

import numpy as np
import pytest

from feedback import refusals
from feedback.battles import Evidence
from feedback.golden import Material, Said
from scorer.battles import BAR, Battles
from scorer.routers.base import Prompts, Scores
from scorer.routers.factorization import Factorization

PROMPTS = Prompts(("a", "b"), np.zeros((2, 3), np.float32), np.zeros((2, 1), np.float32))


def evidence(outcomes: list[float], *, against: str = BAR, source: str = "human", strange: int = 0) -> Evidence:
    count = len(outcomes)
    hashes = [f"p{i}" for i in range(count)]
    battles = Battles.of(hashes, ["weak"] * count, [against] * count, outcomes, [1.0] * count, source)
    prompts = Prompts(battles.prompts, np.zeros((count, 3), np.float32), np.zeros((count, 1), np.float32))
    dropped = {"encoded by another encoder": strange} if strange else {}
    return Evidence(battles, prompts, np.ones(count), np.array(hashes, np.str_), dropped)


def material(training: Evidence, raters: float = 100.0) -> Material:
    return Material(training, training, training, raters, [], Said(len(training), 0, 0.0, 0.0))


@pytest.mark.parametrize("outcomes", [[1.0, 1.0], [0.0], [0.75, 1.0, 0.5], [0.25, 0.5]])
def test_one_class_only_teaches_nothing(outcomes: list[float]) -> None:
    told = f"one class only: all {len(outcomes)} ratings to learn from say the same"
    assert refusals.of_night(material(evidence(outcomes)), 5) == told


def test_two_classes_comparisons_and_nothing_at_all_are_no_single_class() -> None:
    assert refusals.of_night(material(evidence([1.0, 0.0])), 5) == ""
    assert refusals.of_night(material(evidence([1.0, 1.0], against="strong")), 5) == ""
    assert refusals.of_night(material(evidence([])), 5) == ""


def test_signals_are_no_second_class() -> None:
    assert not refusals.one_class(evidence([0.0, 0.0], source="regenerated"))


def test_another_encoder_of_most_is_refused() -> None:
    assert refusals.of_night(material(evidence([1.0, 0.0], strange=2)), 5) == ""
    told = refusals.of_night(material(evidence([1.0, 0.0], strange=3)), 5)
    assert told == "another encoder: 3 of 5 ratings were encoded by another encoder"
    assert refusals.of_night(material(evidence([], strange=1)), 5).startswith("another encoder: 1 of 1 ")


def test_few_raters_are_refused() -> None:
    told = refusals.of_night(material(evidence([1.0, 0.0]), raters=4.96), 5)
    assert told == "few raters: the ratings to learn from are worth those of 5.0 people, 5 are needed"
    assert refusals.of_night(material(evidence([1.0, 0.0]), raters=5), 5) == ""


@pytest.mark.parametrize(
    ("share", "judged", "since", "decisions", "silent"),
    [
        (0.01, 50.0, 100.0, 5000, True),
        (0.01, 50.0, 100.0, 1000, False),  # ten verdicts: that none came may be chance
        (0.01, 150.0, 100.0, 5000, False),  # it has spoken since
        (0.01, 0.0, 100.0, 5000, False),  # it never spoke
        (0.0, 50.0, 100.0, 5000, False),  # it is not asked
    ],
)
def test_a_judge_that_spoke_and_speaks_no_more_while_traffic_goes_on_is_silent(
    share: float, judged: float, since: float, decisions: int, silent: bool
) -> None:
    told = refusals.silent_judge(share, judged, since, decisions)
    assert told == (
        "the judge has gone silent: no verdict since the last run, 50 were to be expected" if silent else ""
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    players = ("strong", "weak", BAR)
    vectors = np.ones((3, 5), np.float32)
    about = {"version": "v", "metrics": {}, "encoder_id": "f", "features": ("one",)}
    shape = {"V": np.eye(3, dtype=np.float32), "w": np.ones(3, np.float32), "mean": np.zeros(1, np.float32)}
    shape["scale"] = np.ones(1, np.float32)
    sound = Factorization(players, {**shape, "P": vectors}, about)
    assert refusals.not_finite(sound, [PROMPTS, PROMPTS[:0]], ("strong", "weak")) == ""
    broken = vectors.copy()
    broken[1, 4] = bad
    with np.errstate(all="ignore"):
        said = refusals.not_finite(Factorization(players, {**shape, "P": broken}, about), [PROMPTS], players[:2])
    assert said == "its scores are not all finite numbers"


def test_a_router_without_quality_is_judged_by_its_win_rates() -> None:
    class Blind:
        name, version = "blind", "1"

        def knows(self, model: str) -> bool:
            return True

        def score(self, prompts: Prompts, ladder: object) -> Scores:
            return Scores(np.full((len(prompts), 2), 0.5))

    assert refusals.not_finite(Blind(), [PROMPTS], ("strong", "weak")) == ""
