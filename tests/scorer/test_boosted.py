"""Boosted trees find planted win rates, are what their dump says they are, and serve what was fitted."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from scorer import artifacts
from scorer.artifacts import ArtifactError
from scorer.battles import BAR, Battles, concatenate
from scorer.calibration import PRETRAINED
from scorer.routers.base import Prompts, Router
from scorer.routers.boosted import Boosted, Hyperparameters
from scorer.tables import DataError

ENCODER = "e" * 64
FEATURES = ("log_chars", "log_words", "digits")
PAIR = ("big", "small")
EXACT = Hyperparameters(
    trees=200, depth=1, learning_rate=0.3, rows=1, columns=1, odds=1, least_weight=0, ridge=0, slope=0
)
QUICK = Hyperparameters(trees=20, columns=0.5, learning_rate=0.1)


def made_up_prompts(n: int, seed: int = 0) -> Prompts:
    generator = np.random.default_rng(seed)
    embeddings = generator.normal(size=(n, 5)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    features = generator.normal([5, 3, 0.1], [1, 1, 0.05], size=(n, 3)).astype(np.float32)
    return Prompts([f"prompt {seed} {i}" for i in range(n)], embeddings, features)


def part(prompts: Prompts, rows: NDArray[Any] | list[int]) -> Prompts:
    return Prompts([prompts.texts[i] for i in rows], prompts.embeddings[rows], prompts.features[rows])


def battles_of(prompts: Prompts, win_rate: NDArray[np.float64], a: str = "big", b: str = "small") -> Battles:
    return Battles.of(prompts.texts, [a] * len(prompts), [b] * len(prompts), win_rate)


def fit(prompts: Prompts, battles: Battles, chosen: Hyperparameters = EXACT) -> Boosted:
    return Boosted.fit(
        battles, prompts, strong="big", weak="small", encoder_id=ENCODER, features=FEATURES, chosen=chosen
    )


def won(router: Boosted, prompts: Prompts) -> NDArray[np.float64]:
    return router.score(prompts, PAIR).win_rates[:, 1]


def logit(p: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.asarray(np.log(p) - np.log1p(-np.asarray(p)))


@pytest.fixture(scope="module")
def router() -> Boosted:
    prompts = made_up_prompts(300)
    return fit(prompts, battles_of(prompts, np.where(prompts.embeddings[:, 0] > 0, 0.9, 0.4)), QUICK)


def halves(n: int) -> tuple[Prompts, NDArray[np.bool_]]:
    """Prompts of which half have digits, and which."""
    prompts = made_up_prompts(n)
    digits = np.arange(n) % 2 == 1
    prompts.features[:, 2] = digits
    return prompts, digits


def test_a_step_is_found_to_the_groups_means() -> None:
    """Closed form: the best constant of a group under the logistic loss is the mean of its soft labels."""
    prompts, digits = halves(400)
    labels = np.where(digits, 0.8, 0.3)
    labels[:4] = [0.5, 1, 0, 0.4]
    means = np.where(digits, labels[digits].mean(), labels[~digits].mean())
    prompts.embeddings[:], prompts.features[:, :2] = 0.5, 1  # nothing else tells them apart
    np.testing.assert_allclose(won(fit(prompts, battles_of(prompts, labels)), prompts), means, atol=1e-3)
    assert means.tolist()[:2] != [0.3, 0.8]


def test_ties_and_weights_shift_the_odds_as_they_should() -> None:
    """9 to 1 by weight, and half of the rest tied, on half of the prompts; the reverse on the others."""
    prompts, digits = halves(400)
    texts = list(prompts.texts) * 3
    weight = np.concatenate([np.where(digits, 9.0, 1.0), np.where(digits, 1.0, 9.0), np.full(400, 10.0)])
    battles = Battles.of(texts, ["big"] * 1200, ["small"] * 1200, np.repeat([1.0, 0.0, 0.5], 400), weight)
    np.testing.assert_allclose(won(fit(prompts, battles), prompts), np.where(digits, 0.7, 0.3), atol=1e-3)


def test_scores_are_the_prior_and_the_sum_of_the_dumped_trees(router: Boosted) -> None:
    """Second way: walk the trees in XGBoost's text form, in double precision."""
    prompts = made_up_prompts(40, seed=3)
    mean, scale, (intercept, slope) = (router._tensors[name] for name in ("mean", "scale", "prior"))
    scaled = np.clip((prompts.features - mean) / scale, -4, 4)
    x = np.concatenate([prompts.embeddings, scaled], axis=1)
    trees = [json.loads(tree) for tree in router._trees.get_dump(dump_format="json")]
    assert len(trees) == 20
    total = np.array([sum(leaf(tree, row) for tree in trees) for row in x]) + intercept + slope * scaled[:, 0]
    np.testing.assert_allclose(won(router, prompts), 1 / (1 + np.exp(-total)), atol=1e-6)
    assert won(router, prompts).std() > 0.05


