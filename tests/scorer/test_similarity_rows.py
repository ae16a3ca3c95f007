"""A ranking grows as a fit with the new rows would, is saved and shipped whole, and refuses what does not fit it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from scorer import artifacts
from scorer.artifacts import ArtifactError
from scorer.battles import BAR, Battles, concatenate
from scorer.calibration import PRETRAINED, SAMPLE, shipped_sample
from scorer.routers.base import Prompts, Router
from scorer.routers.similarity import Similarity
from scorer.routers.variants import Sharp, Upstream, Variant
from tests.scorer.ranking import ENCODER, FEATURES, MODELS, fit, made_up_prompts, quality_of, take, thumbs


@pytest.fixture(scope="module")
def router() -> Similarity:
    prompts = made_up_prompts(300)
    return fit(prompts, thumbs(prompts), Sharp(nearest=40))


@pytest.mark.parametrize("chosen", [Sharp(nearest=40), Upstream(tiers=5)])
def test_appending_equals_fitting_again(chosen: Variant) -> None:
    """With the features' standardisation alike; here they are constant."""
    prompts, asked = made_up_prompts(240), made_up_prompts(30, 1)
    prompts = Prompts(prompts.texts, prompts.embeddings, np.ones_like(prompts.features))
    first, second, third = list(range(100)), list(range(100, 101)), list(range(101, 240))
    parts = [take(prompts, rows) for rows in (first, second, third)]
    fought = [thumbs(parts[0]), thumbs(parts[1]), thumbs(parts[2], ("big", "new", "small"))]
    grown = fit(parts[0], fought[0], chosen).append(fought[1], parts[1]).append(fought[2], parts[2])
    again = fit(prompts, concatenate(fought), chosen)
    ladder = ["big", "new", "middle", "small"]
    np.testing.assert_allclose(grown.score(asked, ladder).win_rates, again.score(asked, ladder).win_rates, atol=1e-12)


def test_appending_shares_the_rows_and_leaves_the_router_alone(router: Similarity) -> None:
    prompts, asked = made_up_prompts(20, 7), made_up_prompts(10, 1)
    before = router.score(asked, MODELS).win_rates
    grown = router.append(thumbs(prompts, ("big", "new")), prompts, {"rows": 20})
    assert grown._blocks[0] is router._blocks[0]
    assert len(grown._blocks) == 2
    assert grown.knows("new")
    assert not router.knows("new")
    assert grown._about["parent"] == router.version != grown.version
    assert grown._about["data"] == {"rows": 20}
    np.testing.assert_array_equal(router.score(asked, MODELS).win_rates, before)
    assert not np.array_equal(grown.score(asked, MODELS).win_rates, before)


def test_what_was_appended_moves_prompts_like_it() -> None:
    """Praise for small on one prompt's likes: it is trusted there, and not on the opposite prompt."""
    prompts = made_up_prompts(300)
    router = fit(prompts, thumbs(prompts), Sharp(nearest=30, features=0))
    here = Prompts(["here", "far"], prompts.embeddings[:1] * np.array([[1], [-1]], np.float32), prompts.features[:2])
    likes = Prompts([f"like {i}" for i in range(40)], prompts.embeddings[:1].repeat(40, 0), prompts.features[:40])
    grown = router.append(thumbs(likes, ("big", "small")), likes)
    praised = Battles.of(likes.texts, ["small"] * 40, [BAR] * 40, [1.0] * 40)
    grown = grown.append(praised, likes)
    change = quality_of(grown, here, ["big", "small"]) - quality_of(router, here, ["big", "small"])
    assert change[0, 1] > 0.1
    assert abs(change[1, 1]) < 0.02


@pytest.mark.parametrize("chosen", [Sharp(nearest=25, features=0.2), Upstream(tiers=2, own=("small",))])
def test_a_saved_router_scores_the_same(chosen: Variant, tmp_path: Path) -> None:
    prompts, asked = made_up_prompts(100), made_up_prompts(20, 1)
    fitted = fit(prompts, thumbs(prompts), chosen)
    directory = fitted.save(tmp_path / "sw" / fitted.version, {"apgr": 0.6})
    loaded: Router = Similarity.load(directory, ENCODER, FEATURES)
    np.testing.assert_array_equal(loaded.score(asked, MODELS).win_rates, fitted.score(asked, MODELS).win_rates)
    manifest = artifacts.read_manifest(directory)
    assert (loaded.version, manifest.features, manifest.metrics["apgr"]) == (fitted.version, FEATURES, 0.6)
    assert msgspec.convert(manifest.hyperparameters, type(chosen)) == chosen
    assert loaded.knows("big")
    assert not loaded.knows(BAR)


def test_a_grown_router_is_saved_whole(router: Similarity, tmp_path: Path) -> None:
    prompts, asked = made_up_prompts(20, 7), made_up_prompts(10, 1)
    grown = router.append(thumbs(prompts, ("big", "new")), prompts)
    loaded = Similarity.load(grown.save(tmp_path / "v"), ENCODER, FEATURES)
    assert len(loaded._blocks) == 1
    np.testing.assert_allclose(
        loaded.score(asked, ["big", "new", "small"]).win_rates,
        grown.score(asked, ["big", "new", "small"]).win_rates,
        atol=1e-12,
    )
    assert artifacts.read_manifest(tmp_path / "v").parent == router.version


