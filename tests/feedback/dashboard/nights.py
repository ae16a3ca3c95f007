"""Some nights of made-up traffic, put into the store as a proxy and a daemon would have.

Prompts are those of the shipped calibration sample, scored by the shipped router and by versions near it; users like
the strongest model's answers best, and the more so the higher the win rate. Everything is drawn with a seed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import msgspec
import numpy as np

from feedback import calibrations, drift, retrain, rollback
from feedback.drift import Check, Drift
from feedback.records import Holdback, Outcome, Rating, Run
from feedback.store import Store
from gateway_plugin import ids, names
from scorer import calibration, hosting, policy
from scorer.config import Config
from scorer.decisions import Decision
from scorer.routers.base import Prompts
from scorer.routers.factorization import Factorization
from scorer.scoring import Hosted
from scorer.sections import EncoderConfig, Rung
from tests.feedback.examples import id_aged

DAY = 24 * 3600.0
LADDER = (Rung("gpt-4o", like="gpt-4-1106-preview"), Rung("gpt-4o-mini", like="mixtral-8x7b-instruct-v0.1"))
PRICES = {"gpt-4o": (2.5e-6, 1e-5), "gpt-4o-mini": (1.5e-7, 6e-7)}  # dollars a token, in and out
SETTINGS = Config(ladder=LADDER, encoder=EncoderConfig("static"), exploration=0.1)


@dataclass
class Story:
    """What is told, and by which version; nights are counted from the oldest."""

    store: Store
    config: Config
    hosted: Hosted
    generator: np.random.Generator
    requests: int
    rated: float


async def replay(
    store: Store, config: Config, nights: int = 10, requests: int = 1000, rated: float = 0.2, seed: int = 0
) -> None:
    """Requests of each day, then a run at night: two publish, one is rolled back, the others are refused."""
    hosted = hosting.load_scoring(config).hosted["mf"]
    story = Story(store, config, hosted, np.random.default_rng(seed), requests, rated)
    published = {nights // 3: 0.02, 2 * nights // 3: 0.05}
    for night in range(nights):
        ago = (nights - night) * DAY
        await _day(story, ago)
        if night in published:
            story.hosted = await _publish(story, published[night], ago - DAY)
        else:
            await _finished(story, retrain.JOB, ago - DAY, retrain.REFUSED, _refusal(story.hosted), {"seconds": 31.4})
    if nights > 1:
        await _roll_back(story)
    await _drift(story)


async def _day(story: Story, ago: float) -> None:
    """A day's requests: decided, answered, and some of them rated."""
    generator, n = story.generator, story.requests
    _, prompts = calibration.shipped_sample("static", None)
    rows = generator.integers(0, len(prompts), n)
    drawn = Prompts([prompts.texts[row] for row in rows], prompts.embeddings[rows], prompts.features[rows])
    scored = story.hosted.router.score(drawn, story.hosted.ladder)
    tokens = generator.lognormal(5.3, 0.9, n).astype(int) + 12
    made, seen, said = [], [], []
    for row, at in enumerate(np.sort(generator.uniform(ago - DAY, ago, n))[::-1]):
        rates = dict(zip(story.config.models, scored.win_rates[row].tolist(), strict=True))
        decision = _decision(story, float(at), rates, drawn.embeddings[row], drawn.features[row])
        made.append(decision)
        seen.append(_outcome(story, decision, int(tokens[row])))
        if generator.random() < story.rated:
            said.append(_rating(story, decision))
    await story.store.add_decisions(made)
    await story.store.record_outcomes(seen)
    await story.store.take(said, [])


def _decision(story: Story, ago: float, rates: dict[str, float], embedding: object, features: object) -> Decision:
    config, hosted, generator = story.config, story.hosted, story.generator
    share = names.parse(config.default).share
    assert hosted.calibration is not None
    assert share is not None
    threshold = hosted.calibration.threshold(share)
    greedy = policy.greedy(rates, list(rates), threshold)
    probabilities = policy.probabilities(greedy, list(rates), config.exploration)
    model = str(generator.choice(list(probabilities), p=list(probabilities.values())))
    decision_id = id_aged(ago)
    return Decision(
        decision_id=decision_id,
        created_at=ids.minted_at(decision_id),
        requested="router",
        router="mf",
        version=hosted.router.version,
        mode="route",
        threshold=threshold,
        win_rates=rates,
        quality=None,
        probabilities=probabilities,
        model=model,
        propensity=probabilities[model],
        explored=model != greedy,
        reason=_reason(rates, threshold, model, greedy),
        unit=decision_id,
        user=f"user-{generator.integers(1, 200)}",
        text_hash=f"{generator.integers(0, 2**63):064x}",
        encoder_id="f" * 64,
        embedding=np.asarray(embedding, "<f4")[:32].tobytes(),
        features=np.asarray(features, "<f4").tobytes(),
        policy="threshold",
    )


