"""The gate on real correctness: ten nights of routing, thumbs and runs, honest ones and ones gone wrong.

    python -m tests.benchmarks.nights DATA/llmrouter.parquet --prior PRIOR --ladder STRONG=LIKE,WEAK=LIKE --cache DIR \\
        [--stories honest,...] [--seeds 3]

The streams of tests/benchmarks/replay.py, two models, 10 % of thumbs the wrong way round. Every night is a real run of
MF on a database of its own (feedback/retrain.py), and whatever is active routes the next day. Printed by night: what
became of the challenger; its true lead over the champion in squared error, on all prompts and both models, weighted as
the gate does; and the held-out APGR of what serves.

honest         all rate
few rate       a tenth do
poisoned night on night 5 all thumbs are inverted
poisoned user  1 % of the users give half of the ratings, inverted
broken judge   a third rate; a judge says who is better, honestly until night 4 and then that the weak model always is
random judge   the same, but then it tosses a coin
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from feedback import agreement, retrain
from feedback.battles import Weights
from feedback.gate import Rules
from feedback.migrations import migrate
from feedback.records import Comparison, Outcome, Rating, Run
from feedback.refit import CLIP
from feedback.retrain import Plan, Subject
from feedback.store import Store
from feedback.trials import Trial
from scorer.decisions import Decision
from scorer.routers.base import Prompts, known_as
from scorer.routers.factorization import Factorization
from scorer.shelf import opened
from tests.benchmarks import given
from tests.benchmarks.streams import EXPLORATION, NOISE, RATINGS, Floats, Ints, Matrix, Stream

USERS, LOUD = 200, 2  # of whom the loud ones give half of the ratings in one story
BROKEN, POISONED = 5, 5  # nights
JUDGED = 0.3  # of the requests
RULES = Rules()
console = Console(highlight=False, width=140)


def main() -> None:
    parser = given.parser(__doc__)
    parser.add_argument("--stories", default=",".join(STORIES))
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    data, prior, like = given.read(chosen)
    for name in filter(None, chosen.stories.split(",")):
        lived = [asyncio.run(live(STORIES[name], data, prior, like, seed)) for seed in range(chosen.seeds)]
        show(name, lived)


# What is said


@dataclass(frozen=True)
class Day:
    """What was said of a day's answers; n of them."""

    rated: np.ndarray  # (n,) whether
    thumbs: Floats  # (n,) in {0, 1}
    users: list[str]
    verdicts: list[str] | None = None  # who wins, or '' where it is not judged


Story = Callable[[int, Stream, Ints, Ints, np.random.Generator], Day]


def honest(night: int, stream: Stream, requests: Ints, models: Ints, draws: np.random.Generator) -> Day:
    users = [f"user {number}" for number in draws.integers(0, USERS, len(requests))]
    return Day(np.ones(len(requests), bool), stream.thumbs[requests, models], users)


def few(night: int, stream: Stream, requests: Ints, models: Ints, draws: np.random.Generator) -> Day:
    day = honest(night, stream, requests, models, draws)
    return replace(day, rated=draws.random(len(requests)) < 0.1)


def poisoned_night(night: int, stream: Stream, requests: Ints, models: Ints, draws: np.random.Generator) -> Day:
    day = honest(night, stream, requests, models, draws)
    return replace(day, thumbs=1 - day.thumbs) if night == POISONED else day


def poisoned_user(night: int, stream: Stream, requests: Ints, models: Ints, draws: np.random.Generator) -> Day:
    day = honest(night, stream, requests, models, draws)
    loud = draws.random(len(requests)) < 0.5
    users = [f"loud {i % LOUD}" if by else user for i, (by, user) in enumerate(zip(loud, day.users, strict=True))]
    return replace(day, thumbs=np.where(loud, 1 - day.thumbs, day.thumbs), users=users)


def broken_judge(night: int, stream: Stream, requests: Ints, models: Ints, draws: np.random.Generator) -> Day:
    return _judged(night, stream, requests, models, draws, lambda: "weak")


def random_judge(night: int, stream: Stream, requests: Ints, models: Ints, draws: np.random.Generator) -> Day:
    return _judged(night, stream, requests, models, draws, lambda: "strong" if draws.random() < 0.5 else "weak")


