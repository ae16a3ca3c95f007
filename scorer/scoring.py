"""Texts to scores: one encoder pass for a whole batch, then each job's router on its rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scorer.calibration import Calibration
from scorer.encoder import Encoder
from scorer.routers.base import Prompts, Router


@dataclass(frozen=True)
class Hosted:
    """A router that serves, and what its scores mean on known traffic. Swapped as one, so that they always agree."""

    router: Router
    calibration: Calibration


class Job(NamedTuple):
    """One text to score for a ladder of known names, strongest first."""

    router: str
    ladder: tuple[str, ...]
    text: str


class Scored(NamedTuple):
    """A job's scores in ladder order, who gave them, and what was encoded (float32, little-endian)."""

    win_rates: tuple[float, ...]
    quality: tuple[float, ...] | None
    hosted: Hosted
    embedding: bytes
    features: bytes


class Scoring:
    """The encoder and the routers that share it."""

    def __init__(self, encoder: Encoder, hosted: Mapping[str, Hosted]) -> None:
        self.encoder = encoder
        self.hosted = dict(hosted)

    def score(self, jobs: Sequence[Job]) -> list[Scored]:
        """Answers in the jobs' order. Every job's router must be hosted."""
        prompts = self.encoder.encode([job.text for job in jobs])
        rows_of: dict[tuple[str, tuple[str, ...]], list[int]] = defaultdict(list)
        for row, job in enumerate(jobs):
            rows_of[job.router, job.ladder].append(row)
        answers: dict[int, Scored] = {}
        for (name, ladder), rows in rows_of.items():
            answers |= zip(rows, self._score(self.hosted[name], ladder, _take(prompts, rows)), strict=True)
        return [answers[row] for row in range(len(jobs))]

    def _score(self, hosted: Hosted, ladder: tuple[str, ...], prompts: Prompts) -> list[Scored]:
        scores = hosted.router.score(prompts, ladder)
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
