"""Versions of routers: where the fitted ones lie, and which one came before which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from feedback.records import Activation
from scorer import artifacts
from scorer.artifacts import ArtifactError, Manifest


class Version(NamedTuple):
    """A fitted version of a router: its directory and what its manifest says."""

    directory: Path
    manifest: Manifest


def folder(data_dir: Path, router: str) -> Path:
    """Where the router's fitted versions lie, each under its name."""
    return data_dir / "artifacts" / router


def installed(data_dir: Path, router: str) -> list[Version]:
    """The readable versions, the newest first; what cannot be read is no version."""
    found = []
    for manifest in folder(data_dir, router).glob(f"[!.]*/{artifacts.MANIFEST}"):
        try:
            found.append(Version(manifest.parent, artifacts.read_manifest(manifest.parent)))
        except ArtifactError:
            continue
    return sorted(found, key=lambda version: version.manifest.version, reverse=True)


def before(history: Sequence[Activation]) -> str | None:
    """What served before the active version first did: a rollback's target; None: the configured artifact.

    history: all activations of a router, newest first, at least one. Rolling back twice goes back two versions, since
    the return to a version is not taken for its beginning.
    """
    current = history[0].version
    first = next(one for one in reversed(history) if one.version == current)
    return first.previous
