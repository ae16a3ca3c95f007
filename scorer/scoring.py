"""Texts to scores: one encoder pass for a whole batch, then each job's router on its rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scorer import arms
from scorer.calibration import Calibration
from scorer.routers.base import Encodes, Prompts, Router, Unscorable
from scorer.telemetry import Stage


@dataclass(frozen=True)
class Hosted:
    """A router that serves, the names it knows the ladder's models by (strongest first), and what its scores mean on
    known traffic. Swapped as one, so that they always agree."""

    router: Router
    ladder: tuple[str, ...]
    calibration: Calibration | None  # None: nothing is known of what its scores mean; a raw threshold needs nothing
    earlier: Earlier | None = None

    def arm(self, unit: str | None) -> Hosted:
        """Which version serves the unit; without one, this."""
        earlier = self.earlier
        if earlier and unit and arms.held_back(unit, self.router.name, earlier.number, earlier.share):
            return earlier.hosted
        return self


@dataclass(frozen=True)
class Earlier:
    """The version held back, which goes on serving a share of the units; `number` is that of the activation which
    began it."""

    hosted: Hosted
    number: int
    share: float


def uncalibrated(router: str) -> str:
    """What to do where a share is asked for and the hosted router has no calibration."""
    return f"{router} is not calibrated: run routerd calibrate --router {router} --prompts FILE"


class Job(NamedTuple):
    """One text to score, for the router's own ladder or another one of names it knows, strongest first."""

    router: str
    text: str
    ladder: tuple[str, ...] | None = None
    unit: str | None = None  # whose request it is, where it is one; it stays with its version


class _Group(NamedTuple):
    """Jobs that are scored as one, by their places."""

    hosted: Hosted
    ladder: tuple[str, ...]
    rows: list[int]


class Scored(NamedTuple):
    """A job's scores in ladder order, who gave them, what was encoded (float32, little-endian), and when it and those
    beside it were encoded and scored."""

    win_rates: tuple[float, ...]
    quality: tuple[float, ...] | None
    hosted: Hosted
    embedding: bytes
    features: bytes
    stages: tuple[Stage, ...] = ()


class Scoring:
    """The encoder and the routers that share it. `took` is told how long each batch took to be encoded and scored."""

    def __init__(self, encoder: Encodes, hosted: Mapping[str, Hosted]) -> None:
        self.encoder = encoder
        self.hosted = dict(hosted)
        self.faults: set[str] = set()  # of versions that could not be loaded, as they were logged
        self.took: Callable[[str, float], None] = lambda stage, seconds: None

    def score(self, jobs: Sequence[Job]) -> list[Scored | Unscorable]:
        """Answers in the jobs' order, or why there is none now. Every job's router must be hosted."""
        began = time.perf_counter()
        prompts = self.encoder.encode([job.text for job in jobs])
        encoded = time.perf_counter()
        serving = {job.router: self.hosted[job.router] for job in jobs}  # once: they may be swapped meanwhile
        groups: dict[tuple[int, tuple[str, ...]], _Group] = {}
        for row, job in enumerate(jobs):
            hosted = serving[job.router].arm(job.unit)
            ladder = job.ladder or hosted.ladder
            groups.setdefault((id(hosted), ladder), _Group(hosted, ladder, [])).rows.append(row)
        answers: dict[int, Scored | Unscorable] = {}
        for hosted, ladder, rows in groups.values():
            answers |= zip(rows, self._score(hosted, ladder, _take(prompts, rows)), strict=True)
        stages = self._told(encoded - began, time.perf_counter() - encoded)
        ordered = (answers[row] for row in range(len(jobs)))
        return [one._replace(stages=stages) if isinstance(one, Scored) else one for one in ordered]

    def _told(self, encoding: float, scoring: float) -> tuple[Stage, ...]:
        """What a batch took until now, in seconds, as stages."""
        self.took("encode", encoding)
        self.took("score", scoring)
        ended = time.time_ns()
        encoded = ended - int(scoring * 1e9)
        return Stage("encode", encoded - int(encoding * 1e9), encoded), Stage("score", encoded, ended)

    def _score(self, hosted: Hosted, ladder: tuple[str, ...], prompts: Prompts) -> list[Scored | Unscorable]:
        try:
            scores = hosted.router.score(prompts, ladder)
        except Unscorable as fault:
            rest = [row for row in range(len(prompts)) if row not in fault.rows]
            scored = iter(self._score(hosted, ladder, _take(prompts, rest)) if rest else ())
            return [fault if row in fault.rows else next(scored) for row in range(len(prompts))]
        return [
            Scored(
                tuple(scores.win_rates[row].tolist()),
                None if scores.quality is None else tuple(scores.quality[row].tolist()),
                hosted,
                prompts.embeddings[row].astype("<f4").tobytes(),
                prompts.features[row].astype("<f4").tobytes(),
            )
            for row in range(len(prompts))
        ]


def _take(prompts: Prompts, rows: Sequence[int]) -> Prompts:
    index = np.asarray(rows)
    return Prompts([prompts.texts[row] for row in rows], prompts.embeddings[index], prompts.features[index])
