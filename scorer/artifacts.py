"""Artifacts: what a router is loaded from. A directory of tensors under a manifest that vouches for every byte of it.

    <directory>/artifact.json        the manifest: what this is, from what, how good, and the digests
    <directory>/tensors.safetensors  the numbers

Written beside its place, fsynced, renamed: it is there whole or not at all. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

FORMAT = 1
MANIFEST = "artifact.json"
TENSORS = "tensors.safetensors"

_UNFINISHED = ".unfinished"  # what the name of a directory that is being written ends with
_STALE_SECONDS = 3600.0  # after which its writer is believed to have been killed

Array = NDArray[Any]  # any dtype that safetensors and numpy share
Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


class ArtifactError(ValueError):
    """An artifact that cannot be written or trusted; one line that names the file and says why."""


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shape and numpy dtype of one tensor."""

    shape: tuple[int, ...]
    dtype: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything known about an artifact but its numbers."""

    format: int = FORMAT
    router: str  # what it is for: "mf", "sw", "calibration", ...
    version: str
    encoder_id: str
    features: tuple[str, ...]  # names, in the order of the columns the tensors expect
    models: tuple[str, ...]  # names, in the order of the rows of the tensors
    tensors: dict[str, Tensor]
    files: dict[str, str]  # name: SHA-256
    data: dict[str, Any]  # fingerprint and counts of what it was fitted on
    hyperparameters: dict[str, Any]
    metrics: dict[str, Any]
    created_at: str  # ISO 8601, UTC
    parent: str | None = None  # the version it was warm-started from or replaces
    digest: str = ""  # SHA-256 of the canonical JSON of all the rest


def new_version(tensors: Mapping[str, Array]) -> str:
    """A version that sorts by time and names its content: `20260131-020000-1a2b3c4d`."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{_sha256(_pack(tensors))[:8]}"


def same_content(version: str, other: str) -> bool:
    """Whether two versions name the same content."""
    content = version.split("-")[2:]
    return bool(content) and content == other.split("-")[2:]


def write(
    directory: Path,
    tensors: Mapping[str, Array],
    *,
    router: str,
    version: str,
    encoder_id: str,
    features: Sequence[str] = (),
    models: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    parent: str | None = None,
) -> Path:
    """Writes the artifact `directory`, which must not exist yet, and returns it."""
    if directory.exists():
        raise ArtifactError(f"{directory}: exists already; a version is never overwritten")
    _check_finite(directory, tensors)
    packed = _pack(tensors)
    manifest = Manifest(
        router=router,
        version=version,
        encoder_id=encoder_id,
        features=tuple(features),
        models=tuple(models),
        tensors={name: Tensor(array.shape, str(array.dtype)) for name, array in tensors.items()},
        files={TENSORS: _sha256(packed)},
        data=dict(data or {}),
        hyperparameters=dict(hyperparameters or {}),
        metrics=dict(metrics or {}),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        parent=parent,
    )
    try:
        manifest = msgspec.structs.replace(manifest, digest=_digest(manifest))
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{directory}: the manifest is not plain JSON: {error}") from None
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    install(directory, {TENSORS: packed, MANIFEST: text + b"\n"})
    return directory


def read(directory: Path, *, router: str, encoder_id: str | None) -> tuple[Manifest, dict[str, Array]]:
    """The manifest and the tensors, validated; encoder_id None accepts any encoder. Raises ArtifactError."""
    manifest = read_manifest(directory)
    where = directory / MANIFEST
    if manifest.router != router:
        raise ArtifactError(f"{where}: is an artifact of router {manifest.router!r}, not {router!r}")
    if encoder_id is not None and manifest.encoder_id != encoder_id:
        raise ArtifactError(
            f"{where}: was fitted with encoder {manifest.encoder_id[:12]}, the one in use is {encoder_id[:12]}; "
            "export that encoder or train again"
        )
    blobs = {name: _read_file(directory, name, digest) for name, digest in manifest.files.items()}
    if TENSORS not in blobs:
        raise ArtifactError(f"{where}: lists no {TENSORS}")
    try:
        tensors: dict[str, Array] = safetensors.numpy.load(blobs[TENSORS])
    except (safetensors.SafetensorError, KeyError) as error:  # KeyError: a dtype that numpy lacks
        raise ArtifactError(f"{directory / TENSORS}: not a safetensors file: {error}") from None
    _check_shapes(directory, manifest, tensors)
    _check_finite(directory, tensors)
    return manifest, tensors


