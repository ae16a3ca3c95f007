"""The static encoder as it ships: sums of token vectors, the same to the bit whatever comes with a text."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save
from tokenizers import Tokenizer

from scorer import catalogue, features
from scorer.calibration import PRETRAINED
from scorer.encoder import EncoderError
from scorer.static import Static
from tests.scorer.test_encoder import PROMPTS, essay

SHIPPED = PRETRAINED / "static" / "encoder"


@pytest.fixture(scope="module")
def static() -> Static:
    return Static.load(SHIPPED)


def slowly(text: str) -> list[float]:
    """Second way: token by token, in double precision, from the files alone."""
    tokenizer, tensors = (
        Tokenizer.from_file(str(SHIPPED / "tokenizer.json")),
        load_file(SHIPPED / "vectors.safetensors"),
    )
    tokenizer.no_truncation()
    tokenizer.no_padding()
    total = [0.0] * 256
    for token in tokenizer.encode(text, add_special_tokens=False).ids:
        scale = float(tensors["scales"][token])
        total = [sum_ + scale * int(whole) for sum_, whole in zip(total, tensors["rows"][token], strict=True)]
    length = sum(x * x for x in total) ** 0.5
    return [x / length for x in total]


def test_an_embedding_is_the_direction_of_the_sum_of_its_tokens_vectors(static: Static) -> None:
    for text in (text for text in PROMPTS if text):
        np.testing.assert_allclose(static.encode([text]).embeddings[0], slowly(text), atol=1e-5)


def test_encoded_prompts_have_unit_embeddings_and_the_features_of_any_encoder(static: Static) -> None:
    prompts = static.encode(PROMPTS)
    assert prompts.texts == PROMPTS
    assert prompts.embeddings.shape == (len(PROMPTS), 256) == (len(PROMPTS), static.dimension)
    assert prompts.embeddings.dtype == prompts.features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(prompts.embeddings, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(prompts.features, np.stack([features.extract(text) for text in PROMPTS]))
    assert static.encode([]).embeddings.shape == (0, 256)


def test_an_embedding_is_the_same_to_the_bit_whatever_it_is_encoded_with(static: Static) -> None:
    together = static.encode(PROMPTS).embeddings
    np.testing.assert_array_equal(together, np.concatenate([static.encode([t]).embeddings for t in PROMPTS]))
    np.testing.assert_array_equal(together, static.encode(PROMPTS[::-1]).embeddings[::-1])
    with ThreadPoolExecutor(6) as pool:
        for result in pool.map(lambda _: static.encode(PROMPTS).embeddings, range(12)):
            np.testing.assert_array_equal(result, together)


def test_a_text_without_tokens_is_taken_for_one_unknown_word(static: Static) -> None:
    nothing, blanks, lone, unknown = static.encode(["", " \n\t", "\ud800", "\u13a3" * 101]).embeddings
    for other in (blanks, lone, unknown):
        np.testing.assert_array_equal(nothing, other)


def test_of_a_long_text_three_thousand_characters_of_either_end_count(static: Static) -> None:
    start, end = essay(700, 1)[:3000], essay(700, 2)[-3000:]
    plain, other_middle, other_start, other_end = static.encode(
        [
            f"{start}{essay(9000, 3)}{end}",
            f"{start}{essay(200, 4)}{end}",
            f"winter{start[6:]}{essay(9000, 3)}{end}",
            f"{start}{essay(9000, 3)}{end[:-6]}winter",
        ]
    ).embeddings
    np.testing.assert_array_equal(plain, other_middle)
    assert plain @ other_start < 0.999995
    assert plain @ other_end < 0.999995


def test_word_order_does_not_count_and_case_neither(static: Static) -> None:
    one, other = static.encode(["The dog bites the man", "the man bites the DOG"]).embeddings
    assert one @ other == pytest.approx(1, abs=1e-6)


def test_a_paraphrase_is_closer_than_another_subject(static: Static) -> None:
    asked, paraphrase, other = static.encode(
        ["How do I boil an egg?", "What is the way to cook eggs in hot water?", "Integrate x squared from 0 to 1."]
    ).embeddings
    assert asked @ paraphrase > 0.6
    assert asked @ other < 0.3


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(), max_size=300))
def test_any_string_has_a_unit_embedding(static: Static, text: str) -> None:
    prompts = static.encode([text])
    assert np.linalg.norm(prompts.embeddings) == pytest.approx(1, abs=1e-5)
    assert np.isfinite(prompts.features).all()


def test_the_id_is_the_digest_of_the_recipe_and_is_named_by_what_ships_beside_it(static: Static) -> None:
    card = json.loads((SHIPPED / "encoder.json").read_bytes())
    canonical = json.dumps(card["recipe"], sort_keys=True, separators=(",", ":")).encode()
    assert static.id == card["id"] == hashlib.sha256(canonical).hexdigest()
    assert set(card["recipe"]) == {"weights", "tokenizer", "pooling", "dimension", "smoothing", "window", "version"}
    for artifact in ("mf", "sw", "calibration"):
        manifest = json.loads((PRETRAINED / "static" / artifact / "artifact.json").read_bytes())
        assert manifest["encoder_id"] == static.id


def test_it_takes_less_than_nine_megabytes() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 9e6


def test_a_decision_opens_no_session_and_imports_no_torch() -> None:
    code = (
        "import sys, onnxruntime; onnxruntime.InferenceSession = None;"
        "from scorer import catalogue; encoder = catalogue.load_encoder('static');"
        "router = catalogue.load('mf', 'pretrained', encoder);"
        "router.score(encoder.encode(['hello']), ('gpt-4-1106-preview', 'mixtral-8x7b-instruct-v0.1'));"
        "print(sorted({'torch', 'transformers', 'onnx', 'model2vec', 'xgboost'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


# What is refused


def changed(to: Path, name: str, data: bytes | None, vouched: bool = False) -> Path:
    """A copy of what ships with one file changed or (None) left out; `vouched`: its card says it is right."""
    shutil.copytree(SHIPPED, to)
    (to / name).unlink() if data is None else (to / name).write_bytes(data)
    if vouched and data is not None:
        card = json.loads((to / "encoder.json").read_bytes())
        card["files"][name] = hashlib.sha256(data).hexdigest()
        (to / "encoder.json").write_text(json.dumps(card))
    return to


def refusal(directory: Path) -> str:
    with pytest.raises(EncoderError) as caught:
        catalogue.load_encoder("static", directory)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["vectors.safetensors", "tokenizer.json", "encoder.json"])
def test_missing_and_altered_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    missing = changed(tmp_path / "missing", name, None)
    assert refusal(missing).startswith(f"{missing / name}: No such file or directory")
    altered = changed(tmp_path / "altered", name, (SHIPPED / name).read_bytes()[:-9])
    assert refusal(altered).startswith(f"{altered / name}: ")
    assert refusal(altered).endswith("install the package again, or run `routerd encoder export static`")


def test_vectors_that_are_not_one_for_every_token_are_refused(tmp_path: Path) -> None:
    tensors = load_file(SHIPPED / "vectors.safetensors")
    fewer = save({"rows": tensors["rows"][:-1].copy(), "scales": tensors["scales"][:-1].copy()})
    message = refusal(changed(tmp_path / "fewer", "vectors.safetensors", fewer, vouched=True))
    assert message.endswith("expected 30522 int8 rows of 256 and their scales, found int8[30521, 256]")
    other = save({"rows": tensors["rows"]})
    assert "'scales'" in refusal(changed(tmp_path / "other", "vectors.safetensors", other, vouched=True))
