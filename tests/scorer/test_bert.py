"""The BERT router learns, serves what it learned, and refuses what does not fit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from scorer import artifacts
from scorer.artifacts import ArtifactError
from scorer.battles import BAR, Battles
from scorer.calibration import PRETRAINED
from scorer.encoder import EncoderError
from scorer.routers import adapters, bert
from scorer.routers.base import Prompts, ReadsText, Router
from scorer.routers.bert import Bert, Hyperparameters
from scorer.routers.classifier import Classifier
from scorer.tables import DataError

WORDS = ("alpha", "beta", "gamma", "delta", "hard", "easy", "odd")


def write_base(directory: Path, seed: int = 0, pooler: bool = True) -> str:
    """A random BERT of two layers with a tokenizer of a few words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    vocabulary = {word: i for i, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=64,
            initializer_range=0.2,
        )
        BertModel(config, add_pooling_layer=pooler).save_pretrained(directory)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(directory / "tokenizer.json"))
    return str(directory)


def texts_of(n: int, seed: int = 0) -> list[str]:
    """A word that decides in place of one of up to a dozen that do not."""
    generator = np.random.default_rng(seed)
    texts = []
    for i in range(n):
        words = generator.choice(WORDS[:4], generator.integers(3, 13)).tolist()
        words[generator.integers(len(words))] = WORDS[4 + i % 3]
        texts.append(" ".join([*words, *generator.choice(WORDS[:4], 8).tolist()]))
    return texts


def battles_of(texts: Sequence[str]) -> Battles:
    """The strong model alone is good at hard ones, both are at easy ones, the weak one alone at odd ones."""
    good = {"hard": (1, 0), "easy": (1, 1), "odd": (0, 1)}
    rows = [(t, model, good[next(w for w in WORDS[4:] if w in t)][i]) for t in texts for i, model in enumerate("sw")]
    rows += [("hard", "s", 1), ("hard", "w", 0)]  # so that the strong one is rated higher
    prompt, model, outcome = zip(*rows, strict=True)
    return Battles.of(prompt, model, [BAR] * len(rows), outcome)


def prompts_of(texts: Sequence[str]) -> Prompts:
    nothing = np.zeros((len(texts), 0), np.float32)
    return Prompts(texts, nothing, nothing)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_base(tmp_path_factory.mktemp("base"))


def chosen(source: str, **changes: Any) -> Hyperparameters:
    return Hyperparameters(source, **{"window": 32, "learning_rate": 1e-2, "epochs": 12, "patience": 12} | changes)


def fit(source: str, n: int = 240, **changes: Any) -> Bert:
    battles = battles_of(texts_of(n))
    return Bert.fit(battles, strong="s", weak="w", chosen=chosen(source, **changes), data={"from": "a test"})


@pytest.fixture(scope="module")
def router(base: str) -> Bert:
    return fit(base)


def test_it_learns_all_three_outcomes(router: Bert) -> None:
    texts = texts_of(90, seed=1)
    shares = np.array([router.shares(text) for text in texts])
    assert (shares.argmax(axis=1) == np.arange(90) % 3).mean() > 0.95
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    metrics = router.metrics
    assert metrics["held_out_loss"] < 0.3 < 0.9 < metrics["held_out_loss_of_a_constant"] < 1.2


def test_win_rates_count_ties_half_and_fall_evenly_up_the_ladder(router: Bert) -> None:
    texts = texts_of(6)
    strong, tie, _ = np.array([router.shares(text) for text in texts]).T
    win_rates = router.score(prompts_of(texts), ["anyone", "between", "whoever"]).win_rates
    np.testing.assert_allclose(win_rates, np.outer(strong + tie / 2, [0, 0.5, 1]))
    assert router.score(prompts_of([]), ["anyone", "whoever"]).win_rates.shape == (0, 2)
    assert router.knows("anyone")


def test_a_score_does_not_depend_on_the_batch(router: Bert) -> None:
    texts = [*texts_of(20), "hard", "a word it never saw", " ".join(["alpha"] * 500)]
    together = router.score(prompts_of(texts), "ab").win_rates
    alone = [router.score(prompts_of([text]), "ab").win_rates[0] for text in texts]
    np.testing.assert_array_equal(together, alone)


