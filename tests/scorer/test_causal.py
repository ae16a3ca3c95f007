"""The causal router reads a prompt once, behind a prefix read before, and learns to grade."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from scorer import artifacts, bases
from scorer.artifacts import ArtifactError
from scorer.bases import Base
from scorer.battles import BAR, Battles
from scorer.calibration import PRETRAINED
from scorer.routers import adapters, prefill
from scorer.routers.base import Prompts, ReadsText, Router
from scorer.routers.causal import RUBRIC, Causal, Hyperparameters
from scorer.routers.grades import grades, thinned
from scorer.tables import DataError
from tests.scorer import tiny

WEAK = ("small",)
LADDER = ("big", "middle", "small")
QUICK = Hyperparameters(
    depth=2, tuned=1, rank=2, window=64, cut=64, learning_rate=1e-2, rows_rate=1e-2, epochs=6, halved=False
)
TEXTS = ("", "What is 2 + 2?", "Prove it. " * 60, "日本語", "<|end|>")


def base_of(family: str = "llama", layers: int = 3) -> Base:
    trunk = tiny.model(family, layers=layers).model.requires_grad_(False)
    return Base(f"tiny {family}", family.ljust(64, "0"), trunk, tiny.tokenizer())


def prompts(texts: tuple[str, ...] | list[str]) -> Prompts:
    return Prompts(tuple(texts), np.zeros((len(texts), 0), np.float32), np.zeros((len(texts), 0), np.float32))


def untuned(base: Base, **changed: Any) -> Causal:
    """A router with random rows and without adapters."""
    rows = np.random.default_rng(1).normal(size=(5, 32)).astype(np.float32)
    about = {
        "version": "v",
        "encoder_id": base.digest,
        "data": {},
        "hyperparameters": asdict(replace(QUICK, depth=99)) | {"base": base.source, "rubric": 1} | changed,
        "metrics": {},
    }
    return Causal(base, {"rows": rows}, about)


def words(n: int, seed: int) -> tuple[list[str], NDArray[np.bool_]]:
    """Prompts that are hard iff they are spelt with the end of the alphabet."""
    generator = np.random.default_rng(seed)
    hard = generator.random(n) < 0.5
    return ["".join(generator.choice(list("uvwxyz" if one else "abcdef"), 6)) for one in hard], hard


def toy(n: int = 160, seed: int = 0) -> Battles:
    texts, hard = words(n, seed)
    return Battles.of(texts, ["small"] * n, [BAR] * n, (~hard).astype(np.float64))


@pytest.fixture(scope="module")
def router() -> Causal:
    return Causal.fit(toy(), base=base_of(), weak=WEAK, chosen=QUICK)


@pytest.mark.parametrize("family", bases.FAMILY)
@pytest.mark.parametrize("text", TEXTS)
def test_one_pass_behind_the_prefix_is_the_whole_chat_read_at_once(family: str, text: str) -> None:
    import torch

    base = base_of(family)
    router = untuned(base)
    before, after = base.frame(RUBRIC)
    ids = [*before, *base.tokens(text, 64), *after]
    with torch.no_grad():
        last = tiny.model(family).model(torch.tensor([ids])).last_hidden_state[0, -1]
    logits = (np.random.default_rng(1).normal(size=(5, 32)) @ last.numpy()).astype(np.float64)
    expected = np.exp(logits - logits.max())
    np.testing.assert_allclose(router.labels(text), expected / expected.sum(), atol=1e-5)
    assert expected.std() > 0.01 * expected.mean()


def test_the_layers_above_the_depth_are_left_out() -> None:
    import torch

    shallow = untuned(base_of(layers=3), depth=2)
    whole = tiny.model(layers=3).model
    whole.layers, whole.config.num_hidden_layers = whole.layers[:2], 2
    base = base_of()
    before, after = base.frame(RUBRIC)
    with torch.no_grad():
        last = whole(torch.tensor([[*before, *base.tokens("Why?", 64), *after]])).last_hidden_state[0, -1]
    logits = np.random.default_rng(1).normal(size=(5, 32)) @ last.numpy()
    np.testing.assert_allclose(shallow.labels("Why?"), np.exp(logits) / np.exp(logits).sum(), atol=1e-5)
    assert abs(shallow.labels("Why?") - untuned(base_of()).labels("Why?")).max() > 1e-3


def test_the_win_rate_is_the_probability_of_the_three_lowest_scores(router: Causal) -> None:
    texts = words(9, seed=3)[0]
    labels = np.array([router.labels(text) for text in texts])
    scores = router.score(prompts(texts), LADDER)
    np.testing.assert_allclose(labels.sum(axis=1), 1)
    np.testing.assert_allclose(scores.win_rates[:, 2], labels[:, 0] + labels[:, 1] + labels[:, 2])
    np.testing.assert_allclose(scores.win_rates[:, 1], scores.win_rates[:, 2] / 2)
    assert scores.win_rates[:, 0].tolist() == [0.0] * 9
    assert scores.quality is None


def test_padding_on_the_right_changes_nothing_to_its_left() -> None:
    import torch

    base = base_of()
    rows = [list(range(3, 40)), list(range(50, 55))]
    with torch.no_grad():
        _, prefix = prefill.read_prefix(base.trunk, range(3), prefill.embed(base.trunk, [[1, 2, 3]]))
        together = prefill.read(base.trunk, range(3), prefill.embed(base.trunk, rows), prefix)
        for row, ids in zip(together, rows, strict=True):
            alone = prefill.read(base.trunk, range(3), prefill.embed(base.trunk, [ids]), prefix)[0]
            torch.testing.assert_close(row[: len(ids)], alone, atol=1e-5, rtol=0)


def test_merged_adapters_are_pefts_own_unmerged() -> None:
    import torch

    base, unmerged = base_of(), base_of().trunk
    factors = adapters.attach(unmerged, range(1, 3), QUICK.targets, rank=2, alpha=6)
    assert len(factors) == 2 * 2 * 7
    generator = torch.Generator().manual_seed(0)
    for factor in factors.values():
        factor.data = torch.randn(factor.shape, generator=generator) / 10
    tensors = {name: factor.detach().numpy() for name, factor in factors.items()}
    hidden = prefill.embed(base.trunk, [list(range(20))])
    with torch.no_grad():
        before, _ = prefill.read_prefix(base.trunk, range(3), hidden)
        adapters.merge(base.trunk, tensors, alpha=6)
        merged, _ = prefill.read_prefix(base.trunk, range(3), hidden)
        expected, _ = prefill.read_prefix(unmerged, range(3), hidden)
        torch.testing.assert_close(merged, expected, atol=1e-5, rtol=1e-5)
        assert (merged - before).abs().max() > 0.1
        adapters.detach(unmerged, factors)
        torch.testing.assert_close(prefill.read_prefix(unmerged, range(3), hidden)[0], before, atol=0, rtol=0)


def test_it_learns_which_prompts_are_hard(router: Causal) -> None:
    texts, hard = words(200, seed=9)
    win_rate = router.score(prompts(texts), LADDER).win_rates[:, -1]
    assert ((win_rate > 0.5) == hard).mean() > 0.97
    assert router.metrics["held_out_loss"] < 0.5 * router.metrics["held_out_loss_of_a_constant"]


def test_without_anything_to_learn_it_gives_the_shares() -> None:
    """Every prompt graded 2, 3 and 5 with weights 1, 1 and 2: the best constant is the answer, whatever the prompt."""
    texts = words(60, seed=0)[0]
    outcome, weight = np.repeat([0.25, 0.5, 1.0], 60), np.repeat([1.0, 1.0, 2.0], 60)
    battles = Battles.of(texts * 3, ["small"] * 180, [BAR] * 180, outcome, weight)
    fitted = Causal.fit(battles, base=base_of(), weak=WEAK, chosen=replace(QUICK, epochs=40, patience=40))
    np.testing.assert_allclose(fitted.labels("another"), [0, 0.25, 0.25, 0, 0.5], atol=0.03)


def test_the_same_seed_gives_the_same_router(router: Causal) -> None:
    again = Causal.fit(toy(), base=base_of(), weak=WEAK, chosen=QUICK)
    assert again.version.rpartition("-")[2] == router.version.rpartition("-")[2]  # the digest of all tensors


@pytest.mark.parametrize("rows", [[0], [3, 0], [4, 3, 2, 1, 0], [0] * 10])
def test_a_score_does_not_depend_on_the_batch(router: Causal, rows: list[int]) -> None:
    alone = router.score(prompts(TEXTS), LADDER).win_rates
    together = router.score(prompts([TEXTS[row] for row in rows]), LADDER).win_rates
    assert (together == alone[rows]).all()


def test_threads_get_the_same_numbers(router: Causal) -> None:
    texts = list(TEXTS) * 6
    alone = [router.labels(text).tolist() for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert [one.tolist() for one in pool.map(router.labels, texts)] == alone


def test_nothing_and_too_much_are_scored(router: Causal) -> None:
    long = "x" * 100_000 + "y"
    win_rates = router.score(prompts(["", long, "x" * 32 + "x" * 31 + "y"]), LADDER).win_rates[:, -1]
    assert ((win_rates > 0) & (win_rates < 1)).all()
    assert win_rates[1] == win_rates[2]  # the window's head and tail
    assert router.score(prompts([]), LADDER).win_rates.shape == (0, 3)


def test_it_is_a_router_that_reads_text(router: Causal) -> None:
    as_protocol: Router = router
    assert as_protocol.knows("anything")
    assert isinstance(router, ReadsText)
    assert router.sample is None


def test_what_was_saved_scores_the_same(router: Causal, tmp_path: Path) -> None:
    directory = router.sampled("chat", ["Hello!", "Prove it."]).save(tmp_path / "causal", {"APGR": 0.6})
    loaded = Causal.load(directory, base=base_of())
    assert loaded.version == router.version
    assert loaded.metrics == router.metrics | {"APGR": 0.6}
    for text in TEXTS:
        assert loaded.labels(text).tolist() == router.labels(text).tolist()
    assert loaded.sample is not None
    name, win_rates = loaded.sample
    expected = router.score(prompts(["Hello!", "Prove it."]), LADDER).win_rates[:, -1]
    assert name == "chat"
    np.testing.assert_allclose(win_rates, expected, rtol=1e-6)


def test_the_base_is_found_where_it_was(tmp_path: Path) -> None:
    source = str(tiny.save(tmp_path / "base"))
    fitted = Causal.fit(toy(40), base=bases.load(source), weak=WEAK, chosen=replace(QUICK, epochs=1))
    directory = fitted.save(tmp_path / "causal")
    assert artifacts.read_manifest(directory).encoder_id == bases.digest(bases.find(source))
    assert Causal.load(directory, None).labels("Why?").tolist() == fitted.labels("Why?").tolist()
    tiny.save(tmp_path / "base", seed=1)
    with pytest.raises(ArtifactError, match=r"was tuned on a base with weights .* give that base or train again"):
        Causal.load(directory)


def test_another_base_is_refused(router: Causal, tmp_path: Path) -> None:
    directory = router.save(tmp_path / "causal")
    with pytest.raises(ArtifactError, match="those of tiny mistral are mistral00000") as refused:
        Causal.load(directory, base=base_of("mistral"))
    assert "\n" not in str(refused.value)


def test_another_rubric_is_refused(router: Causal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = router.save(tmp_path / "causal")
    monkeypatch.setattr("scorer.routers.causal.RUBRIC_VERSION", 2)
    with pytest.raises(ArtifactError, match="was tuned to rubric 1, this version has 2"):
        Causal.load(directory, base=base_of())


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"rows": None}, "expected a tensor 'rows'"),
        ({"rows": np.zeros((4, 32), np.float32)}, r"expected a tensor 'rows' of shape \(5, 32\)"),
        ({"layers.1.mlp.up_proj.B": None}, "is half an adapter"),
        ({"layers.1.mlp.up_proj.B": np.zeros((47, 2), np.float16)}, "do not fit"),
        ({"layers.9.mlp.up_proj.A": np.zeros((2, 32), np.float16)}, "adapts nothing"),
        ({"sample": np.zeros(3, np.float32)}, "named sample"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    router: Causal, tmp_path: Path, changed: dict[str, Any], complaint: str
) -> None:
    manifest, tensors = artifacts.read(router.save(tmp_path / "good"), router="causal", encoder_id=None)
    tensors = {name: tensor for name, tensor in (tensors | changed).items() if tensor is not None}
    about = {name: getattr(manifest, name) for name in ("version", "encoder_id", "data", "hyperparameters")}
    directory = artifacts.write(tmp_path / "bad", tensors, router="causal", **about)
    with pytest.raises(ArtifactError, match=complaint):
        Causal.load(directory, base=base_of())


def test_too_few_prompts_are_refused() -> None:
    with pytest.raises(DataError, match="0 prompts with battles of unheard-of against the bar"):
        Causal.fit(toy(), base=base_of(), weak=["unheard-of"], chosen=QUICK)


def test_grades_are_the_nearest_scores_shared_by_weight() -> None:
    battles = Battles.of(
        ["p", "p", "p", "q", "q", "r"],
        ["small", BAR, "other", "small", "big", "small"],
        [BAR, "small", BAR, BAR, BAR, "other"],  # big is not weak, and other is not the bar
        [0.0, 0.0, 0.45, 0.26, 1.0, 1.0],  # scores 1, 5 (it was the bar that lost), 3 and 2
        [0.1, 0.1, 0.2, 3.0, 1.0, 1.0],
    )
    found = grades(battles, ["small", "other"])
    assert found.texts == ("p", "q")
    np.testing.assert_allclose(found.shares, np.array([[0.25, 0, 0.5, 0, 0.25], [0.0, 1, 0, 0, 0]]))
    np.testing.assert_allclose(found.weight, [0.4, 1])


def test_small_sources_are_taken_whole() -> None:
    texts = [f"{source} {i}" for source, size in (("a", 30), ("b", 5), ("c", 12)) for i in range(size)]
    source = [text[0] for text in texts]
    graded = grades(Battles.of(texts, ["small"] * 47, [BAR] * 47, [1.0] * 47, 1.0, source), WEAK)
    for most, sizes in ((47, [30, 5, 12]), (20, [3, 5, 12]), (9, [0, 5, 4])):
        taken = thinned(graded, most, seed=0)
        assert [taken.source.tolist().count(name) for name in "abc"] == sizes
        assert len(set(taken.texts)) == most
    assert thinned(graded, 20, seed=0).texts != thinned(graded, 20, seed=1).texts


@pytest.mark.usefixtures("encoder")  # the cached one, that tells which prompts are close to evaluation
def test_it_is_trained_by_command_with_its_sample(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from scorer import battles
    from scorer.cli import cli

    source, table = tiny.save(tmp_path / "base"), tmp_path / "sample.jsonl"
    battles.write(tmp_path / "battles.jsonl", toy(40))
    table.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in ("uuuu", "aaaa", "uuuu")))
    train = ["train", "causal", "--base", source, "--battles", tmp_path / "battles.jsonl", "--out", tmp_path / "mine"]
    train += ["--weak", "small,little", "--prompts", 30, "--sample", table, "--sample-name", "chat"]
    done = CliRunner().invoke(cli, [str(argument) for argument in train])
    assert done.exit_code == 0, done.output
    assert "graded: small, little" in done.output
    assert "epoch 0: held-out loss" in done.output
    loaded = Causal.load(tmp_path / "mine")
    assert loaded.sample is not None
    assert (loaded.sample[0], loaded.sample[1].shape) == ("chat", (2,))
    manifest = artifacts.read_manifest(tmp_path / "mine")
    assert (manifest.data["weak"], manifest.data["graded"]) == (["little", "small"], 30)
    assert (manifest.hyperparameters["base"], manifest.hyperparameters["prompts"]) == (str(source), 30)


def test_what_ships_loads_and_prefers_the_strong_model_for_the_harder_prompt() -> None:
    directory = PRETRAINED / "causal"
    assert (directory / artifacts.TENSORS).stat().st_size < 5e6
    router = Causal.load(directory)
    easy = "What is the capital of France?\nA. Paris\nB. Rome\nC. Oslo\nD. Bern\nAnswer:"
    hard = "Find the degree of the extension Q(sqrt(2), sqrt(3), sqrt(18)) over Q.\nA. 0\nB. 4\nC. 2\nD. 6\nAnswer:"
    low, high = router.score(prompts([easy, hard]), ("big", "small")).win_rates[:, 1]
    assert low + 0.2 < high
    assert router.sample is not None
    assert router.sample[0] == "chat-1104"
    assert router.sample[1].shape == (1104,)
    manifest = json.loads((directory / artifacts.MANIFEST).read_text())
    assert manifest["encoder_id"] == bases.digest(bases.find(manifest["hyperparameters"]["base"]))
