"""Versions of routers: where the fitted ones lie, which one came before which, and which may go."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from feedback.records import Activation
from scorer import artifacts
from scorer.artifacts import ArtifactError, Manifest

_PRUNED = ".pruned-"  # what a version's directory is renamed to before it is deleted


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
    """The versions that were rolled back by themselves."""
    bad = [(one.holdback_since or one.number, one.number) for one in history if _undoing(one, history)]
    return {one.version for one in history if any(first <= one.number <= last for first, last in bad)}


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


def prune(data_dir: Path, router: str, history: Sequence[Activation], keep: int) -> list[str]:
    """Deletes the router's versions but the newest `keep` and those that serve or may be gone back to; their names.

    A daemon that has one loaded goes on with it.
    """
    for left in folder(data_dir, router).glob(f"{_PRUNED}*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    needed = _needed(history)
    gone = [one for one in installed(data_dir, router)[keep:] if one.manifest.version not in needed]
    for one in gone:
        renamed = one.directory.with_name(f"{_PRUNED}{one.directory.name}")
        one.directory.rename(renamed)  # whole or not there at all, for whoever reads meanwhile
        shutil.rmtree(renamed, ignore_errors=True)
    return [one.manifest.version for one in gone]


def _needed(history: Sequence[Activation]) -> set[str | None]:
    """What serves, what is held back, what a rollback goes to, and what the last automatic one went to."""
    if not history:
        return set()
    last = next((one.version for one in history if one.undoes is not None), None)
    held = began(history).previous if history[0].holdback_since else None
    return {history[0].version, history[0].previous, held, before(history), last}
