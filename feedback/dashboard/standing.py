"""Where each router's versions stand: which serves, which is held back, and what can be gone back to."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from feedback import rollback, versions
from feedback.holdback import Finding
from feedback.records import Activation
from feedback.store import Store
from feedback.versions import Version
from scorer.artifacts import ArtifactError
from scorer.shelf import Shelf

SERVES, HELD_BACK, UNDONE = "serves", "held back", "rolled back by itself"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Standing:
    """One version; state is one of the three, or ''."""

    version: str
    parent: str | None
    state: str


@dataclass(frozen=True)
class RouterStanding:
    """One router: what serves, its versions, newest first, and how the one that serves came to. finding: what ratings
    say of it beside the one held back; rollback: what a rollback goes to, or None."""

    router: str
    serving: str
    versions: tuple[Standing, ...]
    history: tuple[Activation, ...]
    finding: Finding | None
    rollback: str | None

    @property
    def active(self) -> Activation | None:
        """None: the configured artifact, from the start."""
        return next(iter(self.history), None)


async def of_all(
    store: Store, shelf: Shelf, serving: Mapping[str, str], configured: Mapping[str, Version], error_rate: float
) -> list[RouterStanding]:
    """serving: of each router the version that this daemon has loaded. Raises Unavailable."""
    found = []
    for router, version in serving.items():
        history = await store.activations(router)
        artifact = configured.get(router)
        known = await _installed(shelf, router)
        known = [*known, *([artifact] if artifact else [])]
        states = _states(history, artifact, version)
        found.append(
            RouterStanding(
                router=router,
                serving=version,
                versions=tuple(_standing(one, states) for one in known),
                history=tuple(history),
                finding=await rollback.judged(store, history, artifact, error_rate) if artifact else None,
                rollback=_target(history, artifact),
            )
        )
    return found


async def _installed(shelf: Shelf, router: str) -> list[Version]:
    """None while the shelf does not answer: the page has more to show."""
    try:
        return await asyncio.to_thread(versions.installed, shelf, router)
    except ArtifactError as error:
        _log.warning("versions of %s cannot be listed: %s", router, error)
        return []


def _standing(one: Version, states: Mapping[str | None, str]) -> Standing:
    manifest = one.manifest
    return Standing(manifest.version, manifest.parent, states.get(manifest.version, ""))


def _states(history: Sequence[Activation], configured: Version | None, serving: str) -> dict[str | None, str]:
    if not history:
        return {serving: SERVES}
    active = history[0]
    states: dict[str | None, str] = dict.fromkeys(versions.undone(history), UNDONE)
    if active.holds_back(time.time()):
        states[active.previous or (configured.manifest.version if configured else None)] = HELD_BACK
    return {**states, active.version: SERVES}


def _target(history: Sequence[Activation], configured: Version | None) -> str | None:
    if not history:
        return None
    return versions.before(history) or (configured.manifest.version if configured else None)
