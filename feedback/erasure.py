"""Erasure: a user's data go, and with them every version that may have learned from them (docs/retention.md).

Which versions those are is put on record before any row is deleted, so that a run which is killed can be made to its
end by another. What serves is replaced by a refit on what is left, published after sanity checks and not by the gate:
what it replaces must not go on serving, and had passed. Where the refit is refused, the configured artifact serves.

A run has the lock of the nightly one, and is a row among its runs: nothing is fitted from the rows while they go.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from feedback import refusals, removal, retention, retrain, trials, versions
from feedback.forgetting import PAGE
from feedback.golden import Material
from feedback.records import Activation, Erasure, Run
from feedback.refit import refit_mf, refit_sw
from feedback.removal import Found
from feedback.retrain import EXPIRY_SECONDS, JOB, Learner, Night, Plan, Subject
from feedback.store import Store
from feedback.trials import Case, Trial
from feedback.versions import Version
from gateway_plugin import names
from scorer.routers.factorization import Factorization
from scorer.routers.similarity import Similarity
from scorer.shelf import Shelf

ERASED = "erased"  # the status of its runs
BY = "erase"  # by whom activations are

_SLACK_SECONDS = 3600.0  # by which clocks of replicas may differ
_LEVEL = 0.025  # at which ratings must speak against a refit for it to be refused
_WAIT_SECONDS = 2.0  # between looks whether the nightly run has ended
_RETRY_SECONDS = 600.0  # after a process that failed
_MOST_RUNS = 5000  # purges that are looked back on

Say = Callable[[str], None]
Versions = dict[str, set[str]]  # by router


class Configured(ValueError):
    """The configuration names a version that is to be erased: which, in one line."""


class Learning(NamedTuple):
    """What a refit needs."""

    plan: Plan
    subjects: Sequence[Subject]


@dataclass(frozen=True)
class Terms:
    """strongest: the ladder's first model; configured: of each router the artifact that it begins with; named: all
    directories that the configuration names; learning: loads what a refit needs, once one is needed."""

    strongest: str
    shelf: Shelf
    configured: Mapping[str, Version]
    named: Collection[Path]
    learning: Callable[[], Awaitable[Learning]]


async def keep(store: Store, make: Callable[[datetime], Awaitable[int]]) -> None:
    """Has what is due carried out by a process, unless one is at work. To be called often."""
    if await store.wants_erasure(JOB, EXPIRY_SECONDS) and await make(datetime.now(UTC).replace(microsecond=0)):
        await asyncio.sleep(_RETRY_SECONDS)


async def run(store: Store, terms: Terms, holder: str, say: Say = lambda line: None) -> Night | None:
    """Carries out what is due, after the nightly run's end if one is at work; None: nothing is due.

    Raises Configured, Lost, Unavailable, ArtifactError and DataError after recording it; the next run goes on there.
    """
    while await store.due_erasures():
        held = await store.claim_run(JOB, time.time(), holder, EXPIRY_SECONDS)
        if held:
            return await retrain.made(store, held, _carried_out(store, terms, held, say))
        say("a retraining run is at work; waiting for its end")
        await asyncio.sleep(_WAIT_SECONDS)
    return None


async def preview(store: Store, terms: Terms, user: str) -> tuple[Counter[str], Versions]:
    """What an erasure would delete: rows by table, and versions."""
    now = await store.clock()
    found = await store.of_user(user, now)
    rows: Counter[str] = Counter()
    for page in found.chunks(PAGE):
        rows += await store.count(page)
    return rows, await _learned(store, terms, Erasure(erasure_id="", user=user, asked_at=now), found)


async def _carried_out(store: Store, terms: Terms, held: Run, say: Say) -> Night:
    began = time.time()
    due = await store.due_erasures()
    gone: Versions = {}
    removed: Counter[str] = Counter()
    done, blocked = [], []
    for one in due:
        found = await store.of_user(one.user, one.asked_at) if one.user is not None else Found()
        try:
            named = await _noted(store, terms, one, found)
        except Configured as error:
            blocked.append(error)
            continue
        done.append(one)
        removed += await _removed(store, terms, one, found)
        gone = {router: gone.get(router, set()) | named.get(router, set()) for router in {*gone, *named}}
    if blocked and not done:
        raise blocked[0]
    say(f"deleted: {removal.told(removed)}")
    ends = await _replaced(store, terms, gone, held)
    for end in ends.values():
        say(end)
    dropped = {router: await _dropped(store, terms.shelf, router, some) for router, some in gone.items()}
    await store.truncate_log()
    await store.erasures_rebuilt([one.erasure_id for one in done])
    count = sum(map(len, dropped.values()))
    told = f"deleted: {removal.told(removed)}", *ends.values(), f"{count} versions deleted"
    verdict = "; ".join([*told, *map(str, blocked)])
    record: dict[str, Any] = {
        "erasures": [one.erasure_id for one in done],
        "removed": dict(removed),
        "versions": dropped,
        "replaced": ends,
        "seconds": round(time.time() - began, 3),
    }
    return Night(ERASED, verdict, [], record)


# Which versions


async def _noted(store: Store, terms: Terms, one: Erasure, found: Found) -> Versions:
    """The versions that are to go, on record before any row does. Raises Configured."""
    known = {router: set(some) for router, some in (one.versions or {}).items()}
    more = await _learned(store, terms, one, found)
    named = {router: known.get(router, set()) | more.get(router, set()) for router in {*known, *more}}
    for router, some in named.items():
        for version in some:
            if terms.shelf.place(router, version).resolve() in terms.named:
                place = terms.shelf.place(router, version)
                raise Configured(f"{place}: may have learned from what is to be erased, and the configuration names it")
    if one.versions is None or named != known:
        await store.note_erasure(one.erasure_id, named)
    return named


async def _learned(store: Store, terms: Terms, one: Erasure, found: Found) -> Versions:
    """Versions that may have learned from the rows: those made since something was said in them. What retention has
    deleted may have been the user's as well: at the first look, those made before the last purge, too."""
    if one.user is None:
        return {}
    since = await store.said_since(found)
    purged = await _purged_at(store) if one.versions is None else 0.0

    def may(made: float) -> bool:
        return made <= purged or (since is not None and made >= since - _SLACK_SECONDS)

    every = {router: await asyncio.to_thread(versions.lying, terms.shelf, router) for router in names.ROUTERS}
    learned = {router: {name for name, made in some.items() if may(made)} for router, some in every.items()}
    return {router: some for router, some in learned.items() if some}