def _judged(
    night: int,
    stream: Stream,
    requests: Ints,
    models: Ints,
    draws: np.random.Generator,
    broken: Callable[[], str],
) -> Day:
    day = honest(night, stream, requests, models, draws)
    verdicts = []
    for strong, weak in stream.thumbs[requests].tolist():
        truth = "strong" if strong > weak else "weak" if weak > strong else "tie"
        verdicts.append(truth if night < BROKEN else broken())
    asked = draws.random(len(requests)) < JUDGED
    verdicts = [one if drawn else "" for one, drawn in zip(verdicts, asked, strict=True)]
    return replace(day, rated=draws.random(len(requests)) < 1 / 3, verdicts=verdicts)


STORIES: dict[str, Story] = {
    "honest": honest,
    "few rate": few,
    "poisoned night": poisoned_night,
    "poisoned user": poisoned_user,
    "broken judge": broken_judge,
    "random judge": random_judge,
}


# Ten nights


class Night(NamedTuple):
    """true: the challenger's squared error less the champion's, NaN without a challenger; apgr: of what then serves."""

    told: str
    true: float
    apgr: float


async def live(story: Story, data: Matrix, prior: Factorization, like: dict[str, str], seed: int) -> list[Night]:
    """One stream, through real runs."""
    stream, draws = Stream(data, RATINGS["100 %"], seed), np.random.default_rng(seed + 1000)
    with tempfile.TemporaryDirectory(prefix="routerd-nights-") as folder:
        url = f"sqlite:///{folder}/routerd.sqlite"
        migrate(url)
        store = Store(url)
        plan = planned(prior, like, Path(folder))
        made, started = [], time.time() - 11 * 86_400
        for night, requests in enumerate(stream.days, start=1):
            serving = await active(store, prior)
            models, propensity = stream.route(requests, serving, known_as(serving, plan.models, like))
            day = story(night, stream, requests, models, draws)
            await write(store, plan, stream, started + 86_400 * night, requests, models, propensity, day)
            weighed = replace(plan, weights=await agreement.weighed(store, plan.weights))
            trials = await retrain.run(store, weighed, [Subject(prior, serving)], float(night), "the benchmark")
            (run, *_) = await store.runs(retrain.JOB, 1)
            after = await active(store, prior)
            apgr = stream.apgr(after, known_as(after, plan.models, like))
            made.append(Night(brief(run, trials or []), await true_lead(plan, data, serving, trials, folder), apgr))
        await store.close()
    return made


def planned(prior: Factorization, like: dict[str, str], folder: Path) -> Plan:
    nothing = Prompts((), np.zeros((0, 384), np.float32), np.zeros((0, 30), np.float32))
    return Plan(
        models=tuple(like),
        like=like,
        encoder_id=prior.encoder_id,
        shelf=opened(None, folder),
        weights=Weights(most_per_user=5.0),
        sample=("none", nothing),
        mf=prior,
        rules=RULES,
        least_raters=5.0,
    )


async def active(store: Store, prior: Factorization) -> Factorization:
    found = await store.active("mf")
    return Factorization.load(Path(found.directory), None) if found else prior


async def write(
    store: Store, plan: Plan, stream: Stream, began: float, requests: Ints, models: Ints, propensity: Floats, day: Day
) -> None:
    """A day's decisions, a minute apart, with outcomes, ratings and verdicts."""
    prompts = stream.prompts(requests)
    decisions, outcomes, ratings, compared = [], [], [], []
    for i, chosen in enumerate(models.tolist()):
        made = began + 60 * i
        decision_id, model = minted(made, int(requests[i])), plan.models[chosen]
        drawn = float(propensity[i])
        probabilities = {name: drawn if name == model else 1 - drawn for name in plan.models}
        vectors = {"embedding": prompts.embeddings[i].tobytes(), "features": prompts.features[i].tobytes()}
        one = Decision(
            decision_id=decision_id,
            created_at=made,
            requested="router",
            router="mf",
            version="any",
            mode="route",
            threshold=0.5,
            win_rates=dict.fromkeys(plan.models, 0.5),
            quality=None,
            probabilities=probabilities,
            model=model,
            propensity=drawn,
            explored=False,
            reason="",
            unit=f"request {requests[i]}",  # golden or not, every time alike
            user=day.users[i],
            text_hash=hashlib.sha256(prompts.texts[i].encode()).hexdigest(),
            encoder_id=plan.encoder_id,
            **vectors,
        )
        decisions.append(one)
        outcomes.append(Outcome(decision_id=decision_id, status="success", chosen=model, served=model))
        if day.rated[i]:
            thumb = float(day.thumbs[i])
            ratings.append(Rating(decision_id=decision_id, value=thumb, user=day.users[i], created_at=made + 30))
        if day.verdicts and day.verdicts[i]:
            compared.append(verdict(plan, decision_id, day.verdicts[i], made))
    await store.add_decisions(decisions)
    await store.record_outcomes(outcomes)
    await store.take(ratings, compared)


