"""The watch: a version that is rated worse than the one held back beside it goes back by itself (docs/rollback.md).

Every replica watches. The rollback is one transaction, which changes nothing unless what was judged still serves.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from feedback import holdback, versions
from feedback.holdback import Finding
from feedback.records import Activation, Run
from feedback.store import Store
from feedback.versions import Version
from gateway_plugin import ids

JOB = "watch"  # of runs, one for each rollback
ROLLED_BACK = "rolled back"

_log = logging.getLogger(__name__)


async def watch(store: Store, configured: Mapping[str, Version], error_rate: float) -> dict[str, Finding]:
    """Rolls back whatever an alarm is raised about; what is said of each router that has a holdback.

    configured: of each router the artifact that it begins with. Raises Unavailable.
    """
    findings = {}
    for router, artifact in configured.items():
        history = await store.activations(router)
        finding = await judged(store, history, artifact, error_rate)
        if finding:
            findings[router] = finding
            if finding.alarm:
                await _undo(store, history, artifact, finding)
    return findings


async def judged(store: Store, history: Sequence[Activation], configured: Version, error_rate: float) -> Finding | None:
    """What ratings say of the versions that served beside what is held back; None: nothing is. history: newest
    first."""
    if not history or not history[0].holds_back(time.time()):
        return None
    began = versions.began(history)
    earlier = began.previous or configured.manifest.version
    rated = await store.rated_held_back(began, earlier, versions.since(history))
    values, held = np.array([one.value for one in rated], float), np.array([one.held for one in rated], bool)
    return await asyncio.to_thread(holdback.judge, values, held, began.holdback, error_rate)


async def _undo(store: Store, history: Sequence[Activation], configured: Version, finding: Finding) -> None:
    active = history[0]
    version, directory = _target(history, configured)
    undone = await store.undo(active, version, directory, f"rollback: {finding.text}", _run(active, version, finding))
    if undone:
        _log.warning("%s %s was rolled back to %s: %s", active.router, active.version, version, finding.text)


def _target(history: Sequence[Activation], configured: Version) -> tuple[str, str]:
    """The version held back, and its directory; the one before it where that was rolled back itself."""
    began = versions.began(history)
    target = began.previous
    if target in versions.undone(history):
        target = versions.before([one for one in history if one.number <= began.number])
    if target is None:
        return configured.manifest.version, str(configured.directory.resolve())
    return target, next(one.directory for one in history if one.version == target)


def _run(active: Activation, target: str, finding: Finding) -> Run:
    now = time.time()
    return Run(
        run_id=ids.mint(),
        job=JOB,
        scheduled_for=now,
        holder=socket.gethostname(),
        attempt=1,
        started_at=now,
        heartbeat_at=now,
        finished_at=now,
        status=ROLLED_BACK,
        verdict=f"{active.router} {active.version} to {target}: {finding.text}",
        record={"router": active.router, "from": active.version, "to": target, **asdict(finding)},
    )