def test_merged_adapters_are_pefts_own_unmerged_forward(base: str) -> None:
    """Second way: the same factors, left beside the weights in peft's own layers."""
    import torch

    unmerged, generator = Classifier.load(base), torch.Generator().manual_seed(3)
    tuned = bert._parameters(unmerged, chosen(base, rank=3, alpha=7))
    names = [name for name in tuned if name.endswith(adapters.A)]
    assert len(names) == 2 * 6 + 1  # four maps of attention and two of the perceptron in either layer; the pooler
    with torch.no_grad():
        for parameter in tuned.values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    tensors = {name: parameter.detach().numpy() for name, parameter in tuned.items()}
    about = {"version": "1", "metrics": {}, "data": {}, "hyperparameters": {"alpha": 7, "window": 32}}
    merged, plain = Bert(Classifier.load(base), tensors, about), Classifier.load(base)
    for text in texts_of(8):
        ids = torch.tensor([plain.tokens(text, 32)])
        expected = unmerged.network(ids).logits.softmax(dim=1)[0].detach()
        np.testing.assert_allclose(merged.shares(text), expected, atol=1e-5)
        assert np.abs(plain.network(ids).logits.softmax(dim=1)[0].numpy() - expected.numpy()).max() > 1e-3


def test_the_top_layers_on_kept_states_are_the_whole_network(base: str) -> None:
    import torch

    whole, cut = Classifier.load(base), Classifier.load(base)
    tokens, seen = [whole.tokens(text, 32) for text in texts_of(9)], []
    top = bert._Top(cut, tokens, 1, lambda *at: seen.append(at))
    expected = torch.cat([whole.network(torch.tensor([ids])).logits for ids in tokens])
    logits = top.logits(np.arange(9)).detach()
    np.testing.assert_allclose(logits, expected.detach(), atol=0.02)  # kept in half precision
    assert expected.std(dim=0).min() > 0.05  # there is something to agree on
    assert seen[-1] == (9, 9)


def test_a_long_text_is_read_at_both_ends(router: Bert, base: str) -> None:
    classifier = Classifier.load(base)
    words = ["alpha", *["beta"] * 5000, "delta"]
    ids = classifier.tokens(" ".join(words), 16)
    assert ids == [2, 4, *[5] * 12, 7, 3]  # [CLS] alpha beta ... delta [SEP]
    assert classifier.tokens("alpha \ud800 beta", 16) == [2, 4, 5, 3]


def test_progress_is_told_and_the_best_epoch_kept(base: str) -> None:
    told: list[float] = []
    battles = battles_of(texts_of(60))
    settings = chosen(base, learning_rate=0.05, epochs=30, patience=2, batch=8)
    router = Bert.fit(battles, strong="s", weak="w", chosen=settings, told=lambda _, loss: told.append(loss))
    best = int(np.argmin(told))
    assert len(told) == best + 1 + 2 < 30  # stopped by patience
    assert router.metrics["held_out_loss"] == pytest.approx(min(told), abs=1e-6)
    assert router.metrics["epochs"] == best + 1


def test_the_same_seed_gives_the_same_router(base: str) -> None:
    versions = [fit(base, 40, epochs=2, seed=seed).version.rsplit("-", 1)[1] for seed in (0, 0, 1)]
    assert versions[0] == versions[1] != versions[2]


def test_a_saved_router_scores_the_same(router: Bert, base: str, tmp_path: Path) -> None:
    texts = texts_of(10)
    sampled = router.sampled("chat-10", texts)
    loaded: Router = Bert.load(sampled.save(tmp_path / "bert", {"apgr": 0.6}))
    np.testing.assert_array_equal(
        loaded.score(prompts_of(texts), "ab").win_rates, router.score(prompts_of(texts), "ab").win_rates
    )
    assert isinstance(loaded, ReadsText)
    assert loaded.sample is not None
    assert loaded.sample[0] == "chat-10"
    np.testing.assert_array_equal(loaded.sample[1], router.score(prompts_of(texts), "ab").win_rates[:, 1].astype("f4"))
    assert router.sample is None
    manifest = artifacts.read_manifest(tmp_path / "bert")
    assert (loaded.name, loaded.version) == ("bert", router.version)
    assert manifest.encoder_id == Classifier.load(base).digest
    assert manifest.models == ("s", "w")
    assert manifest.metrics == router.metrics | {"apgr": 0.6}
    assert manifest.data == {"from": "a test", "strong": ["s"], "weak": ["w"], "compared": 241, "sample": "chat-10"}
    assert {path.name for path in (tmp_path / "bert").iterdir()} == {artifacts.MANIFEST, artifacts.TENSORS}


def test_a_base_without_a_pooler_gets_one(tmp_path: Path) -> None:
    """Whatever the source lacks is made up, tuned and saved: made up again, it would be another."""
    source = write_base(tmp_path / "base", pooler=False)
    router = fit(source, 40, epochs=1)
    loaded = Bert.load(router.save(tmp_path / "bert"))
    assert "bert.pooler.dense.weight" in artifacts.read_manifest(tmp_path / "bert").tensors
    np.testing.assert_array_equal(loaded.shares("hard"), router.shares("hard"))


