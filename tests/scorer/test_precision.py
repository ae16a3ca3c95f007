"""int8 stands for fp32 where it agrees with it on the prompts it was given, and nowhere else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from scorer import export, precision
from scorer.cli import cli
from scorer.encoder import Encoder, EncoderError
from tests.scorer.test_encoder import PROMPTS
from tests.scorer.test_export import exported, exporting, tiny

__all__ = ["exported", "exporting", "tiny"]  # the fixtures


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """An exported tiny encoder in a cache of its own."""
    return Path(shutil.copytree(exported, tmp_path / "cache" / exported.name))


def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights of sixteen dimensions suffer more from rounding than trained ones."""
    monkeypatch.setattr(precision, "MEAN", 0.9)
    monkeypatch.setattr(precision, "LEAST", 0.9)


def test_an_encoder_agrees_with_itself(exported: Path) -> None:
    encoder, seen = Encoder.load(exported), []
    found = precision.compare(encoder, encoder, PROMPTS * 5, lambda done, total: seen.append((done, total)))
    assert (found.mean, found.least) == pytest.approx((1, 1), abs=1e-6)
    assert found.passes
    assert seen == [(32, 40), (40, 40)]


def test_agreement_is_the_cosine_of_the_two_embeddings(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lenient(monkeypatch)
    whole = Encoder.load(copy).encode(PROMPTS).embeddings
    found = precision.reduce(copy, PROMPTS)
    reduced = Encoder.load(copy).encode(PROMPTS).embeddings
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(whole, reduced, strict=True)]
    assert (found.mean, found.least) == pytest.approx((np.mean(cosines), np.min(cosines)), abs=1e-6)
    assert 0.9 < found.least < found.mean < 1


@pytest.mark.parametrize("bound", ["MEAN", "LEAST"])
def test_what_falls_short_of_either_bound_is_not_kept(copy: Path, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    lenient(monkeypatch)
    monkeypatch.setattr(precision, bound, 0.999999)
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    assert not precision.reduce(copy, PROMPTS).passes
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert list(copy.parent.iterdir()) == [copy]


def test_int8_has_the_same_id_and_says_what_it_is(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lenient(monkeypatch)
    before = (copy / "model.onnx").stat().st_size
    precision.reduce(copy, PROMPTS)
    reduced = Encoder.load(copy)
    assert (reduced.id, reduced.precision) == (copy.name, "int8")
    assert json.loads((copy / "encoder.json").read_bytes())["precision"] == "int8"
    assert (copy / "model.onnx").stat().st_size < before
    assert list(copy.parent.iterdir()) == [copy]


def test_an_int8_embedding_is_the_same_to_the_bit_whatever_it_is_encoded_with(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lenient(monkeypatch)
    precision.reduce(copy, PROMPTS)
    encoder = Encoder.load(copy)
    together = encoder.encode(PROMPTS).embeddings
    np.testing.assert_array_equal(together, np.concatenate([encoder.encode([t]).embeddings for t in PROMPTS]))


def test_exporting_again_restores_full_precision(
    copy: Path, exported: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lenient(monkeypatch)
    precision.reduce(copy, PROMPTS)
    assert export.export(str(tiny), copy.parent, window=64) == copy
    assert Encoder.load(copy).precision == "fp32"
    again, before = (Encoder.load(path).encode(PROMPTS).embeddings for path in (copy, exported))
    np.testing.assert_allclose(again, before, atol=1e-6)


def test_without_prompts_there_is_nothing_to_go_by(copy: Path) -> None:
    with pytest.raises(EncoderError, match="no prompts to compare int8 with fp32 on"):
        precision.reduce(copy, ())


def command(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["encoder", "export", *(str(argument) for argument in arguments)])


def test_the_command_says_what_it_measured_and_what_it_kept(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "prompts.jsonl"
    table.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in PROMPTS if text))
    monkeypatch.setattr(export, "export", lambda source, cache: copy)
    monkeypatch.setattr(precision, "MEAN", 0.999999)
    kept = command("--precision", "int8", "--check", table)
    assert "int8 beside fp32 on 7 prompts: cosine " in kept.output
    assert "0.999999 and 0.97 are asked for: too far apart: fp32 is kept" in kept.output
    assert Encoder.load(copy).precision == "fp32"
    lenient(monkeypatch)
    reduced = command("--precision", "int8")
    assert f"on {len(precision.PROBES)} prompts" in reduced.output
    assert "int8 is kept" in reduced.output
    assert reduced.output.endswith(f"encoder: {copy}\n")


def test_options_that_mean_nothing_together_are_refused(tmp_path: Path) -> None:
    assert "--check goes with --precision int8" in command("--check", tmp_path / "x.jsonl").output
    assert "--precision and --check are of minilm" in command("static", "--precision", "int8").output
