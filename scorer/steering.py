"""What a policy needs beside scores: prices before the first request, and a budget's threshold, from the log."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from feedback.store import Store
from gateway_plugin import names
from scorer import budget, models
from scorer.budget import Sample, Steering
from scorer.config import Config, ConfigError
from scorer.scoring import Hosted, Job, Scored, Scoring

SECONDS = 10.0  # after which a budget is planned anew


def check(config: Config, scoring: Scoring) -> None:
    """Raises ConfigError where the policy rests on what is not known."""
    policy = config.policy
    if policy is None:
        return
    spends = policy.quality_per_dollar is not None or (policy.budget and policy.budget.daily_dollars is not None)
    for name, model in models.known(config.ladder).items():
        if spends and model.price is None:
            raise ConfigError(f"policy: no price of {name!r} is known; the ladder needs `price: [dollars in, out]`")
    router = _router(config)
    if policy.quality_target is not None:
        (scored,) = scoring.score([Job(router, "What is the capital of France?")])
        if isinstance(scored, Scored) and scored.quality is None:
            raise ConfigError(f"policy.quality_target: {router} gives win rates alone; choose another router or policy")


async def follow(config: Config, store: Store, scoring: Scoring, steering: Steering) -> None:
    """Plans the thresholds of the configured budget, if there is one: each version that serves some of the default's
    requests is to spend alike on one. Raises Unavailable."""
    if config.policy is None or config.policy.budget is None:
        return
    now = time.time()
    slots = await store.spend(config.models[0], now)
    for router in (hosted.router for hosted in _serving(config, scoring)):
        sample = _sample(config.models, await store.weighed(router.name, router.version))
        threshold = budget.plan(config.policy.budget, slots, sample, now, config.exploration)
        steering.steer(router.version, threshold)


def _serving(config: Config, scoring: Scoring) -> list[Hosted]:
    """The default router, what is held back beside it, and the canary."""
    hosted = [scoring.hosted[_router(config)]]
    if config.canary:
        hosted.append(scoring.hosted[config.canary.hosted_as])
    return [*hosted, *(one.earlier.hosted for one in hosted if one.earlier)]


def _router(config: Config) -> str:
    router = names.parse(config.default).router
    assert router is not None  # the configuration's default names one
    return router


def _sample(ladder: tuple[str, ...], decisions: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]) -> Sample:
    """Of the decisions on this ladder."""
    rows = [(rates, costs) for rates, costs in decisions if tuple(rates) == ladder]
    shape = (len(rows), len(ladder))
    return Sample(
        np.array([[rates[model] for model in ladder] for rates, _ in rows], float).reshape(shape),
        np.array([[costs[model] for model in ladder] for _, costs in rows], float).reshape(shape),
    )