def test_another_base_is_refused(router: Bert, base: str, tmp_path: Path) -> None:
    directory = router.save(tmp_path / "bert")
    own, other = Classifier.load(base).digest, write_base(tmp_path / "other", seed=1)
    weights = Path(base) / "model.safetensors"
    kept = weights.read_bytes()
    try:
        weights.write_bytes((Path(other) / "model.safetensors").read_bytes())
        with pytest.raises(ArtifactError, match=f"was fitted on base {own[:12]}, the one found at .* is .*; give that"):
            Bert.load(directory)
        weights.unlink()
        with pytest.raises(EncoderError, match="has no model"):
            Bert.load(directory)
    finally:
        weights.write_bytes(kept)


def rewritten(router: Bert, directory: Path, tensors: dict[str, NDArray[Any] | None], **about: Any) -> Path:
    """A sound artifact of other content."""
    changed = {name: array for name, array in (router._tensors | tensors).items() if array is not None}
    return artifacts.write(directory, changed, router="bert", **(router._about | about))


@pytest.mark.parametrize(
    ("tensors", "about", "message"),
    [
        (
            {"classifier.weight": None},
            {},
            r"tensors.safetensors: expected a tensor 'classifier.weight' of shape \(3, 32\)",
        ),
        ({"classifier.bias": np.zeros(2, "f4")}, {}, r"expected a tensor 'classifier.bias' of shape \(3,\)"),
        ({"bert.pooler.dense.A": None}, {}, "tensor 'bert.pooler.dense.B' is half an adapter"),
        ({"bert.pooler.dense.A": np.zeros((8, 9), "f4")}, {}, "do not fit"),
        ({"elsewhere.A": np.zeros((8, 9), "f4")}, {}, "tensor 'elsewhere.A' is half an adapter, or adapts nothing"),
        ({"sample": np.zeros(4, "f4")}, {}, "tensor 'sample' is not one column of a named sample"),
        ({}, {"hyperparameters": {"window": 31}}, r"artifact.json: hyperparameters: .* - at `\$.window`"),
        ({}, {"hyperparameters": {"depth": 3}}, "hyperparameters: .*unknown field `depth`"),
    ],
)
def test_what_does_not_fit_is_refused(
    router: Bert, tmp_path: Path, tensors: dict[str, NDArray[Any] | None], about: dict[str, Any], message: str
) -> None:
    if "hyperparameters" in about:
        about = {"hyperparameters": router._about["hyperparameters"] | about["hyperparameters"]}
    with pytest.raises(ArtifactError, match=message):
        Bert.load(rewritten(router, tmp_path / "bert", tensors, **about))


def test_too_few_prompts_are_refused(base: str) -> None:
    with pytest.raises(
        DataError, match="10 prompts tell of s and its peers against w and its; fitting takes at least 20"
    ):
        fit(base, 9)


def test_a_source_that_is_no_encoder_is_refused(tmp_path: Path) -> None:
    source = write_base(tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(EncoderError, match=r"base .*: cannot be read from .*/base \(") as error:
        Classifier.load(source)
    assert "\n" not in str(error.value)


def test_it_is_trained_by_command_with_its_sample(base: str, tmp_path: Path) -> None:
    from scorer import battles

    battles.write(tmp_path / "battles.jsonl", battles_of(texts_of(40)))
    (tmp_path / "sample.jsonl").write_text(
        "".join(json.dumps({"prompt": text}) + "\n" for text in ("hard", "odd", "hard"))
    )
    train = [sys.executable, "-m", "scorer", "train", "bert", "--battles", "battles.jsonl", "--base", base]
    train += ["--strong", "s", "--weak", "w", "--sample", "sample.jsonl", "--sample-name", "chat", "--out", "bert"]
    done = subprocess.run(train, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "strong: s\nweak: w\n" in done.stdout
    assert "epoch 0: held-out loss" in done.stdout
    assert "LOAD REPORT" not in done.stdout + done.stderr
    loaded = Bert.load(tmp_path / "bert")
    assert loaded.sample is not None
    assert (loaded.sample[0], loaded.sample[1].shape) == ("chat", (2,))


def test_the_shipped_router_loads_on_the_installed_base() -> None:
    router = Bert.load(PRETRAINED / "bert")
    assert router.sample is not None
    name, win_rates = router.sample
    assert (name, win_rates.shape) == ("chat-1104", (1104,))
    assert 0.05 < win_rates.min() < win_rates.max() < 1
    assert sum(path.stat().st_size for path in (PRETRAINED / "bert").iterdir()) < 3e6
