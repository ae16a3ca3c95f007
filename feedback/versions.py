"""Versions of routers: where the fitted ones lie, which one came before which, and which may go."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from feedback.records import Activation
from scorer.artifacts import Manifest
from scorer.shelf import Shelf


class Version(NamedTuple):
    """A fitted version of a router: where it lies, or would, on this machine, and what its manifest says."""

    directory: Path
    manifest: Manifest


def installed(shelf: Shelf, router: str) -> list[Version]:
    """The readable versions, the newest first; what cannot be read is no version. Raises ArtifactError."""
    found = [Version(shelf.place(router, name), manifest) for name, manifest in shelf.manifests(router).items()]
    return sorted(found, key=lambda version: version.manifest.version, reverse=True)


def lying(shelf: Shelf, router: str) -> dict[str, float]:
    """A router's versions and when they were made (Unix seconds), with those on this machine that cannot be read.
    Raises ArtifactError."""
    made = {name: datetime.fromisoformat(one.created_at).timestamp() for name, one in shelf.manifests(router).items()}
    folder = shelf.folder / router
    here = [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    times: dict[str, float] = {}
    for path in here:
        with contextlib.suppress(FileNotFoundError):  # another process has just deleted it
            times[path.name] = path.stat().st_mtime
    return {**times, **made}


def before(history: Sequence[Activation]) -> str | None:
    """What served before the active version first did: a rollback's target; None: the configured artifact.

    history: all activations of a router, newest first, at least one. Rolling back twice goes back two versions, since
    the return to a version is not taken for its beginning. What was rolled back by itself is passed over.
    """
    target = _before(history[0].version, history)
    while target in undone(history):
        target = _before(target, history)
    return target


def _before(version: str | None, history: Sequence[Activation]) -> str | None:
    first = next(one for one in reversed(history) if one.version == version)
    return first.previous


def undone(history: Sequence[Activation]) -> set[str | None]:
    """The versions that were rolled back by themselves, and those that were erased."""
    erased: set[str | None] = {one.version for one in history if one.erased_at is not None}
    bad = [(one.holdback_since or one.number, one.number) for one in history if _undoing(one, history)]
    return erased | {one.version for one in history if any(first <= one.number <= last for first, last in bad)}


def _undoing(activation: Activation, history: Sequence[Activation]) -> bool:
    return any(one.undoes == activation.number for one in history)


def began(history: Sequence[Activation]) -> Activation:
    """The activation that began the holdback of the active version, which has one; what served before it is held
    back."""
    return next(one for one in history if one.number == history[0].holdback_since)


def since(history: Sequence[Activation]) -> list[str]:
    """The versions that have served beside what is held back."""
    first = began(history).number
    return [one.version for one in history if one.number >= first]


def prune(shelf: Shelf, router: str, history: Sequence[Activation], keep: int) -> list[str]:
    """Deletes the router's versions but the newest `keep` and those that serve or may be gone back to; their names.

    A daemon that has one loaded goes on with it. Raises ArtifactError.
    """
    shelf.tidy(router)
    needed = _needed(history)
    gone = [one for one in installed(shelf, router)[keep:] if one.manifest.version not in needed]
    for one in gone:
        shelf.drop(router, one.directory.name)
    return [one.manifest.version for one in gone]


def _needed(history: Sequence[Activation]) -> set[str | None]:
    """What serves, what is held back, what a rollback goes to, and what the last automatic one went to."""
    if not history:
        return set()
    last = next((one.version for one in history if one.undoes is not None), None)
    held = began(history).previous if history[0].holdback_since else None
    return {history[0].version, history[0].previous, held, before(history), last}
