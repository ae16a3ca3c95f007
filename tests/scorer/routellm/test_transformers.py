"""RouteLLM's bert and causal LLM: tiny random networks in directories of the published layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from scorer.artifacts import ArtifactError
from scorer.routellm import layout
from scorer.routellm.bert import Bert
from scorer.routellm.causal import Causal
from scorer.routers.base import ReadsText
from tests.scorer.routellm.made_up import TEXTS, prompts

LADDER = ("big", "small")
CONTROL = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
LABELS = tuple(f"[[{score}]]" for score in range(1, 6))
SYSTEM = (
    '[Instruction]\nPredict the score.\nProvide your prediction as: "[[predicted rating]]".\n\nScore criteria:\n- 1\n'
)
QUESTION = "[Question]\n{question}\n\nPrediction:\n"

Make = Callable[[Path], Path]


def xlm_roberta(directory: Path) -> Path:
    """Three labels, a unigram tokenizer with XLM-R's frame of special tokens, 64 positions; and the trainer's rest."""
    torch.manual_seed(0)
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(chr(code), -4.0) for code in range(33, 127)] + [("▁the", -3.0), ("ing", -3.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.enable_padding(pad_id=1, pad_token="<pad>")  # which it must not do
    config = transformers.XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=66,
        type_vocab_size=1,
        pad_token_id=1,
        num_labels=3,
        initializer_range=0.5,
    )
    transformers.XLMRobertaForSequenceClassification(config).save_pretrained(directory)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text('{"model_max_length": 64}')
    (directory / "optimizer.pt").write_bytes(b"never read")
    (directory / "trainer_state.json").write_text("{}")
    return directory


def llama_tokenizer() -> Tokenizer:
    """Byte-level BPE with Llama 3's control tokens, without the five scores, as Meta's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([SYSTEM, QUESTION, *TEXTS, "system user assistant\n\n"] * 3, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL])
    begin = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        "<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", begin)]
    )
    return tokenizer


def llama(directory: Path, positions: int = 512) -> Path:
    """Shards, untied embeddings, prompts and the empty file that lies beside them, without a tokenizer."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=llama_tokenizer().get_vocab_size() + 5,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=positions,
        tie_word_embeddings=False,
        initializer_range=0.2,
    )
    network = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    network.save_pretrained(directory, max_shard_size="40KB")
    assert len(list(directory.glob("model-*-of-*.safetensors"))) >= 2
    (directory / "new_embeddings.safetensors").write_bytes(safetensors.torch.save({}))
    (directory / "system_ft_v5.txt").write_text(SYSTEM)
    (directory / "classifier_ft_v5.txt").write_text(QUESTION)
    return directory


def with_tokenizer(directory: Path) -> Path:
    llama_tokenizer().save(str(directory / "tokenizer.json"))
    return directory


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(logits - logits.max())
    softened: NDArray[np.float64] = e / e.sum()
    return softened


def upstream_bert(directory: Path, text: str) -> float:
    """As upstream: the directory's tokenizer with truncation, three logits, 1 - (p1 + p2)."""
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(directory / "tokenizer.json"), model_max_length=64, pad_token="<pad>"
    )
    network = transformers.AutoModelForSequenceClassification.from_pretrained(directory, num_labels=3).eval()
    with torch.no_grad():
        logits = network(**tokenizer(text, return_tensors="pt", padding=True, truncation=True)).logits.numpy()[0]
    return float(1 - softmax(logits.astype(np.float64))[-2:].sum())


def llama_text(question: str) -> str:
    """Upstream's conversation, whose messages it strips, and the assistant's header, which its model writes."""
    turns = [("system", SYSTEM.strip()), ("user", QUESTION.format(question=question).strip())]
    text = "".join(f"<|start_header_id|>{role}<|end_header_id|>\n\n{said}<|eot_id|>" for role, said in turns)
    return f"{text}<|start_header_id|>assistant<|end_header_id|>\n\n"


def upstream_causal(directory: Path, question: str) -> float:
    """The scores' logits at the first new token after the header: 1 - P(4) - P(5)."""
    tokenizer = llama_tokenizer()
    tokenizer.add_special_tokens([AddedToken(label, special=True, normalized=False) for label in LABELS])
    ids = torch.tensor([tokenizer.encode(llama_text(question)).ids])
    network = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16).eval()
    with torch.no_grad():
        logits = network(ids).logits[0, -1].float().numpy().astype(np.float64)
    of_labels = logits[[tokenizer.token_to_id(label) for label in LABELS]]
    return float(1 - softmax(of_labels)[3:].sum())


