"""Texts to scores: one encoder pass for a whole batch, then each job's router on its rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scorer.calibration import Calibration
from scorer.routers.base import Encodes, Prompts, Router, Unscorable


@dataclass(frozen=True)
class Hosted:
    """A router that serves, the names it knows the ladder's models by (strongest first), and what its scores mean on
    known traffic. Swapped as one, so that they always agree."""

    router: Router
    ladder: tuple[str, ...]
    calibration: Calibration | None  # None: nothing is known of what its scores mean; a raw threshold needs nothing


def uncalibrated(router: str) -> str:
    """What to do where a share is asked for and the hosted router has no calibration."""
    return f"{router} is not calibrated: run routerd calibrate --router {router} --prompts FILE"


class Job(NamedTuple):
    """One text to score, for the router's own ladder or another one of names it knows, strongest first."""

    router: str
    text: str
    ladder: tuple[str, ...] | None = None


class Scored(NamedTuple):
    """A job's scores in ladder order, who gave them, and what was encoded (float32, little-endian)."""

    win_rates: tuple[float, ...]
    quality: tuple[float, ...] | None
    hosted: Hosted
    embedding: bytes
    features: bytes


class Scoring:
    """The encoder and the routers that share it."""

    def __init__(self, encoder: Encodes, hosted: Mapping[str, Hosted]) -> None:
        self.encoder = encoder
        self.hosted = dict(hosted)

    def score(self, jobs: Sequence[Job]) -> list[Scored | Unscorable]:
        """Answers in the jobs' order, or why there is none now. Every job's router must be hosted."""
        prompts = self.encoder.encode([job.text for job in jobs])
        rows_of: dict[tuple[str, tuple[str, ...] | None], list[int]] = defaultdict(list)
        for row, job in enumerate(jobs):
            rows_of[job.router, job.ladder].append(row)
        answers: dict[int, Scored | Unscorable] = {}
        for (name, ladder), rows in rows_of.items():
            hosted = self.hosted[name]
            answers |= zip(rows, self._score(hosted, ladder or hosted.ladder, _take(prompts, rows)), strict=True)
        return [answers[row] for row in range(len(jobs))]

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