def verdict(plan: Plan, decision_id: str, winner: str, made: float) -> Comparison:
    strong, weak = plan.models
    won: Literal["model_a", "model_b", "tie"] = (
        "tie" if winner == "tie" else "model_a" if winner == "strong" else "model_b"
    )
    return Comparison(
        model_a=strong, model_b=weak, winner=won, decision_id=decision_id, source="judge", created_at=made + 40
    )


def minted(made: float, number: int) -> str:
    """A UUIDv7 of that time."""
    stamp = f"{int(made * 1000):012x}"
    rest = hashlib.sha256(str(number).encode()).hexdigest()
    return f"{stamp[:8]}-{stamp[8:]}-7{rest[:3]}-8{rest[3:6]}-{rest[6:18]}"


def brief(run: Run, trials: list[Trial]) -> str:
    """Why, in a few words."""
    for trial in trials:
        if trial.published:
            assert trial.ruling is not None
            return "published, " + ("better" if trial.ruling.champion.high(trial.ruling.level) < 0 else "no worse")
        return trial.objection.partition(":")[0]
    return f"{run.status}: {(run.verdict or '').partition(':')[0]}"


async def true_lead(
    plan: Plan, data: Matrix, champion: Factorization, trials: list[Trial] | None, folder: str
) -> float:
    """Of a challenger that was published, by its artifact; NaN of another, of which none is kept."""
    published = [trial for trial in trials or [] if trial.published]
    if not published:
        return math.nan
    challenger = Factorization.load(Path(folder) / "artifacts" / "mf" / published[0].challenger, None)
    before, after = (qualities(data, router, plan.like) for router in (champion, challenger))
    return lead(truth(data), before, after, likely(before))


def show(name: str, lived: list[list[Night]]) -> None:
    table = Table(title=f"{name}, {len(lived)} seeds", title_justify="left", box=None, pad_edge=False)
    for column in (
        "night",
        "what became of the challengers",
        "true difference of those published",
        "APGR of what serves",
    ):
        table.add_column(column, justify="left" if column.startswith("what") else "right")
    for number, nights in enumerate(zip(*lived, strict=True), start=1):
        told: dict[str, int] = {}
        for one in nights:
            told[one.told] = told.get(one.told, 0) + 1
        leads = [f"{one.true:+.4f}" for one in nights if not math.isnan(one.true)]
        apgr = float(np.mean([one.apgr for one in nights]))
        words = "; ".join(f"{count} {why}" for why, count in sorted(told.items(), key=lambda item: -item[1]))
        table.add_row(str(number), words, " ".join(leads), f"{apgr:.3f}")
    console.print(table)
    worse = [one.true for nights in lived for one in nights if one.true > RULES.effect]
    console.print(f"published although worse by more than {RULES.effect:g}: {len(worse)}\n")


# What is true


def truth(data: Matrix) -> Floats:
    """(n, m): P(thumbs-up)."""
    return data.outcomes * (1 - 2 * NOISE) + NOISE


def qualities(data: Matrix, router: Factorization, like: dict[str, str] | object) -> Floats:
    assert isinstance(like, dict)
    quality = router.score(data.prompts, known_as(router, data.ladder, like)).quality
    assert quality is not None
    return quality


def likely(quality: Floats) -> Floats:
    """(n, m): the probabilities with which half of the requests go to the strongest, explored."""
    win = quality[:, 0] - quality[:, 1]
    strong = win >= np.quantile(win, 0.5)
    greedy = np.stack([strong, ~strong], axis=1)
    return EXPLORATION / 2 + (1 - EXPLORATION) * greedy.astype(np.float64)


def weights(probability: Floats) -> Floats:
    """(n, m): what each model's answers count in all, chosen with these probabilities."""
    counted: Floats = probability * np.minimum(1 / probability, CLIP)
    return counted


def lead(expected: Floats, before: Floats, after: Floats, probability: Floats) -> float:
    """The population's difference in squared error, models weighted as the gate does."""
    weight = weights(probability)
    return float((weight * ((expected - after) ** 2 - (expected - before) ** 2)).sum() / weight.sum())


if __name__ == "__main__":
    main()
