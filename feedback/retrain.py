"""The nightly run: gather what was said, refit every router from its prior, and publish what is not worse.

A challenger is fitted on everything but the newest ratings, compared with the champion on those (feedback/gate.py), and
published as it was compared: artifact first, then version and thresholds in one transaction. Until that commits the
champion serves, and whatever fails before it leaves no more than an unused directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedback import calibrations, gate, versions
from feedback.battles import Evidence, Gathering, Weights
from feedback.database import Unavailable
from feedback.gate import Comparison
from feedback.refit import refit_mf, refit_sw
from feedback.store import Store
from gateway_plugin import ids
from scorer.battles import BAR
from scorer.calibration import Calibration, calibrate
from scorer.routers.base import Prompts, Router
from scorer.routers.factorization import Factorization
from scorer.routers.similarity import Similarity

Learner = Factorization | Similarity

JOB = "retrain"
SHARES = (0.1, 0.3, 0.5)  # whose thresholds a run's record has

_TRAFFIC = 2000  # newest logged prompts to calibrate on: a share is then known to about two points
_MOST_HELD_OUT = 2000  # rated decisions; beyond, more to learn from is worth more than more to compare on
_BEAT_SECONDS = 60.0
EXPIRY_SECONDS = 600.0  # after which a run that has fallen silent may be taken over


@dataclass(frozen=True)
class Plan:
    """What does not depend on the router: the ladder with its stand-ins, how ratings count, and where versions go."""

    models: tuple[str, ...]  # strongest first
    like: Mapping[str, str]  # stand-ins for models that priors do not know
    encoder_id: str
    data_dir: Path
    weights: Weights
    held_out: float  # newest part of the rated decisions, in (0, 1)
    sample: tuple[str, Prompts]  # to calibrate on while there is little traffic
    mf: Factorization  # its prior; refitted, it also says what answers that nobody saw would have been rated


@dataclass(frozen=True)
class Subject:
    """A router to refit: where its fits begin, and what serves now."""

    prior: Learner
    champion: Router


@dataclass(frozen=True)
class Trial:
    """What became of one challenger. calibration: None where it was not published."""

    name: str
    champion: str
    challenger: str
    comparison: Comparison
    published: bool
    calibration: Calibration | None
    seconds: float

    @property
    def verdict(self) -> str:
        """In one line."""
        passed = "published" if self.published else "would be published"
        end = passed if self.comparison.publishes else "refused"
        return f"{self.name} {self.challenger} {end}, {self.comparison.verdict}"

    @property
    def record(self) -> dict[str, Any]:
        """As JSON."""
        fitted = self.calibration
        return {
            "champion": self.champion,
            "challenger": self.challenger,
            "published": self.published,
            "verdict": self.comparison.verdict,
            "comparison": asdict(self.comparison),
            "calibrated_on": fitted.sample if fitted else None,
            "thresholds": {f"p{share * 100:g}": fitted.threshold(share) for share in SHARES} if fitted else {},
            "seconds": round(self.seconds, 3),
        }


class Lost(Exception):
    """The run was taken over by another process, which believed this one dead."""


async def retrain(
    store: Store,
    plan: Plan,
    subjects: Sequence[Subject],
    *,
    publish: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[list[Trial], dict[str, Any]]:
    """Refits, compares and, unless told not to, publishes; the trials and the record of the whole. Raises Unavailable,
    ArtifactError and DataError; what was published before stays published."""
    began = time.time()
    training, held_out = await _gather(store, plan, began)
    say(f"{len(training)} ratings and comparisons to learn from, {len(held_out)} newer ones to compare on")
    data = {"learned_from": len(training), "held_out": len(held_out), "dropped": dict(training.dropped)}
    mf = await asyncio.to_thread(refit_mf, plan.mf, training, ladder=plan.models, like=plan.like, data=data)
    trials = []
    for subject in subjects:
        trial = await _try(store, plan, subject, mf, training, held_out, data, publish)
        say(trial.verdict)
        trials.append(trial)
    routers = {trial.name: trial.record for trial in trials}
    return trials, {"data": data, "routers": routers, "seconds": round(time.time() - began, 3)}


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
    work = asyncio.create_task(retrain(store, plan, subjects, say=say))
    heart = asyncio.create_task(_beat(store, claimed.run_id))
    try:
        await asyncio.wait({work, heart}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise Lost(f"the run for {scheduled_for:.0f} was taken over")
        trials, record = work.result()
    except Exception as error:
        await store.finish_run(claimed.run_id, "failed", f"{type(error).__name__}: {error}")
        raise
    finally:
        for task in (work, heart):
            task.cancel()
        await asyncio.gather(work, heart, return_exceptions=True)
    status = "published" if any(trial.published for trial in trials) else "refused"
    await store.finish_run(claimed.run_id, status, "; ".join(trial.verdict for trial in trials), record)
    return trials


async def _beat(store: Store, run_id: str) -> None:
    """Until the run is no longer ours; a database that is away has not given it to anyone else."""
    ours = True
    while ours:
        await asyncio.sleep(_BEAT_SECONDS)
        with contextlib.suppress(Unavailable):
            ours = await store.beat(run_id)


async def _gather(store: Store, plan: Plan, now: float) -> tuple[Evidence, Evidence]:
    """Everything up to some time, and what is newer: the held-out part of the rated decisions, by when they were made.

    A session that goes on after that time is held out no more: its prompts are known by then.
    """
    made = [ids.minted_at(one.decision_id) async for page in store.rated(vectors=False) for one in page]
    newer = min(max(round(len(made) * plan.held_out), 1), _MOST_HELD_OUT)
    cut = made[-newer] if made else now
    training = Gathering(plan.encoder_id, plan.weights, now)
    held_out = Gathering(plan.encoder_id, replace(plan.weights, signals={}), now)  # what people and judges said
    async for page in store.rated(before=cut, signals=tuple(plan.weights.signals)):
        training.add_ratings(page)
    async for comparisons in store.comparisons(before=cut):
        training.add_comparisons(comparisons)
    async for page in store.rated(after=cut):
        held_out.add_ratings(page)
    learned, newest = _of_known(plan, training.evidence), held_out.evidence
    return learned, newest.take(~np.isin(newest.session, learned.session))


def _of_known(plan: Plan, evidence: Evidence) -> Evidence:
    """Without the battles of models that are neither on the ladder nor known to mf: one that has left the ladder, or
    that the gateway fell back to, has nowhere to begin."""
    players = [*plan.models, *plan.mf.known, BAR]
    battles = evidence.battles
    known = np.isin(battles.model_a, players) & np.isin(battles.model_b, players)
    strangers = {"of a model that is not on the ladder": int((~known).sum())} if not known.all() else {}
    return replace(evidence.take(known), dropped={**evidence.dropped, **strangers})


async def _try(
    store: Store,
    plan: Plan,
    subject: Subject,
    mf: Factorization,
    training: Evidence,
    held_out: Evidence,
    data: Mapping[str, Any],
    publish: bool,
) -> Trial:
    """One challenger, from its fit to its publication."""
    began = time.time()
    challenger: Learner = mf
    if isinstance(subject.prior, Similarity):
        fit = partial(refit_sw, subject.prior, training, mf, ladder=plan.models, like=plan.like, data=data)
        challenger = await asyncio.to_thread(fit)
    comparison = await asyncio.to_thread(_compare, plan, subject.champion, challenger, held_out)
    calibration = None
    if publish and comparison.publishes:
        calibration = await calibrated(store, plan, challenger)
        directory = versions.folder(plan.data_dir, challenger.name) / challenger.version
        await asyncio.to_thread(challenger.save, directory, {"gate": asdict(comparison)})
        await activate(store, plan, challenger, directory, calibration, JOB)
    return Trial(
        challenger.name,
        subject.champion.version,
        challenger.version,
        comparison,
        calibration is not None,
        calibration,
        time.time() - began,
    )


def known_as(router: Router, models: Sequence[str], like: Mapping[str, str]) -> tuple[str, ...]:
    """The names that the router knows the models by: their own once it has learned them, else their stand-ins'."""
    return tuple(model if router.knows(model) else like.get(model, model) for model in models)