def leaf(node: dict[str, Any], row: NDArray[np.float32]) -> float:
    while "leaf" not in node:
        goes = node["yes"] if row[int(node["split"][1:])] < np.float32(node["split_condition"]) else node["no"]
        node = next(child for child in node["children"] if child["nodeid"] == goes)
    return float(node["leaf"])


def test_without_trees_to_speak_of_the_longer_prompt_is_the_harder_one() -> None:
    """The prior: the logit of the mean win rate, and `slope` nats for a standard deviation of the log length."""
    prompts = made_up_prompts(200)
    labels = np.random.default_rng(0).choice([1.0, 0.5, 0.0], 200)
    prior = fit(prompts, battles_of(prompts, labels), replace(EXACT, trees=1, learning_rate=1e-7, slope=0.3))
    length = prompts.features[:, 0]
    standard = np.clip((length - length.mean()) / length.std(), -4, 4)
    np.testing.assert_allclose(logit(won(prior, prompts)), logit(labels.mean()) + 0.3 * standard, atol=1e-4)


def test_a_win_rate_never_falls_with_the_length() -> None:
    """Even where the battles say so."""
    prompts = made_up_prompts(400)
    shorter = battles_of(prompts, np.where(prompts.features[:, 0] < 5, 0.9, 0.2))
    fitted = fit(prompts, shorter, replace(QUICK, trees=100))
    row = part(prompts, [7] * 50)
    for column in (0, 1):
        features = row.features.copy()
        features[:, column] = np.linspace(0, 10, 50)
        along = won(fitted, Prompts(row.texts, row.embeddings, features))
        assert (np.diff(along) >= -1e-7).all()


def test_what_is_learned_is_about_the_pair_alone() -> None:
    """Battles with the bar count as well as those with each other; others' do not."""
    prompts, digits = halves(200)
    win_rate = np.where(digits, 0.9, 0.5)
    direct = battles_of(prompts, win_rate)
    others = battles_of(prompts, 1 - win_rate, "middle", "tiny")
    np.testing.assert_array_equal(
        won(fit(prompts, concatenate([direct, others])), prompts), won(fit(prompts, direct), prompts)
    )
    sides = [battles_of(prompts, win_rate, "big", BAR), battles_of(prompts, np.full(200, 0.5), "small", BAR)]
    expected = 0.5 + (win_rate - 0.5) / 2
    np.testing.assert_allclose(won(fit(prompts, concatenate(sides)), prompts), expected, atol=1e-3)


def test_a_longer_ladder_is_climbed_in_equal_steps(router: Boosted) -> None:
    prompts = made_up_prompts(9)
    win = router.score(prompts, ["a", "b", "c", "d"]).win_rates
    np.testing.assert_allclose(win, won(router, prompts)[:, None] * np.array([0, 1 / 3, 2 / 3, 1]))
    assert ((win >= 0) & (win <= 1)).all()
    assert router.knows("anything")


@pytest.mark.parametrize("rows", [[0], [3, 0], list(range(8, 0, -1)), [0] * 100, list(range(199))])
def test_a_score_does_not_depend_on_the_batch(router: Boosted, rows: list[int]) -> None:
    prompts = made_up_prompts(200)
    np.testing.assert_array_equal(won(router, part(prompts, rows)), won(router, prompts)[rows])


def test_an_absurd_prompt_stays_in_range(router: Boosted) -> None:
    prompts = made_up_prompts(2)
    far = Prompts(prompts.texts, prompts.embeddings, prompts.features * np.float32(1e6))
    farther = Prompts(prompts.texts, prompts.embeddings, prompts.features * np.float32(1e9))
    np.testing.assert_array_equal(won(router, far), won(router, farther))


