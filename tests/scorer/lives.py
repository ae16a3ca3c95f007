"""A life before a night: decisions and what was said of them, and the night itself."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import click.testing
import msgspec
import numpy as np
import yaml

from feedback import retrain
from feedback.records import Outcome, Rating
from feedback.store import Store
from feedback.trials import Trial
from gateway_plugin import ids
from scorer import catalogue, cli, hosting
from scorer.commands.shared import in_store
from scorer.config import Config
from scorer.decisions import Decision
from scorer.routers.base import Encodes
from scorer.sections import EncoderConfig, Retrain, Rollback, RouterConfig
from tests.scorer.conftest import TWO

MODELS = ("strong", "weak")
GOLDEN = 0.4  # a golden set from few ratings
WORDS = ("apple", "river", "proof", "integral", "poem", "stone", "lemma", "cloud", "kernel", "window")
T = TypeVar("T")


@cache
def static() -> Encodes:
    return catalogue.load_encoder("static")


def configuration(folder: Path, **changes: Any) -> Config:
    config = Config(
        ladder=TWO,
        data_dir=folder,
        encoder=EncoderConfig("static"),
        routers={"mf": RouterConfig(), "sw": RouterConfig()},
        default="router-mf-p50",
        retrain=Retrain(golden=GOLDEN),
        rollback=Rollback(holdback=0.0),
    )
    return msgspec.structs.replace(config, **changes)


def lived(config: Config, count: int, good: Callable[[str, str], float], seed: int = 0, strangers: int = 0) -> None:
    """Logs `count` decisions, drawn half and half, each served and rated: good(text, model) is P(thumbs-up).
    The first `strangers` were served by a model that is not on the ladder."""
    generator = np.random.default_rng(seed)
    texts = [" ".join(generator.choice(WORDS, 6)) for _ in range(count)]
    encoder = static()
    prompts = encoder.encode(texts)
    models = generator.choice(MODELS, count)
    start = time.time() - 3600
    decisions, outcomes, ratings = [], [], []
    for i, (text, model) in enumerate(zip(texts, models.tolist(), strict=True)):
        made = start + i
        stamp = f"{int(made * 1000):012x}"
        decision_id = f"{stamp[:8]}-{stamp[8:]}-{ids.mint()[14:]}"
        vectors = (row.astype("<f4").tobytes() for row in (prompts.embeddings[i], prompts.features[i]))
        embedding, features = vectors
        decisions.append(
            Decision(
                decision_id=decision_id,
                created_at=made,
                requested="router",
                router="mf",
                version="any",
                mode="route",
                threshold=0.5,
                win_rates=dict.fromkeys(MODELS, 0.5),
                quality=None,
                probabilities=dict.fromkeys(MODELS, 0.5),
                model=model,
                propensity=0.5,
                explored=False,
                reason="",
                unit=f"session {seed} {i}",  # golden or not, every time alike
                text_hash=hashlib.sha256(text.encode()).hexdigest(),
                encoder_id=encoder.id,
                embedding=embedding,
                features=features,
            )
        )
        served = "stranger" if i < strangers else model
        outcomes.append(Outcome(decision_id=decision_id, status="success", chosen=model, served=served))
        up = float(generator.random() < good(text, model))
        ratings.append(Rating(decision_id=decision_id, value=up, created_at=made + 1))

    async def write(store: Store) -> None:
        await store.add_decisions(decisions)
        await store.record_outcomes(outcomes)
        await store.take(ratings, [])

    in_store(config, write)


def weak_fails_at_proofs(text: str, model: str) -> float:
    return 0.1 if model == "weak" and "proof" in text else 0.9


def retrained(config: Config, scheduled_for: float = 1000.0) -> list[Trial] | None:
    async def work(store: Store) -> list[Trial] | None:
        encoder = hosting.load_encoder(config)
        plan = hosting.plan(config, encoder)
        return await retrain.run(store, plan, await hosting.subjects(config, encoder, store), scheduled_for, "test")

    return in_store(config, work)


def routerd(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli.cli, arguments, catch_exceptions=False)


def written(config: Config) -> str:
    """The configuration as a file's path."""
    content = {
        "ladder": [{"model": rung.model, "like": rung.like} for rung in config.ladder],
        "data_dir": str(config.data_dir),
        "encoder": "static",
        "routers": {name: {} for name in config.routers},
        "default": config.default,
        "retrain": {"golden": GOLDEN},
        "rollback": {"holdback": 0},
    }
    path = config.data_dir / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)