def read_manifest(directory: Path) -> Manifest:
    """The manifest alone, checked against its own digest."""
    where = directory / MANIFEST
    try:
        return parsed(where, where.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{where}: {error.strerror or error}") from None


def verify(directory: Path) -> None:
    """Raises ArtifactError unless every byte is what the manifest vouches for."""
    for name, digest in read_manifest(directory).files.items():
        _read_file(directory, name, digest)


def parsed(where: Path | str, text: bytes) -> Manifest:
    """A manifest's text, checked against its own digest. where: for the error's sake."""
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{where}: not a manifest: {error}") from None
    if manifest.format != FORMAT:
        raise ArtifactError(f"{where}: format {manifest.format}; this version reads format {FORMAT}")
    if manifest.digest != _digest(manifest):
        raise ArtifactError(f"{where}: changed since it was written: its digest does not match")
    for name in manifest.files:
        if Path(name).name != name:
            raise ArtifactError(f"{where}: {name!r} is not a plain file name")
    return manifest


def checked(where: Path | str, blob: bytes, digest: str) -> bytes:
    """A file's content, whose SHA-256 must be the manifest's. Raises ArtifactError."""
    if _sha256(blob) != digest:
        raise ArtifactError(f"{where}: truncated or changed: its SHA-256 is not the manifest's")
    return blob


def _digest(manifest: Manifest) -> str:
    rest = {name: value for name, value in msgspec.to_builtins(manifest).items() if name != "digest"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return _sha256(canonical.encode("utf-8"))


def _read_file(directory: Path, name: str, digest: str) -> bytes:
    try:
        return checked(directory / name, (directory / name).read_bytes(), digest)
    except OSError as error:
        raise ArtifactError(f"{directory / name}: {error.strerror or error}") from None


def _check_shapes(directory: Path, manifest: Manifest, tensors: Mapping[str, Array]) -> None:
    found = {name: Tensor(array.shape, str(array.dtype)) for name, array in tensors.items()}
    for name in sorted(found.keys() | manifest.tensors.keys()):
        if found.get(name) != manifest.tensors.get(name):
            raise ArtifactError(
                f"{directory / TENSORS}: tensor {name!r} is {_describe(found.get(name))}, "
                f"the manifest says {_describe(manifest.tensors.get(name))}"
            )


def _describe(tensor: Tensor | None) -> str:
    return f"{tensor.dtype}{list(tensor.shape)}" if tensor else "absent"


def _check_finite(directory: Path, tensors: Mapping[str, Array]) -> None:
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise ArtifactError(f"{directory / TENSORS}: tensor {name!r} holds NaN or infinity")


def _pack(tensors: Mapping[str, Array]) -> bytes:
    packed: bytes = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in tensors.items()})
    return packed


def _sha256(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


def install(directory: Path, files: Mapping[str, bytes]) -> None:
    """Writes the directory, which must not exist yet: whole, and on disk, or not at all. Raises ArtifactError."""
    try:
        _make_folder(directory.parent)
        _sweep(directory.parent)
        temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=_UNFINISHED, dir=directory.parent))
    except OSError as error:
        raise ArtifactError(f"{directory}: not written: {error.strerror or error}") from None
    try:
        for name, blob in files.items():
            with (temporary / name).open("xb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())
        temporary.chmod(0o755)  # mkdtemp's 0700 would hide it from a daemon run by another user
        sync(temporary)
        temporary.rename(directory)
        sync(directory.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise ArtifactError(f"{directory}: not written: {error.strerror or error}") from None


def _make_folder(folder: Path) -> None:
    """With its parents, each of them on disk."""
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(exist_ok=True)
        sync(missing.parent)


def _sweep(folder: Path) -> None:
    """Removes what writers that were killed have left behind."""
    for unfinished in folder.glob(f".*{_UNFINISHED}"):
        with contextlib.suppress(FileNotFoundError):  # another writer was quicker
            if time.time() - unfinished.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(unfinished, ignore_errors=True)


def sync(path: Path) -> None:
    """Flushes a file or a directory to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
