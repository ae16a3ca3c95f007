"""Distilling: what the encoder makes of each token alone, in fewer dimensions, common tokens weighing less."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from scorer import distil, export
from scorer.calibration import PRETRAINED
from scorer.cli import cli
from scorer.encoder import EncoderError
from scorer.static import Static
from tests.scorer.test_export import tiny

__all__ = ["tiny"]  # the fixture
GENERATOR = np.random.default_rng(0)


def test_principal_components_are_those_of_the_singular_value_decomposition() -> None:
    rows = GENERATOR.normal(size=(200, 6)) * [5, 4, 3, 2, 1, 0.5] + 7
    left, singular, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    found = distil.principal(rows, 4)
    np.testing.assert_allclose(np.abs(found), np.abs(left * singular)[:, :4], atol=1e-9)
    assert (found.max(axis=0) == np.abs(found).max(axis=0)).all()  # and their signs do not depend on the library


def test_rarity_is_smooth_inverse_frequency_under_zipfs_law() -> None:
    """Of three tokens with a = 1/4: 1/2, 1/3 and 1/4 of a whole of 13/12."""
    a = 0.25
    expected = [a / (a + share / (13 / 12)) for share in (1 / 2, 1 / 3, 1 / 4)]
    np.testing.assert_allclose(distil.rarity(3, a), expected)


def test_rounding_errs_by_half_a_step_at_most() -> None:
    vectors = GENERATOR.normal(size=(50, 8)) * GENERATOR.random((50, 1))
    rows, scales = distil.rounded(vectors)
    assert np.abs(rows).max() == 127
    assert (np.abs(rows * scales[:, None] - vectors).max(axis=1) <= scales / 2 + 1e-9).all()
    assert distil.rounded(np.zeros((1, 8)))[0].tolist() == [[0] * 8]


def test_distilled_vectors_are_the_models_of_single_tokens(tiny: Path, tmp_path: Path) -> None:
    """Second way: with all dimensions kept the components are a rotation, so inner products are those of the model's
    own vectors, centred and weighed."""
    import torch
    import transformers

    static = Static.load(distil.distil(str(tiny), tmp_path, dimension=16))
    model = transformers.AutoModel.from_pretrained(tiny).eval()
    tokens = torch.arange(30_522)
    with torch.no_grad():
        rows = torch.stack([torch.full_like(tokens, 101), tokens, torch.full_like(tokens, 102)], 1)
        alone = np.concatenate([model(part).last_hidden_state.mean(1).numpy() for part in rows.split(4000)])
    some = [2003, 3007, 2605, 19204, 9999]
    weights = [1e-4 / (1e-4 + 1 / (token + 2) / (1 / np.arange(2, 30_524)).sum()) for token in some]
    centred = (alone - alone.mean(axis=0))[some] * np.array(weights)[:, None]
    found = static._rows[some] * static._scales[some]
    np.testing.assert_allclose(found @ found.T, centred @ centred.T, rtol=0.02, atol=0.02)


def test_what_ships_was_distilled_from_the_published_model() -> None:
    """Distances between tokens are those of the model's own vectors, but for the dimensions left out."""
    import torch

    model = export.transformer(export.find(export.SOURCE))
    tokens = torch.arange(1996, 30_000, 500)
    with torch.inference_mode():
        rows = torch.stack([torch.full_like(tokens, 101), tokens, torch.full_like(tokens, 102)], 1)
        alone = model(input_ids=rows).last_hidden_state.mean(1).numpy()
    static = Static.load(PRETRAINED / "static" / "encoder")
    found = (static._rows * static._scales)[tokens.numpy()] / distil.rarity(30_522, 1e-4)[tokens.numpy(), None]
    pairs = np.triu_indices(len(tokens), 1)
    distances = [np.linalg.norm(x[pairs[0]] - x[pairs[1]], axis=1) for x in (alone, found)]
    assert np.corrcoef(distances)[0, 1] > 0.97


def test_a_sound_one_is_left_alone_and_a_damaged_one_replaced(tiny: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["encoder", "export", "static", "--source", str(tiny), "--cache", str(tmp_path)])
    assert done.exit_code == 2, done.output  # 256 dimensions
    assert "encoder dimension 256: 1 to 16 are accepted" in done.output
    assert list(tmp_path.iterdir()) == []
    made = distil.distil(str(tiny), tmp_path, dimension=8)
    assert (made.parent, made.name) == (tmp_path, json.loads((made / "encoder.json").read_bytes())["id"])
    vectors = made / "vectors.safetensors"
    before = vectors.stat()
    assert distil.distil(str(tiny), tmp_path, dimension=8) == made
    assert vectors.stat().st_ino == before.st_ino
    vectors.write_bytes(vectors.read_bytes()[:-1])
    assert distil.distil(str(tiny), tmp_path, dimension=8) == made
    assert Static.load(made).dimension == 8


def test_a_source_that_cannot_be_read_is_one_line(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"has no config\.json, model\.safetensors, tokenizer\.json"):
        distil.distil(str(tmp_path), tmp_path / "cache")
