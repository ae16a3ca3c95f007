"""Files of a checkpoint: found, read and named by content. Nothing is unpickled."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from scorer.artifacts import ArtifactError

WEIGHTS = "model.safetensors"
PICKLED = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")

_END = 2**20  # bytes of a file's beginning, and of its end, that name it


def weights(directory: Path) -> list[Path]:
    """The safetensors files, sorted. Raises ArtifactError, with a word on pickled ones."""
    found = sorted(directory.glob("*.safetensors"))
    if not found:
        pickled = [path.name for pattern in PICKLED for path in sorted(directory.glob(pattern))]
        reason = f"; {pickled[0]} is pickled, which is never opened" if pickled else ""
        raise ArtifactError(f"{directory}: no {WEIGHTS}{reason}")
    return found


def read(path: Path) -> bytes:
    """Raises ArtifactError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror or error}") from None


def version(paths: Iterable[Path], *also: str) -> str:
    """`routellm-1a2b3c4d`: of names, sizes, first and last MiB (weights of 16 GB are not read twice), and words."""
    digest = hashlib.sha256("\n".join(also).encode())
    for path in paths:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_END))
            file.seek(max(size - _END, 0))
            digest.update(file.read(_END))
    return f"routellm-{digest.hexdigest()[:8]}"
