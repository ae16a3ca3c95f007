"""One challenger's trial: compared on what it has not learned from, ruled on, and priced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from feedback import gate, logged, refusals, rescoring
from feedback.battles import Evidence
from feedback.gate import Comparison, Floats, Rules, Ruling
from feedback.golden import Material
from feedback.premium import Premium, Side, premium
from feedback.records import Record
from feedback.refit import CLIP
from scorer import artifacts
from scorer.battles import BAR
from scorer.calibration import Calibration
from scorer.routers.base import Prompts, Router, known_as

SHARES = (0.1, 0.3, 0.5)  # whose thresholds a record has
_SAMPLE = 64  # prompts of a sample that stand for all
_SURE = 1e-6  # a quality is taken for no more certain than this where two are compared


@dataclass(frozen=True)
class Case:
    """Who is on trial, on which ladder. champion: serves; anchor: the configured artifact."""

    models: tuple[str, ...]
    like: Mapping[str, str]
    encoder_id: str
    champion: Router
    anchor: Router
    challenger: Router

    def names(self, router: Router) -> tuple[str, ...]:
        """What the router knows the ladder by."""
        return known_as(router, self.models, self.like)


@dataclass(frozen=True)
class Trial:
    """What became of one challenger. ruling, premium, calibration: None where it did not come so far."""

    name: str
    champion: str
    challenger: str
    ruling: Ruling | None
    objection: str  # why it is not published, or ''
    premium: Premium | None = None
    calibration: Calibration | None = None
    published: bool = False
    seconds: float = 0.0

    @property
    def tested(self) -> bool:
        """Whether it spent its part of the error rate."""
        return self.ruling is not None and self.ruling.tells

    @property
    def verdict(self) -> str:
        """In one line."""
        end = "refused" if self.objection else "published" if self.published else "would be published"
        told = [] if self.ruling and not self.ruling.publishes else [self.objection]
        told += [self.ruling.verdict] if self.ruling else []
        told += [self.premium.text] if self.premium and not self.objection else []
        return f"{self.name} {self.challenger} {end}, {'; '.join(filter(None, told))}"

    @property
    def ruling_record(self) -> dict[str, Any]:
        """As JSON: what the artifact keeps of its trial."""
        ruling = self.ruling.record if self.ruling else {}
        return {**ruling, "premium": self.premium.record if self.premium else None}

    @property
    def record(self) -> dict[str, Any]:
        """As JSON."""
        fitted = self.calibration if self.published else None
        return {
            "champion": self.champion,
            "challenger": self.challenger,
            "published": self.published,
            "verdict": self.verdict,
            "gate": self.ruling_record,
            "calibrated_on": fitted.sample if fitted else None,
            "thresholds": {f"p{share * 100:g}": fitted.threshold(share) for share in SHARES} if fitted else {},
            "seconds": round(self.seconds, 3),
        }


def compared(case: Case, material: Material, sample: Prompts, rules: Rules, level: float) -> Trial:
    """By the golden set and the newest slice; `sample` are prompts that scores must be finite on as well."""
    about = case.challenger.name, case.champion.version, case.challenger.version
    if artifacts.same_content(case.challenger.version, case.champion.version):
        return Trial(*about, None, "it is what serves, to the last bit")
    prompts = [material.golden.prompts, material.newest.prompts, sample[:_SAMPLE]]
    if objection := refusals.not_finite(case.challenger, prompts, case.names(case.challenger)):
        return Trial(*about, None, objection)
    said, new = on_ladder(material.golden, case.models), on_ladder(material.newest, case.models)
    expected = {id(router): predicted(case, router, said) for router in (case.champion, case.anchor, case.challenger)}
    champion, anchor = (
        compare(said, expected[id(router)], expected[id(case.challenger)]) for router in (case.champion, case.anchor)
    )
    newest = compare(new, predicted(case, case.champion, new), predicted(case, case.challenger, new))
    ruling = Ruling(champion, anchor, newest, rules.effect, level)
    return Trial(*about, ruling, ruling.objection)


def priced(trial: Trial, case: Case, records: Sequence[Record], fitted: Sequence[Calibration], share: float) -> Trial:
    """And by cost. records: decisions that were not learned from; fitted: the challenger's calibration and the
    champion's."""
    log = logged.of(records, case.models).usable()
    challenger, champion = (
        Side(rescoring.win_rates(log, router, case.names(router), case.encoder_id), calibration)
        for router, calibration in zip((case.challenger, case.champion), fitted, strict=True)
    )
    found = premium(log, champion, challenger, share)
    return replace(trial, premium=found, objection=found.objection, calibration=fitted[0])


def on_ladder(evidence: Evidence, models: Sequence[str]) -> Evidence:
    """Ratings of the ladder's models, and comparisons between them."""
    battles = evidence.battles
    return evidence.take(np.isin(battles.model_a, models) & np.isin(battles.model_b, [*models, BAR]))


def compare(evidence: Evidence, other: Floats, challenger: Floats) -> Comparison:
    """Of what two versions expected (n,); each counts as it would in a fit."""
    weight = evidence.battles.weight * np.minimum(1 / evidence.propensity, CLIP)
    return gate.compare(evidence.battles.outcome, other, challenger, weight, evidence.session.tolist())


def predicted(case: Case, router: Router, evidence: Evidence) -> Floats:
    """(n,): P(the first wins). Of two models by their odds against the bar, whose ratio it is by Bradley and Terry."""
    battles = evidence.battles
    if not len(battles):
        return np.zeros(0)
    quality = router.score(evidence.prompts, case.names(router)).quality
    assert quality is not None  # of routers that learn against the bar
    place = {model: column for column, model in enumerate(case.models)}
    a, b = (
        np.array([place.get(name, -1) for name in side.tolist()], int) for side in (battles.model_a, battles.model_b)
    )
    first, second = quality[battles.prompt, a], quality[battles.prompt, b]
    against = np.where(b < 0, 0.0, _logit(second))
    return np.where(b < 0, first, 1 / (1 + np.exp(against - _logit(first))))


def _logit(quality: Floats) -> Floats:
    sure = np.clip(quality, _SURE, 1 - _SURE)
    odds: Floats = np.log(sure / (1 - sure))
    return odds
