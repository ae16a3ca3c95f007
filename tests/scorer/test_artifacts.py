"""Artifacts: what is written is read back; nothing damaged, foreign or half-written is."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.numpy

from scorer import artifacts
from scorer.artifacts import ArtifactError

TENSORS: dict[str, artifacts.Array] = {
    "V": np.arange(6, dtype=np.float32).reshape(2, 3),
    "codes": np.array([[1, -2]], np.int8),
}
ENCODER = "e" * 64


def write(directory: Path, **changed: object) -> Path:
    given: dict[str, object] = {
        "router": "mf",
        "version": "v1",
        "encoder_id": ENCODER,
        "metrics": {"loss": 0.25},
    }
    return artifacts.write(directory, TENSORS, **(given | changed))  # type: ignore[arg-type]


def refusal(directory: Path, router: str = "mf", encoder_id: str = ENCODER) -> str:
    with pytest.raises(ArtifactError) as caught:
        artifacts.read(directory, router=router, encoder_id=encoder_id)
    message = str(caught.value)
    assert "\n" not in message
    assert str(directory) in message
    return message


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    directory = write(tmp_path / "mf" / "v1", models=["a", "b"], features=["length"], parent="v0", data={"battles": 3})
    manifest, tensors = artifacts.read(directory, router="mf", encoder_id=ENCODER)
    assert (manifest.version, manifest.models, manifest.features) == ("v1", ("a", "b"), ("length",))
    assert (manifest.parent, manifest.data, manifest.metrics) == ("v0", {"battles": 3}, {"loss": 0.25})
    for name, array in TENSORS.items():
        assert tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(tensors[name], array)


def test_nothing_but_the_artifact_is_left_behind(tmp_path: Path) -> None:
    write(tmp_path / "mf" / "v1")
    assert [path.name for path in (tmp_path / "mf").iterdir()] == ["v1"]


def test_a_version_is_never_overwritten(tmp_path: Path) -> None:
    directory = write(tmp_path / "v1")
    before = (directory / artifacts.MANIFEST).read_bytes()
    with pytest.raises(ArtifactError, match="exists already"):
        write(directory, metrics={})
    assert (directory / artifacts.MANIFEST).read_bytes() == before


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="NaN"):
        artifacts.write(tmp_path / "v1", {"V": np.array([np.nan])}, router="mf", version="v1", encoder_id=ENCODER)
    with pytest.raises(ArtifactError, match="not plain JSON"):
        write(tmp_path / "v1", metrics={"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [artifacts.MANIFEST, artifacts.TENSORS])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    directory = write(tmp_path / "v1")
    (directory / name).unlink()
    assert f"{name}: No such file" in refusal(directory)


@pytest.mark.parametrize("name", [artifacts.MANIFEST, artifacts.TENSORS])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str) -> None:
    directory = write(tmp_path / "v1")
    blob = (directory / name).read_bytes()
    (directory / name).write_bytes(blob[:-20])
    assert name in refusal(directory)


def test_every_flipped_byte_of_the_tensors_is_found(tmp_path: Path) -> None:
    directory = write(tmp_path / "v1")
    blob = (directory / artifacts.TENSORS).read_bytes()
    for position in range(0, len(blob), 7):
        (directory / artifacts.TENSORS).write_bytes(
            blob[:position] + bytes([blob[position] ^ 1]) + blob[position + 1 :]
        )
        assert "SHA-256" in refusal(directory)


@pytest.mark.parametrize("field", ["version", "encoder_id", "models", "metrics", "files", "created_at", "digest"])
def test_every_changed_field_of_the_manifest_is_found(tmp_path: Path, field: str) -> None:
    directory = write(tmp_path / "v1", models=["a"])
    manifest = json.loads((directory / artifacts.MANIFEST).read_text())
    value = manifest[field]
    changed = (
        value + "0" if isinstance(value, str) else [*value, "b"] if isinstance(value, list) else {**value, "x": "y"}
    )
    (directory / artifacts.MANIFEST).write_text(json.dumps(manifest | {field: changed}))
    assert "changed since it was written" in refusal(directory)


def test_an_unknown_field_is_refused(tmp_path: Path) -> None:
    directory = write(tmp_path / "v1")
    manifest = json.loads((directory / artifacts.MANIFEST).read_text())
    (directory / artifacts.MANIFEST).write_text(json.dumps(manifest | {"approved": True}))
    assert "approved" in refusal(directory)


def test_another_router_is_refused(tmp_path: Path) -> None:
    assert "is an artifact of router 'mf', not 'sw'" in refusal(write(tmp_path / "v1"), router="sw")


def test_another_encoder_is_refused_unless_any_will_do(tmp_path: Path) -> None:
    directory = write(tmp_path / "v1")
    assert "eeeeeeeeeeee, the one in use is ffffffffffff" in refusal(directory, encoder_id="f" * 64)
    assert artifacts.read(directory, router="mf", encoder_id=None)[0].encoder_id == ENCODER


def forge(directory: Path, tensors: dict[str, artifacts.Array], **changed: object) -> None:
    """Tensors other than the manifest describes, with digests that match."""
    blob = safetensors.numpy.save(tensors)
    (directory / artifacts.TENSORS).write_bytes(blob)
    manifest = artifacts.read_manifest(directory)
    forged = msgspec.structs.replace(manifest, files={artifacts.TENSORS: artifacts._sha256(blob)}, **changed)
    forged = msgspec.structs.replace(forged, digest=artifacts._digest(forged))
    (directory / artifacts.MANIFEST).write_bytes(msgspec.json.encode(forged))


def test_shapes_and_names_that_differ_from_the_manifest_are_refused(tmp_path: Path) -> None:
    directory = write(tmp_path / "v1")
    forge(directory, {"V": TENSORS["V"].T.copy(), "codes": TENSORS["codes"]})
    assert "tensor 'V' is float32[3, 2], the manifest says float32[2, 3]" in refusal(directory)
    forge(directory, {"V": TENSORS["V"]})
    assert "tensor 'codes' is absent" in refusal(directory)


def test_nan_is_refused_even_with_matching_digests(tmp_path: Path) -> None:
    directory = write(tmp_path / "v1")
    forge(directory, {"V": np.full((2, 3), np.nan, np.float32), "codes": TENSORS["codes"]})
    assert "'V' holds NaN" in refusal(directory)


def test_a_file_outside_the_directory_is_refused(tmp_path: Path) -> None:
    directory = write(tmp_path / "v1")
    (tmp_path / "secret").write_bytes(b"x")
    manifest = artifacts.read_manifest(directory)
    forged = msgspec.structs.replace(manifest, files={"../secret": artifacts._sha256(b"x")})
    forged = msgspec.structs.replace(forged, digest=artifacts._digest(forged))
    (directory / artifacts.MANIFEST).write_bytes(msgspec.json.encode(forged))
    assert "not a plain file name" in refusal(directory)


def test_a_version_names_its_content() -> None:
    first, second = (
        artifacts.new_version(TENSORS),
        artifacts.new_version(TENSORS | {"codes": np.zeros(1, np.int8)}),
    )
    assert first.rsplit("-", 1)[1] != second.rsplit("-", 1)[1]
    assert artifacts.new_version(TENSORS).rsplit("-", 1)[1] == first.rsplit("-", 1)[1]


def test_versions_of_the_same_content_are_told_by_their_names() -> None:
    one, other = {"a": np.zeros(3)}, {"a": np.ones(3)}
    assert artifacts.same_content("20260131-020000-" + artifacts.new_version(one)[-8:], artifacts.new_version(one))
    assert not artifacts.same_content(artifacts.new_version(one), artifacts.new_version(other))
    assert not artifacts.same_content("lengths-1", "widths-1")
