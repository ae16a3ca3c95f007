"""Where a router's rows are from: the source of each one's battles and, of what was logged, which prompt it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scorer.artifacts import TENSORS, ArtifactError
from scorer.battles import Battles

_HASH = re.compile("[0-9a-f]{64}")  # prompts of the log go by their SHA-256 (feedback/battles.py)
_BYTES = 32


class Origin(NamedTuple):
    """Of a row; '' where it is not known."""

    source: str
    text_hash: str


@dataclass(frozen=True)
class Origins:
    """Of n rows. names: of sources; source (n,): which of them a row's first battle is from; text_hash (n, 32): SHA-256
    of the prompt if it is known by that alone, else zeros."""

    names: tuple[str, ...]
    source: NDArray[np.integer]
    text_hash: NDArray[np.uint8]

    @classmethod
    def of(cls, battles: Battles) -> Origins:
        """A row for each prompt."""
        _, first = np.unique(battles.prompt, return_index=True)
        names, source = np.unique(battles.source[first], return_inverse=True)
        hashes = [bytes.fromhex(text) if _HASH.fullmatch(text) else bytes(_BYTES) for text in battles.prompts]
        text_hash = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, _BYTES)
        return cls(tuple(names.tolist()), source.reshape(-1).astype(np.uint16), text_hash)

    @classmethod
    def unknown(cls, rows: int) -> Origins:
        return cls(("",) if rows else (), np.zeros(rows, np.uint16), np.zeros((rows, _BYTES), np.uint8))

    @classmethod
    def read(cls, directory: Path, tensors: Mapping[str, NDArray[Any]], rows: int) -> Origins:
        """Unknown where the artifact does not say. Raises ArtifactError."""
        if "source" not in tensors:
            return cls.unknown(rows)
        source, joined = tensors["source"], tensors.get("sources", np.zeros(0, np.uint8))
        names = tuple(joined.tobytes().decode(errors="replace").split("\n"))
        text_hash = tensors.get("text_hash", np.zeros((rows, _BYTES), np.uint8))
        whole = source.dtype.kind == "u" and source.shape == (rows,) and (source < len(names)).all()
        if not whole or text_hash.dtype != np.uint8 or text_hash.shape != (rows, _BYTES):
            raise ArtifactError(f"{directory / TENSORS}: tensors 'source' and 'text_hash' do not describe {rows} rows")
        return cls(names, source, text_hash)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """For an artifact; hashes only where there are any."""
        found: dict[str, NDArray[Any]] = {
            "source": self.source,
            "sources": np.frombuffer("\n".join(self.names).encode(), np.uint8),
        }
        return found | {"text_hash": self.text_hash} if self.text_hash.any() else found

    def joined(self, other: Origins) -> Origins:
        """These rows and then the others."""
        names = tuple(dict.fromkeys((*self.names, *other.names)))
        place = np.array([names.index(name) for name in other.names], np.uint16)
        source = np.concatenate([self.source, place[other.source] if len(place) else other.source])
        return Origins(names, source, np.concatenate([self.text_hash, other.text_hash]))

    def taken(self, rows: NDArray[np.intp]) -> Origins:
        """Of some rows."""
        return replace(self, source=self.source[rows], text_hash=self.text_hash[rows])

    def row(self, number: int) -> Origin:
        text_hash = self.text_hash[number].tobytes()
        return Origin(self.names[int(self.source[number])], text_hash.hex() if any(text_hash) else "")
