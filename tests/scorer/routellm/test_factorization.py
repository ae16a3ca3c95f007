"""RouteLLM's mf: true names and sizes, random numbers, checked against upstream's formulas written out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from scorer.artifacts import ArtifactError
from scorer.config import ConfigError
from scorer.routellm.factorization import Factorization
from scorer.routers.base import UnknownModel, Unscorable
from tests.scorer.routellm.endpoint import Endpoint, vector
from tests.scorer.routellm.made_up import STRONG, TEXTS, WEAK, mf_tensors, prompts, write_mf

MODELS = [f"model-{row}" for row in range(64)]


def upstream(tensors: dict[str, NDArray[np.float32]], strong: int, weak: int, text: str) -> float:
    """The model's forward as published: rows normalised, the text projected, multiplied, classified."""
    rows = tensors["P.weight"][[strong, weak]].astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    projected = tensors["text_proj.0.weight"].astype(np.float64) @ vector(text).astype(np.float64)
    logits = (rows * projected) @ tensors["classifier.0.weight"][0].astype(np.float64)
    return float(1 / (1 + np.exp(logits[1] - logits[0])))


@pytest.fixture
def router(endpoint: Endpoint, tmp_path: Path) -> Factorization:
    return Factorization.load(write_mf(tmp_path / "mf_gpt4_augmented"), endpoint.settings())


def test_the_reference_pair_scores_as_upstream_does(router: Factorization) -> None:
    expected = [upstream(mf_tensors(), 24, 36, text) for text in TEXTS]
    assert min(expected) < 0.45 < 0.55 < max(expected)
    np.testing.assert_allclose(router.score(prompts(), (STRONG, WEAK)).win_rates[:, 1], expected, atol=1e-12)
    assert router.score(prompts(), (STRONG, WEAK)).win_rates[:, 0].tolist() == [0.5] * len(TEXTS)


def test_a_ladder_of_other_models_is_scored_by_the_reference_pair_and_spread(router: Factorization) -> None:
    expected = np.array([upstream(mf_tensors(), 24, 36, text) for text in TEXTS])
    scores = router.score(prompts(), ("gpt-5", "gpt-5-mini", "gpt-5-nano"))
    np.testing.assert_allclose(scores.win_rates, expected[:, None] * [0, 0.5, 1], atol=1e-12)
    assert scores.quality is None
    assert router.knows(STRONG)
    assert not router.knows("gpt-5")


def test_a_known_weak_model_alone_does_not_name_the_ladder(router: Factorization) -> None:
    pair = router.score(prompts(), (STRONG, WEAK)).win_rates[:, 1]
    np.testing.assert_array_equal(router.score(prompts(), ("gpt-5", WEAK)).win_rates[:, 1], pair)


def test_names_beside_the_weights_make_all_rows_known(endpoint: Endpoint, tmp_path: Path) -> None:
    directory = write_mf(tmp_path)
    (directory / "models.json").write_text(json.dumps(MODELS))
    router = Factorization.load(directory, endpoint.settings())
    scores = router.score(prompts(), ("model-3", "new", "model-60", "newer")).win_rates
    expected = [upstream(mf_tensors(), 3, 60, text) for text in TEXTS]
    np.testing.assert_allclose(scores[:, 2], expected, atol=1e-12)
    np.testing.assert_array_equal(scores[:, 3], scores[:, 2])
    logit = np.log(scores / (1 - scores))
    np.testing.assert_allclose(logit[:, 1], logit[:, 2] / 2, atol=1e-12)  # the mean of its neighbours' vectors
    with pytest.raises(UnknownModel, match="knows no model of the ladder"):
        router.score(prompts(), ("gpt-5", "model-3"))


def test_a_score_does_not_depend_on_what_it_is_batched_with(router: Factorization) -> None:
    together = router.score(prompts(*TEXTS, *map(str, range(50))), (STRONG, WEAK)).win_rates
    alone = [router.score(prompts(text), (STRONG, WEAK)).win_rates[0] for text in TEXTS]
    np.testing.assert_array_equal(together[: len(TEXTS)], alone)


def test_the_training_scripts_names_are_read_and_its_prompts_dropped(endpoint: Endpoint, tmp_path: Path) -> None:
    tensors = mf_tensors()
    trained = {
        "P.weight": tensors["P.weight"],
        "Q.weight": np.zeros((100, 1536), np.float32),
        "text_proj.weight": tensors["text_proj.0.weight"],
        "classifier.weight": tensors["classifier.0.weight"],
    }
    router = Factorization.load(write_mf(tmp_path / "trained", trained), endpoint.settings())
    published = Factorization.load(write_mf(tmp_path / "published"), endpoint.settings())
    for ladder in ((STRONG, WEAK), ("a", "b")):
        expected = published.score(prompts(), ladder).win_rates
        np.testing.assert_array_equal(router.score(prompts(), ladder).win_rates, expected)


def test_a_version_names_weights_and_embedding_model(endpoint: Endpoint, tmp_path: Path) -> None:
    first = Factorization.load(write_mf(tmp_path / "a"), endpoint.settings()).version
    assert first == Factorization.load(write_mf(tmp_path / "b"), endpoint.settings()).version
    others = [
        Factorization.load(write_mf(tmp_path / "c", mf_tensors(1)), endpoint.settings()),
        Factorization.load(tmp_path / "a", endpoint.settings(model="nomic-embed-text")),
    ]
    assert len({first, *(other.version for other in others)}) == 3
    assert first.startswith("routellm-")


