"""The nightly run: gather what was said, refit every router from its prior, and publish what the gate lets pass.

A challenger is fitted on the training part of what was said (feedback/golden.py), compared with the champion and the
configured artifact on what no challenger learns from (feedback/gate.py), and published as it was compared: artifact
first, then version and thresholds in one transaction. Until that commits the champion serves, and whatever fails before
it leaves no more than an unused directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from feedback import calibrations, golden, rates, refusals, trials
from feedback.activations import Overtaken
from feedback.battles import Evidence, Weights
from feedback.database import Unavailable
from feedback.gate import Rules
from feedback.golden import Material, Parts
from feedback.records import Holdback, Run
from feedback.refit import refit_mf, refit_sw
from feedback.runs import Lost
from feedback.store import Store
from feedback.trials import Trial
from scorer.artifacts import MANIFEST
from scorer.battles import BAR
from scorer.calibration import Calibration, calibrate
from scorer.routers.base import Prompts, Router, known_as
from scorer.routers.factorization import Factorization
from scorer.routers.similarity import Similarity
from scorer.shelf import Shelf

Learner = Factorization | Similarity

JOB = "retrain"
PUBLISHED, REFUSED, SKIPPED = "published", "refused", "skipped"

_TRAFFIC = 2000  # newest logged prompts to calibrate on: a share is then known to about two points
_MOST_RUNS = 5000  # that the error rate looks back on
_BEAT_SECONDS = 60.0
EXPIRY_SECONDS = 600.0  # after which a run that has fallen silent may be taken over


@dataclass(frozen=True)
class Plan:
    """What does not depend on the router: the ladder with its stand-ins, and how ratings count."""

    models: tuple[str, ...]  # strongest first
    like: Mapping[str, str]  # stand-ins for models that priors do not know
    encoder_id: str
    shelf: Shelf  # where versions go
    weights: Weights
    sample: tuple[str, Prompts]  # to calibrate on while there is little traffic
    mf: Factorization  # its prior; refitted, it also says what answers that nobody saw would have been rated
    parts: Parts = field(default_factory=Parts)
    rules: Rules = field(default_factory=Rules)
    least_raters: float = 1.0  # effective number of people to learn from
    share: float = 0.5  # of requests to the strongest model, at which costs are compared
    judged: float = 0.0  # the share of the traffic that a judge is given
    holdback: Holdback | None = None  # what the version before keeps of what is published

    @property
    def settings(self) -> str:
        """What a run's end depends on beside what was said; the judge's weight follows from that."""
        counted = self.weights.signals, self.weights.half_life_days, self.weights.most_per_user
        ladder = self.models, dict(self.like), self.encoder_id, self.mf.version
        return repr((ladder, self.parts, self.rules, self.least_raters, self.share, counted))


@dataclass(frozen=True)
class Subject:
    """A router to refit: where its fits begin, the configured artifact, which is the anchor too; and what serves."""

    prior: Learner
    champion: Router
    activation: int | None = None  # the champion's number; a challenger replaces no other. None: whatever serves then


@dataclass(frozen=True)
class Night:
    """A run's end: its status, why in one line, the trials that were made, and the record of the whole, as JSON."""

    status: str
    verdict: str
    trials: list[Trial]
    record: dict[str, Any]