def test_the_same_seed_gives_the_same_router(router: Boosted) -> None:
    prompts = made_up_prompts(300)
    battles = battles_of(prompts, np.where(prompts.embeddings[:, 0] > 0, 0.9, 0.4))

    def content(fitted: Boosted) -> str:
        return fitted.version.rsplit("-", 1)[1]

    assert content(fit(prompts, battles, QUICK)) == content(router)
    assert content(fit(prompts, battles, replace(QUICK, seed=1))) != content(router)


def test_too_little_to_learn_from_is_refused() -> None:
    prompts = made_up_prompts(30)
    few = part(prompts, list(range(5)))
    with pytest.raises(DataError, match="5 prompts with battles of both big and small; fitting takes 20"):
        fit(few, battles_of(few, np.linspace(0, 1, 5)))
    with pytest.raises(DataError, match=r"big against small: a win rate of 0\.5 on every prompt"):
        fit(prompts, battles_of(prompts, np.full(30, 0.5)))
    with pytest.raises(DataError, match="small"):
        fit(prompts, battles_of(prompts, np.linspace(0, 1, 30), "big", "another"))


def test_a_saved_router_scores_the_same(router: Boosted, tmp_path: Path) -> None:
    directory = router.save(tmp_path / "boosted" / router.version, {"apgr": 0.6})
    loaded: Router = Boosted.load(directory, ENCODER, FEATURES)
    prompts = made_up_prompts(20)
    np.testing.assert_array_equal(loaded.score(prompts, PAIR).win_rates, router.score(prompts, PAIR).win_rates)
    manifest = artifacts.read_manifest(directory)
    assert (loaded.version, manifest.features, manifest.metrics["apgr"]) == (router.version, FEATURES, 0.6)
    assert manifest.hyperparameters["trees"] == 20
    assert (manifest.data["strong"], manifest.data["weak"], manifest.data["prompts_of_both"]) == ("big", "small", 300)


def test_another_encoder_is_refused(router: Boosted, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="the one in use is ffffffffffff"):
        Boosted.load(router.save(tmp_path / "v"), "f" * 64, FEATURES)


def test_other_features_are_refused(router: Boosted, tmp_path: Path) -> None:
    directory = router.save(tmp_path / "v")
    with pytest.raises(ArtifactError, match=r"fitted on other features \(digits, numbers\); train again"):
        Boosted.load(directory, ENCODER, ("log_chars", "log_words", "numbers"))


@pytest.mark.parametrize(
    ("tensor", "value", "fault"),
    [
        ("trees", None, "no tensor 'trees'"),
        ("trees", np.frombuffer(b"not trees", np.uint8), "no trees that this xgboost reads"),
        ("trees", np.frombuffer(b"{L\x00", np.uint8), "no trees that this xgboost reads"),
        ("mean", np.zeros(2, np.float32), r"tensor 'mean' is \(2,\), expected \(3,\)"),
        ("prior", np.zeros(3, np.float32), r"tensor 'prior' is \(3,\), expected \(2,\)"),
    ],
)
def test_tensors_that_do_not_fit_each_other_are_refused(
    router: Boosted, tmp_path: Path, tensor: str, value: NDArray[Any] | None, fault: str
) -> None:
    tensors = {name: array for name, array in router._tensors.items() if name != tensor}
    tensors |= {} if value is None else {tensor: value}
    artifacts.write(tmp_path / "v", tensors, router="boosted", version="v", encoder_id=ENCODER, features=FEATURES)
    with pytest.raises(ArtifactError, match=fault):
        Boosted.load(tmp_path / "v", ENCODER, FEATURES)


def test_the_shipped_router_is_small_and_fits_the_shipped_sample() -> None:
    directory = PRETRAINED / "minilm" / "boosted"
    manifest = artifacts.read_manifest(directory)
    assert manifest.encoder_id == artifacts.read_manifest(PRETRAINED / "minilm" / "calibration").encoder_id
    assert sum(path.stat().st_size for path in directory.iterdir()) < 2**20
    assert Boosted.load(directory, None).version == manifest.version


def test_serving_imports_no_torch() -> None:
    code = (
        "import sys, json, numpy as np; from scorer.calibration import PRETRAINED, shipped_sample;"
        "from scorer.routers.boosted import Boosted;"
        "router = Boosted.load(PRETRAINED / 'minilm' / 'boosted', None);"
        "router.score(shipped_sample('minilm', None)[1], ['a', 'b']);"
        "print(json.dumps(sorted(sys.modules)))"
    )
    loaded = set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))
    assert not loaded & {"torch", "onnxruntime", "matplotlib"}