async def _purged_at(store: Store) -> float:
    """When ratings or comparisons were last deleted for their age (Unix seconds); 0: never."""
    runs = await store.runs(retention.JOB, _MOST_RUNS)
    told = [run for run in runs if run.record is None or run.record["removed"].keys() & {"ratings", "comparisons"}]
    return max((run.finished_at or time.time() for run in told), default=0.0)


# Rows and files


async def _removed(store: Store, terms: Terms, one: Erasure, found: Found) -> Counter[str]:
    removed: Counter[str] = Counter()
    if one.user is not None:
        removed["pins"] += await store.remove_pins(one.user, found)
        await store.spend(terms.strongest, time.time())  # brings it up to date
    for page in found.chunks(PAGE):
        rows = await store.remove(page, terms.strongest)
        await store.erasure_removed(one.erasure_id, rows)
        removed += rows
    await store.erasure_removed(one.erasure_id, Counter(pins=removed["pins"]), last=True)
    return +removed


async def _dropped(store: Store, shelf: Shelf, router: str, gone: Collection[str]) -> list[str]:
    """Deletes the versions, and what killed processes have left of any: nobody else is fitting now."""
    await store.erase_versions(router, gone)
    there = sorted(set(await asyncio.to_thread(versions.lying, shelf, router)) & set(gone))
    for version in there:
        await asyncio.to_thread(shelf.drop, router, version)
    await asyncio.to_thread(shelf.tidy, router, True)
    for left in (shelf.folder / router).glob(".*"):
        await asyncio.to_thread(shutil.rmtree, left, ignore_errors=True)
    return there