async def retrain(
    store: Store,
    plan: Plan,
    subjects: Sequence[Subject],
    *,
    publish: bool = True,
    held: Run | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Night:
    """Refits, compares and, unless told not to, publishes. held: the run that this is.

    Raises Unavailable, ArtifactError, DataError and Lost; what was published before stays published.
    """
    began = time.time()
    earlier = [run for run in await store.runs(JOB, _MOST_RUNS) if held is None or run.run_id != held.run_id]
    material = await gathered(store, plan, began)
    training, newest = material.training, material.newest
    say(
        f"{len(training)} ratings and comparisons to learn from, {len(material.golden)} golden ones "
        f"and {len(newest)} newer ones to compare on"
    )
    counts = {"learned_from": len(training), "held_out": len(newest), "golden": len(material.golden)}
    data = {**counts, "dropped": dict(training.dropped)}
    record: dict[str, Any] = {"data": data, "said": {**material.said._asdict(), "settings": plan.settings}}
    if publish and rates.last_said(earlier) == record["said"]:
        return _ended(SKIPPED, "nothing was said since the last run", record, began, say)
    if refusal := refusals.of_night(material, plan.least_raters) or await _silent_judge(store, plan, material, earlier):
        return _ended(REFUSED, refusal, record, began, say)
    rate = rates.following(earlier, plan.rules.error_rate, held.attempt if held else 1)
    level = rate.level / max(len(subjects), 1)
    mf = await asyncio.to_thread(refit_mf, plan.mf, training, ladder=plan.models, like=plan.like, data=data)
    made = []
    for subject in subjects:
        trial = await _try(store, plan, subject, mf, material, data, level, held if publish else None, publish)
        say(trial.verdict)
        made.append(trial)
    record["routers"] = {trial.name: trial.record for trial in made}
    if any(trial.tested for trial in made):
        passed_on = level * sum(trial.published for trial in made)
        record["rate"] = {"run": rate.run, "level": rate.level, "passed_on": passed_on}
    status = PUBLISHED if any(trial.published for trial in made) else REFUSED
    record["seconds"] = round(time.time() - began, 3)
    return Night(status, "; ".join(trial.verdict for trial in made), made, record)


async def run(
    store: Store,
    plan: Plan,
    subjects: Sequence[Subject],
    scheduled_for: float,
    holder: str,
    say: Callable[[str], None] = lambda line: None,
) -> list[Trial] | None:
    """`retrain` as a scheduled run, once for its time (Unix seconds) whatever other processes try; None: not ours.

    Raises Lost, and what `retrain` raises, after recording it.
    """
    claimed = await store.claim_run(JOB, scheduled_for, holder, EXPIRY_SECONDS)
    if claimed is None:
        return None
    night = await made(store, claimed, retrain(store, plan, subjects, held=claimed, say=say))
    return night.trials


async def made(store: Store, held: Run, work: Coroutine[Any, Any, Night]) -> Night:
    """What the work of a run comes to, with a heartbeat meanwhile, on record. Raises Lost, and what the work raises,
    after recording it."""
    working, heart = asyncio.create_task(work), asyncio.create_task(_beat(store, held.run_id))
    try:
        await asyncio.wait({working, heart}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Lost(f"the run for {held.scheduled_for:.0f} was taken over")
        night = working.result()
    except Exception as error:
        await store.finish_run(held.run_id, "failed", f"{type(error).__name__}: {error}")
        raise
    finally:
        for task in (working, heart):
            task.cancel()
        await asyncio.gather(working, heart, return_exceptions=True)
    await store.finish_run(held.run_id, night.status, night.verdict, night.record)
    return night


async def _beat(store: Store, run_id: str) -> None:
    """Until the run is no longer ours; a database that is away has not given it to anyone else."""
    ours = True
    while ours:
        await asyncio.sleep(_BEAT_SECONDS)
        with contextlib.suppress(Unavailable):
            ours = await store.beat(run_id)


def _ended(status: str, why: str, record: dict[str, Any], began: float, say: Callable[[str], None]) -> Night:
    """Before anything was fitted."""
    say(f"{status}: {why}")
    return Night(status, why, [], {**record, "seconds": round(time.time() - began, 3)})


async def gathered(store: Store, plan: Plan, now: float) -> Material:
    """All that was said up to `now` (Unix seconds), of models that have something to begin at."""
    material = await golden.gather(store, plan.encoder_id, plan.weights, plan.parts, now)
    return replace(material, training=_of_known(plan, material.training))


def _of_known(plan: Plan, evidence: Evidence) -> Evidence:
    """Without the battles of models that are neither on the ladder nor known to mf: one that has left the ladder, or
    that the gateway fell back to, has nowhere to begin."""
    players = [*plan.models, *plan.mf.known, BAR]
    battles = evidence.battles
    known = np.isin(battles.model_a, players) & np.isin(battles.model_b, players)
    strangers = {"of a model that is not on the ladder": int((~known).sum())} if not known.all() else {}
    return replace(evidence.take(known), dropped={**evidence.dropped, **strangers})


async def _silent_judge(store: Store, plan: Plan, material: Material, earlier: Sequence[Run]) -> str:
    """Why the judge must be thought broken, or ''."""
    since = max((run.started_at for run in earlier if run.status != SKIPPED), default=0.0)
    if not plan.judged or not since:
        return ""
    decisions = await store.decided(since)
    return refusals.silent_judge(plan.judged, material.said.judged, since, decisions)


async def _try(
    store: Store,
    plan: Plan,
    subject: Subject,
    mf: Factorization,
    material: Material,
    data: Mapping[str, Any],
    level: float,
    held: Run | None,
    publish: bool,
) -> Trial:
    """One challenger, from its fit to its publication."""
    began = time.time()
    challenger: Learner = mf
    if isinstance(subject.prior, Similarity):
        fit = partial(refit_sw, subject.prior, material.training, mf, ladder=plan.models, like=plan.like, data=data)
        challenger = await asyncio.to_thread(fit)
    case = trials.Case(plan.models, plan.like, plan.encoder_id, subject.champion, subject.prior, challenger)
    trial = await asyncio.to_thread(trials.compared, case, material, plan.sample[1], plan.rules, level)
    if not trial.objection:
        fitted = [await calibrated(store, plan, router) for router in (challenger, subject.champion)]
        trial = await asyncio.to_thread(trials.priced, trial, case, material.records, fitted, plan.share)
    if publish and not trial.objection:
        assert trial.calibration is not None
        directory = await asyncio.to_thread(shelved, plan, challenger, trial)
        over = subject.activation
        try:
            await activate(store, plan, challenger, directory, trial.calibration, JOB, held, plan.holdback, over)
            trial = replace(trial, published=True)
        except Overtaken as error:
            trial = replace(trial, objection=str(error))
    return replace(trial, seconds=time.time() - began)


def shelved(plan: Plan, challenger: Learner, trial: Trial) -> Path:
    """Where the version now lies, for all replicas. Raises ArtifactError."""
    directory = plan.shelf.place(challenger.name, challenger.version)
    if not (directory / MANIFEST).exists():  # else a run that was killed within the same second has left the same
        challenger.save(directory, {"gate": trial.ruling_record})
    plan.shelf.publish(challenger.name, challenger.version)
    return directory


async def calibrated(store: Store, plan: Plan, router: Router) -> Calibration:
    """On logged traffic if there is enough of it."""
    logged = await store.traffic(plan.encoder_id, _TRAFFIC)
    sample, prompts = plan.sample
    if len(logged) >= calibrations.LEAST_TRAFFIC:
        sample, prompts = calibrations.TRAFFIC, calibrations.prompts(logged)
    return await asyncio.to_thread(calibrate, router, known_as(router, plan.models, plan.like), sample, prompts)


async def activate(
    store: Store,
    plan: Plan,
    router: Router,
    directory: Path,
    calibration: Calibration,
    by: str,
    held: Run | None = None,
    holdback: Holdback | None = None,
    over: int | None = None,
) -> None:
    """The version in an absolute directory, and what its scores mean, in one transaction. held: the run that publishes
    it; raises Lost if another process has taken that over. holdback: what the version before keeps. over: the
    activation that it was compared with; raises Overtaken if that serves no longer."""
    fitted = calibrations.stored(router, known_as(router, plan.models, plan.like), calibration)
    run_id = held.run_id if held else None
    await store.activate(router.name, router.version, str(directory), [fitted], by, run_id, holdback, over)