def test_other_sizes_that_fit_each_other_are_read(endpoint: Endpoint, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    tensors = {
        "P.weight": generator.normal(size=(3, 8)).astype(np.float32),
        "text_proj.0.weight": generator.normal(size=(8, 1536)).astype(np.float32),
        "classifier.0.weight": generator.normal(size=(1, 8)).astype(np.float32),
    }
    directory = write_mf(tmp_path, tensors)
    with pytest.raises(ArtifactError, match=r"3 models, not the published 64; name them in models\.json"):
        Factorization.load(directory, endpoint.settings())
    (directory / "models.json").write_text('["a", "b", "c"]')
    win = Factorization.load(directory, endpoint.settings()).score(prompts(), ("a", "c")).win_rates[:, 1]
    np.testing.assert_allclose(win, [upstream(tensors, 0, 2, text) for text in TEXTS], atol=1e-12)


def test_an_endpoint_that_is_away_makes_prompts_unscorable_and_nothing_else(
    router: Factorization, endpoint: Endpoint
) -> None:
    router.score(prompts("known"), (STRONG, WEAK))
    endpoint.stop()
    with pytest.raises(Unscorable) as raised:
        router.score(prompts("new", "known", "", "newer"), (STRONG, WEAK))
    assert raised.value.rows == {0, 3}
    assert router.score(prompts("known", ""), (STRONG, WEAK)).win_rates[1, 1] == 0.5


def test_no_endpoint_is_a_line_that_says_where_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reads prompts through an embeddings endpoint; say which: `embeddings:"):
        Factorization.load(write_mf(tmp_path), None)


def changed(**changes: NDArray[np.float32] | None) -> dict[str, NDArray[np.float32]]:
    tensors = {**mf_tensors(), **{name.replace("__", "."): tensor for name, tensor in changes.items()}}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (changed(P__weight=None), "no tensor 'P.weight'; a RouteLLM mf has P.weight, text_proj.0.weight, classifier.0"),
        (changed(text_proj__0__weight=None), "no tensor 'text_proj.0.weight'"),
        (changed(bias=np.zeros(1, np.float32)), "unknown tensor 'bias'; a RouteLLM mf has P.weight"),
        (changed(P__weight=np.ones((64, 127), np.float32)), r"P.weight \[64, 127\], text_proj.0.weight \[128, 1536\]"),
        (changed(classifier__0__weight=np.ones((3, 128), np.float32)), r"classifier.0.weight \[3, 128\]; expected"),
        (changed(P__weight=np.ones(128, np.float32)), r"P.weight \[128\]"),
        (changed(P__weight=np.full((64, 128), np.nan, np.float32)), "tensor 'P.weight' is not finite numbers"),
    ],
)
def test_tensors_that_are_not_those_of_an_mf_are_refused(
    endpoint: Endpoint, tmp_path: Path, tensors: dict[str, NDArray[np.float32]], says: str
) -> None:
    with pytest.raises(ArtifactError, match=rf"model\.safetensors: .*{says}") as raised:
        Factorization.load(write_mf(tmp_path, tensors), endpoint.settings())
    assert "\n" not in str(raised.value)


def test_a_truncated_file_is_refused(endpoint: Endpoint, tmp_path: Path) -> None:
    path = write_mf(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="not a safetensors file"):
        Factorization.load(tmp_path, endpoint.settings())


def test_a_pickled_checkpoint_is_never_opened(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02never read")
    with pytest.raises(ArtifactError, match=r"no model\.safetensors; pytorch_model\.bin is pickled"):
        Factorization.load(tmp_path, endpoint.settings())


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("[", "not a JSON list of names"),
        ('{"a": 1}', "not a JSON list of names"),
        (json.dumps(MODELS[:63]), "63 names, 63 of them distinct, for 64 models"),
        (json.dumps([*MODELS[:63], "model-0"]), "64 names, 63 of them distinct, for 64 models"),
    ],
)
def test_names_that_do_not_name_the_rows_are_refused(endpoint: Endpoint, tmp_path: Path, names: str, says: str) -> None:
    write_mf(tmp_path)
    (tmp_path / "models.json").write_text(names)
    with pytest.raises(ArtifactError, match=rf"models\.json: {says}"):
        Factorization.load(tmp_path, endpoint.settings())


def test_weights_in_half_precision_are_read(endpoint: Endpoint, tmp_path: Path) -> None:
    half = {name: tensor.astype(np.float16) for name, tensor in mf_tensors().items()}
    tmp_path.joinpath("model.safetensors").write_bytes(safetensors.numpy.save(half))
    win = Factorization.load(tmp_path, endpoint.settings()).score(prompts(), (STRONG, WEAK)).win_rates[:, 1]
    rounded = {name: tensor.astype(np.float32) for name, tensor in half.items()}
    np.testing.assert_allclose(win, [upstream(rounded, 24, 36, text) for text in TEXTS], atol=1e-12)


def test_serving_imports_no_training_library(tmp_path: Path) -> None:
    write_mf(tmp_path)
    code = (
        "import json, sys; from pathlib import Path; from scorer.sections import EmbeddingsConfig;"
        "from scorer.routellm import layout;"
        f"layout.load('mf', Path({str(tmp_path)!r}), EmbeddingsConfig());"
        "print(json.dumps(sorted(sys.modules)))"
    )
    loaded = set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))
    assert not loaded & {"torch", "transformers", "pyarrow", "pandas", "openai", "httpx"}