def _compare(plan: Plan, champion: Router, challenger: Router, held_out: Evidence) -> Comparison:
    """On the held-out ratings of the ladder's models."""
    battles = held_out.battles
    rated = held_out.take((battles.model_b == BAR) & np.isin(battles.model_a, plan.models))
    place = np.array([plan.models.index(model) for model in rated.battles.model_a.tolist()], int)

    def quality(router: Router) -> NDArray[np.float64]:
        table = _quality(router, rated.prompts, known_as(router, plan.models, plan.like))
        served: NDArray[np.float64] = table[rated.battles.prompt, place]
        return served

    return gate.compare(
        rated.battles.outcome, quality(champion), quality(challenger), rated.propensity, rated.session.tolist()
    )


def _quality(router: Router, prompts: Prompts, ladder: tuple[str, ...]) -> NDArray[np.float64]:
    """(n, m)."""
    if not len(prompts):
        return np.zeros((0, len(ladder)))
    quality = router.score(prompts, ladder).quality
    assert quality is not None  # of routers that learn against the bar
    return quality


async def calibrated(store: Store, plan: Plan, router: Router) -> Calibration:
    """On logged traffic if there is enough of it."""
    logged = await store.traffic(plan.encoder_id, _TRAFFIC)
    sample, prompts = plan.sample
    if len(logged) >= calibrations.LEAST_TRAFFIC:
        sample, prompts = calibrations.TRAFFIC, calibrations.prompts(logged)
    return await asyncio.to_thread(calibrate, router, known_as(router, plan.models, plan.like), sample, prompts)


async def activate(
    store: Store, plan: Plan, router: Router, directory: Path, calibration: Calibration, by: str
) -> None:
    """The version in an absolute directory, and what its scores mean, in one transaction."""
    fitted = calibrations.stored(router, known_as(router, plan.models, plan.like), calibration)
    await store.activate(router.name, router.version, str(directory), [fitted], by)