# What serves in their place


async def _replaced(store: Store, terms: Terms, gone: Versions, held: Run) -> dict[str, str]:
    """What became of each router that served, or held back, one of these versions: in a line."""
    histories = {router: await store.activations(router) for router in gone}
    serving = [router for router, history in histories.items() if history and _serves(history[0], gone[router])]
    ends = await _refitted(store, terms, serving, held) if serving else {}
    for router, history in histories.items():
        if router not in ends and history and _holds_back(history, gone[router]):
            active = history[0]
            await store.activate(router, active.version, active.directory, [], BY, held.run_id)
            ends[router] = f"{router} {active.version} serves on, and nothing is held back"
    return ends


def _serves(active: Activation, gone: Collection[str]) -> bool:
    """What was erased before is replaced, or its router is gone."""
    return active.erased_at is None and active.version in gone


def _holds_back(history: Sequence[Activation], gone: Collection[str]) -> bool:
    return history[0].holds_back(time.time()) and versions.began(history).previous in gone


async def _refitted(store: Store, terms: Terms, routers: Sequence[str], held: Run) -> dict[str, str]:
    learning = await terms.learning()
    plan, subjects = learning.plan, {subject.prior.name: subject for subject in learning.subjects}
    material = await retrain.gathered(store, plan, time.time())
    refusal = refusals.of_night(material, plan.least_raters)
    data = {"learned_from": len(material.training), "dropped": dict(material.training.dropped)}
    fit = partial(refit_mf, plan.mf, material.training, ladder=plan.models, like=plan.like, data=data)
    mf = None if refusal else await asyncio.to_thread(fit)
    ends = {}
    for router in routers:
        subject, why = subjects.get(router), refusal
        if subject and mf:
            trial, challenger = await asyncio.to_thread(_tried, plan, subject, mf, material, data)
            why = _objection(trial)
            if not why:
                await _publish(store, plan, challenger, trial, held)
                ends[router] = f"{router} {challenger.version} serves, fitted without what was erased"
                continue
        ends[router] = await _fall_back(store, terms, router, why or "it does not learn from ratings", held)
    return ends


def _tried(
    plan: Plan, subject: Subject, mf: Factorization, material: Material, data: Mapping[str, Any]
) -> tuple[Trial, Learner]:
    """A refit, beside the configured artifact: what served is no measure, it knew what is gone."""
    challenger: Learner = mf
    if isinstance(subject.prior, Similarity):
        challenger = refit_sw(subject.prior, material.training, mf, ladder=plan.models, like=plan.like, data=data)
    case = Case(plan.models, plan.like, plan.encoder_id, subject.prior, subject.prior, challenger)
    return trials.compared(case, material, plan.sample[1], plan.rules, _LEVEL), challenger


def _objection(trial: Trial) -> str:
    """Why a refit must not serve, or ''. It need not be shown to be no worse: too few ratings are no objection."""
    if trial.ruling is None:
        return trial.objection
    worse = [found for found in (trial.ruling.champion, trial.ruling.newest) if found.low(_LEVEL) > 0]
    return "the refit is worse than the configured artifact" if worse else ""


async def _publish(store: Store, plan: Plan, router: Learner, trial: Trial, held: Run) -> None:
    directory = await asyncio.to_thread(retrain.shelved, plan, router, trial)
    calibration = await retrain.calibrated(store, plan, router)
    await retrain.activate(store, plan, router, directory, calibration, BY, held)


async def _fall_back(store: Store, terms: Terms, router: str, why: str, held: Run) -> str:
    configured = terms.configured.get(router)
    if configured is None:
        return f"{router}: nothing serves, since the configuration has no such router"
    directory, manifest = configured
    await store.activate(router, manifest.version, str(directory.resolve()), [], BY, held.run_id)
    return f"{router}: the configured artifact, {manifest.version}, serves: {why}"