def _reason(rates: dict[str, float], threshold: float, model: str, greedy: str) -> str:
    if model != greedy:
        return f"explored: {greedy} is what the threshold says"
    lowest = min(list(rates.values())[1:])
    return f"win rate {lowest:.3f} {'is below' if lowest < threshold else 'reaches'} {threshold:.3f}"


def _outcome(story: Story, decision: Decision, tokens: int) -> Outcome:
    generator = story.generator
    out = int(generator.lognormal(5.6, 0.6))
    price_in, price_out = PRICES[decision.model]
    if generator.random() < 0.004:
        return Outcome(decision_id=decision.decision_id, status="failure", chosen=decision.model, error="Timeout")
    return Outcome(
        decision_id=decision.decision_id,
        status="success",
        chosen=decision.model,
        served=decision.model,
        tokens_in=tokens,
        tokens_out=out,
        cost=tokens * price_in + out * price_out,
        latency_ms=float(400 + 9 * out * generator.uniform(0.8, 1.2)),
        ttft_ms=float(generator.uniform(180, 420)),
        finish_reason="stop",
        user=decision.user,
    )


def _rating(story: Story, decision: Decision) -> Rating:
    lowest = min(list(decision.win_rates.values())[1:])
    good = 0.9 if decision.model == story.config.models[0] else 0.93 - 2.4 * max(lowest - 0.44, 0.0)
    value = float(story.generator.random() < good)
    return Rating(decision_id=decision.decision_id, value=value, user=decision.user or "")


async def _publish(story: Story, change: float, ago: float) -> Hosted:
    """A version near the one that serves, saved, activated and recorded."""
    mf, ladder = story.hosted.router, story.hosted.ladder
    assert isinstance(mf, Factorization)
    factors = {**mf._factors, "w": mf._factors["w"] * (1 + change)}
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(time.time() - ago))
    about = {**mf._about, "version": f"{stamp}-{story.generator.integers(2**32):08x}", "parent": mf.version}
    fitted = Factorization(mf.players, factors, about)
    directory = hosting.open_shelf(story.config).place("mf", fitted.version)
    fitted.save(directory)
    sample = calibration.shipped_sample("static", mf.encoder_id)
    calibrated = calibration.calibrate(fitted, ladder, calibrations.TRAFFIC, sample[1])
    stored = calibrations.stored(fitted, ladder, calibrated)
    await story.store.activate("mf", fitted.version, str(directory), [stored], retrain.JOB, None, Holdback(0.05, 14.0))
    verdict = f"mf {fitted.version} published, squared error lower by 0.0{41 + round(100 * change)}"
    record = {"seconds": 34.0 + 100 * change, "data": {"learned_from": 1400, "golden": 180, "held_out": 340}}
    await _finished(story, retrain.JOB, ago, retrain.PUBLISHED, verdict, record)
    return Hosted(fitted, ladder, calibrated)


def _refusal(hosted: Hosted) -> str:
    return f"mf refused, not credibly as good as {hosted.router.version}"


async def _roll_back(story: Story) -> None:
    active, before = await story.store.activations("mf", 2)
    verdict = f"mf {active.version} to {before.version}: rated 0.801 by 640 sessions, the version before 0.884 by 41"
    run = _run(rollback.JOB, rollback.ROLLED_BACK, verdict)
    await story.store.undo(active, before.version, before.directory, f"rollback: {verdict}", run)


def _run(job: str, status: str, verdict: str) -> Run:
    now = time.time()
    times = {"scheduled_for": now, "started_at": now, "heartbeat_at": now, "finished_at": now}
    return Run(run_id=ids.mint(), job=job, holder="-", attempt=1, status=status, verdict=verdict, record=None, **times)


async def _finished(
    story: Story, job: str, ago: float, status: str, verdict: str, record: dict[str, object] | None
) -> None:
    at = (time.time() - ago) // DAY * DAY + 3 * 3600
    claimed = await story.store.claim_run(job, at, "-", 600)
    if claimed:
        await story.store.finish_run(claimed.run_id, status, verdict, record)


async def _drift(story: Story) -> None:
    checks = [
        Check(
            check="scores",
            router="mf",
            p=0.21,
            value=0.561,
            expected=0.558,
            says="half of the win rates of mf are below 0.561 where half were below 0.558",
        ),
        Check(
            check="strong_share",
            router="mf",
            p=0.34,
            value=0.409,
            expected=0.4,
            says="strong share of mf: 40.9% where 40.0% was asked for",
        ),
        Check(
            check="ratings",
            p=0.47,
            value=0.198,
            expected=0.201,
            says="19.8% of the decisions were rated by the end of the day where 20.1% is usual",
        ),
    ]
    end = time.time() // DAY * DAY
    found = Drift(after=end - DAY, before=end, level=0.0009, false_alarms=1.0, checks=checks, skipped={})
    await _finished(story, drift.JOB, 0, "steady", found.verdict, msgspec.to_builtins(found))