def test_another_encoder_is_refused(router: Similarity, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="the one in use is ffffffffffff"):
        Similarity.load(router.save(tmp_path / "v"), "f" * 64, FEATURES)


def test_other_features_are_refused(router: Similarity, tmp_path: Path) -> None:
    directory = router.save(tmp_path / "v")
    with pytest.raises(ArtifactError, match=r"fitted on other features \(digits, numbers\); train again"):
        Similarity.load(directory, ENCODER, ("length", "numbers"))
    with pytest.raises(ArtifactError, match="their order"):
        Similarity.load(directory, ENCODER, FEATURES[::-1])


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("player", lambda t: t[:-1], r"'player' is \(3,\), expected \(4,\)"),
        ("player", lambda t: t + 9, "'player' is not whole numbers from 0 to 3"),
        ("mean", lambda t: None, "no tensor 'mean'"),
        ("mean", lambda t: t[:1], r"'mean' is \(1,\), expected \(2,\)"),
        ("rows", lambda t: t[:, :2], r"'rows' is \(300, 2\), expected d \+ 2 columns"),
        ("rows", lambda t: t.astype(np.float32), "'rows' is not int8 rows"),
        ("rows", lambda t: t[:-1], r"'count' is \(300,\), expected \(299,\)"),
        ("count", lambda t: t + 1, "'count' and 'wins' do not describe 900 entries"),
        ("pair", lambda t: t + 1, "'pair' is not whole numbers from 0 to 2"),
        ("pair", lambda t: np.array(0), "'pair' is"),
        ("pairs", lambda t: t + 2, "'pairs' is not whole numbers from 0 to 3"),
        ("wins", lambda t: t[:, 0], r"'wins' is \(900,\), expected \(900, 2\)"),
        ("wins", lambda t: -t, "'count' and 'wins' do not describe"),
    ],
)
def test_tensors_that_do_not_fit_each_other_are_refused(
    router: Similarity, tmp_path: Path, name: str, change: Any, fault: str
) -> None:
    _, tensors = artifacts.read(router.save(tmp_path / "good"), router="sw", encoder_id=None)
    changed = change(tensors.pop(name))
    tensors |= {} if changed is None else {name: changed}
    artifacts.write(
        tmp_path / "bad",
        tensors,
        router="sw",
        version="v",
        encoder_id=ENCODER,
        models=router.models,
        features=FEATURES,
        hyperparameters=msgspec.to_builtins(router.chosen),
    )
    with pytest.raises(ArtifactError, match=fault):
        Similarity.load(tmp_path / "bad", ENCODER, FEATURES)


@pytest.mark.parametrize(
    ("hyperparameters", "fault"),
    [
        ({}, "missing required field `variant`"),
        ({"variant": "blunt"}, "Invalid value 'blunt'"),
        ({"variant": "sharp", "ridge": 0}, r"`float` > 0.* - at `\$.ridge`"),
    ],
)
def test_other_variants_are_refused(
    router: Similarity, tmp_path: Path, hyperparameters: dict[str, object], fault: str
) -> None:
    _, tensors = artifacts.read(router.save(tmp_path / "good"), router="sw", encoder_id=None)
    artifacts.write(
        tmp_path / "bad",
        tensors,
        router="sw",
        version="v",
        encoder_id=ENCODER,
        models=router.models,
        features=FEATURES,
        hyperparameters=hyperparameters,
    )
    with pytest.raises(ArtifactError, match=fault):
        Similarity.load(tmp_path / "bad", ENCODER, FEATURES)


def test_the_shipped_router_is_small_and_knows_the_benchmarks_pair() -> None:
    directory = PRETRAINED / "minilm" / "sw"
    shipped = Similarity.load(directory, None)
    assert shipped.knows("gpt-4-1106-preview")
    assert shipped.knows("mixtral-8x7b-instruct-v0.1")
    assert isinstance(shipped.chosen, Sharp)
    assert sum(path.stat().st_size for path in directory.iterdir()) < 15 * 2**20
    assert (
        artifacts.read_manifest(directory).encoder_id
        == artifacts.read_manifest(PRETRAINED / "minilm" / SAMPLE).encoder_id
    )


def test_the_shipped_router_ranks_the_shipped_sample_by_more_than_noise() -> None:
    """The strongest model's quality lies above the weak one's on nearly every prompt, by very different amounts."""
    _, sample = shipped_sample("minilm", None)
    few = Prompts(sample.texts[:300], sample.embeddings[:300], sample.features[:300])
    ladder = ["gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1"]
    win = Similarity.load(PRETRAINED / "minilm" / "sw", None).score(few, ladder)
    assert (win.win_rates[:, 1] > 0.5).mean() > 0.95
    assert 0.02 < win.win_rates[:, 1].std() < 0.2


def test_serving_never_imports_a_training_library() -> None:
    code = (
        "import sys, json; from scorer.calibration import PRETRAINED, shipped_sample;"
        "from scorer.routers.base import Prompts;"
        "from scorer.routers.similarity import Similarity;"
        "_, all = shipped_sample('minilm', None); few = Prompts(all.texts[:9], all.embeddings[:9], all.features[:9]);"
        "Similarity.load(PRETRAINED / 'minilm' / 'sw', None).score(few, ('gpt-4o', 'gemma-7b'));"
        "print(json.dumps(sorted(sys.modules)))"
    )
    loaded = set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))
    assert not loaded & {"torch", "pyarrow", "pandas", "onnxruntime", "scipy", "sklearn"}