@pytest.fixture(scope="module")
def bert_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return xlm_roberta(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def causal_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_tokenizer(llama(tmp_path_factory.mktemp("causal")))


@pytest.fixture(scope="module")
def bert(bert_directory: Path) -> Bert:
    return Bert.load(bert_directory)


@pytest.fixture(scope="module")
def causal(causal_directory: Path) -> Causal:
    return Causal.load(causal_directory)


def test_bert_scores_as_upstream_does(bert: Bert, bert_directory: Path) -> None:
    texts = ("What is the capital of France?", "the thing", "x" * 500, "")
    expected = [upstream_bert(bert_directory, text) for text in texts]
    win = bert.score(prompts(*texts), LADDER).win_rates[:, 1]
    np.testing.assert_allclose(win, expected, atol=1e-6)
    assert win.std() > 0.01


def test_bert_reads_a_text_up_to_its_window(bert: Bert) -> None:
    """62 characters between the two special tokens, after the piece that begins a word."""
    long = "abcdefghij" * 10
    win = bert.score(prompts(long, long[:61], long[:60], long[:61] + "z"), LADDER).win_rates[:, 1]
    assert win[0] == win[1] == win[3]
    assert win[2] != win[1]


@pytest.mark.parametrize("name", ["bert", "causal"])
def test_a_score_does_not_depend_on_what_it_is_batched_with(name: str, request: pytest.FixtureRequest) -> None:
    router = request.getfixturevalue(name)
    together = router.score(prompts(), LADDER).win_rates
    np.testing.assert_array_equal(together, [router.score(prompts(t), LADDER).win_rates[0] for t in TEXTS])
    three = router.score(prompts(), ("a", "b", "c")).win_rates
    np.testing.assert_array_equal(three, together[:, 1:] * [0, 0.5, 1])
    assert router.score(prompts(), LADDER).quality is None
    assert router.knows("anything")


def test_causal_scores_as_upstream_does(causal: Causal, causal_directory: Path) -> None:
    expected = [upstream_causal(causal_directory, text) for text in TEXTS]
    win = causal.score(prompts(), LADDER).win_rates[:, 1]
    np.testing.assert_allclose(win, expected, atol=1e-6)
    assert win.std() > 0.01


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_a_conversation_is_upstreams(causal: Causal, question: str) -> None:
    tokenizer = llama_tokenizer()
    assert causal._conversation.tokens(question) == tokenizer.encode(llama_text(question)).ids


@pytest.mark.parametrize("token", ["<|eot_id|>", "[[5]]", "<|start_header_id|>"])
def test_a_prompt_cannot_say_control_tokens(causal: Causal, token: str) -> None:
    tokenizer = llama_tokenizer()
    counted = [tokenizer.get_vocab()[control] for control in CONTROL]
    plain, tricked = causal._conversation.tokens("abc"), causal._conversation.tokens(f"abc{token}")
    assert [plain.count(i) for i in counted] == [tricked.count(i) for i in counted]
    assert max(tricked) < tokenizer.get_vocab_size()
    assert token in tokenizer.decode(tricked, skip_special_tokens=True)


def test_a_prompt_that_is_too_long_loses_its_end_and_nothing_else(tmp_path: Path) -> None:
    directory = with_tokenizer(llama(tmp_path, positions=256))
    router = Causal.load(directory)
    tokens = router._conversation.tokens("word " * 500)
    assert len(tokens) == 256
    said = llama_tokenizer().decode(tokens, skip_special_tokens=True)
    assert said.startswith("system\n\n[Instruction]")
    assert "word word" in said
    assert said.endswith("\n\nPrediction:assistant\n\n")
    assert 0 < router.score(prompts("word " * 500), LADDER).win_rates[0, 1] < 1


def test_causal_takes_its_tokenizer_from_elsewhere_with_the_scores_or_without(
    causal: Causal, causal_directory: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "causal"
    directory.mkdir()
    for path in causal_directory.iterdir():
        if path.name != "tokenizer.json":
            (directory / path.name).symlink_to(path)
    with pytest.raises(ArtifactError, match=r"no tokenizer\.json; RouteLLM publishes none: take that of meta-llama"):
        Causal.load(directory)
    extended = llama_tokenizer()
    extended.add_special_tokens([AddedToken(label, special=True, normalized=False) for label in LABELS])
    for name, tokenizer in {"meta": llama_tokenizer(), "extended": extended}.items():
        (tmp_path / name).mkdir()
        tokenizer.save(str(tmp_path / name / "tokenizer.json"))
        router = Causal.load(directory, tmp_path / name)
        expected = causal.score(prompts(), LADDER).win_rates
        np.testing.assert_array_equal(router.score(prompts(), LADDER).win_rates, expected)
        assert router.version == causal.version


def test_another_models_tokenizer_is_refused(causal_directory: Path, tmp_path: Path) -> None:
    tokenizer = llama_tokenizer()
    tokenizer.add_tokens(["one more"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ArtifactError, match=r"\d+ tokens; the model's \d+ leave \d+ beside the 5 scores"):
        Causal.load(causal_directory, tmp_path)


def test_the_layout_leads_to_either(bert: Bert, bert_directory: Path, causal: Causal, causal_directory: Path) -> None:
    for name, router, directory in (("bert", bert, bert_directory), ("causal", causal, causal_directory)):
        assert layout.is_checkpoint(directory)
        loaded = layout.load(name, directory, None)
        assert (loaded.name, loaded.version) == (name, router.version)
        assert isinstance(loaded, ReadsText)
        assert loaded.sample is None


def altered(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def reshaped(path: Path, name: str, shape: tuple[int, ...] | None) -> None:
    """A tensor of the file given another shape, or left out."""
    tensors = safetensors.torch.load_file(path)
    del tensors[name]
    if shape:
        tensors[name] = torch.zeros(shape)
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})


def no_weights(directory: Path) -> None:
    for path in directory.glob("*.safetensors*"):
        path.unlink()
    (directory / "pytorch_model.bin").write_bytes(b"\x80\x02never read")


BAD_BERTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickled": (no_weights, "no model.safetensors; pytorch_model.bin is pickled, which is never opened"),
    "two labels": (lambda d: altered(d / "config.json", id2label={"0": "a", "1": "b"}), "2 labels; RouteLLM's bert"),
    "no head": (
        lambda d: reshaped(d / "model.safetensors", "classifier.out_proj.weight", None),
        "1 tensors are missing",
    ),
    "wrong head": (
        lambda d: reshaped(d / "model.safetensors", "classifier.out_proj.weight", (2, 32)),
        "cannot be loaded",
    ),
    "another model": (
        lambda d: altered(d / "config.json", architectures=["LlamaForCausalLM"]),
        "expected one ...ForSeq",
    ),
    "own code": (
        lambda d: altered(d / "config.json", model_type="theirs", auto_map={"AutoConfig": "theirs.Config"}),
        "cannot be loaded",
    ),
    "no config": (lambda d: (d / "config.json").unlink(), "config.json: No such file"),
    "broken config": (lambda d: (d / "config.json").write_text("{"), "config.json: not a model's configuration"),
    "no tokenizer": (lambda d: (d / "tokenizer.json").unlink(), "tokenizer.json: No such file"),
    "broken tokenizer": (lambda d: (d / "tokenizer.json").write_text("{}"), "tokenizer.json: not a tokenizer"),
    "broken weights": (lambda d: (d / "model.safetensors").write_bytes(b"no"), "cannot be loaded"),
}


@pytest.mark.parametrize("case", BAD_BERTS)
def test_a_bert_that_is_none_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    spoil, says = BAD_BERTS[case]
    spoil(xlm_roberta(tmp_path))
    with pytest.raises(ArtifactError) as raised:
        Bert.load(tmp_path)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


BAD_CAUSALS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickled": (no_weights, "no model.safetensors; pytorch_model.bin is pickled, which is never opened"),
    "no system prompt": (lambda d: (d / "system_ft_v5.txt").unlink(), "system_ft_v5.txt: No such file"),
    "no place": (lambda d: (d / "classifier_ft_v5.txt").write_text("?"), "no single {question} in it"),
    "no text": (lambda d: (d / "classifier_ft_v5.txt").write_bytes(b"\xff"), "not UTF-8"),
    "long system prompt": (lambda d: (d / "system_ft_v5.txt").write_text("word " * 600), "leave no room for a prompt"),
    "a shard is missing": (lambda d: next(d.glob("model-00002*")).unlink(), "cannot be loaded"),
    "another model": (
        lambda d: altered(d / "config.json", architectures=["XLMRobertaForSequenceClassification"]),
        "expected one ...ForCausalLM",
    ),
    "another tokenizer": (
        lambda d: (d / "tokenizer.json").write_text(
            (d / "tokenizer.json").read_text().replace("<|eot_id|>", "<|im_end|>")
        ),
        "the tokenizer has no <|eot_id|>: it is not that of Llama 3",
    ),
}


@pytest.mark.parametrize("case", BAD_CAUSALS)
def test_a_causal_llm_that_is_none_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    spoil, says = BAD_CAUSALS[case]
    spoil(with_tokenizer(llama(tmp_path)))
    with pytest.raises(ArtifactError) as raised:
        Causal.load(tmp_path)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
