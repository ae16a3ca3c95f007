"""The gate's family-wise error on real correctness: how often anything worse is ever published.

    python -m tests.benchmarks.family DATA/llmrouter.parquet --prior PRIOR --ladder STRONG=LIKE,WEAK=LIKE --cache DIR \\
        [--streams 2000]

Streams of thirty nights on prompts drawn from the file, with the noise and the exploration of
tests/benchmarks/nights.py. Every night's challenger comes from a bank of versions, better and worse ones, or is the
champion made worse by just more than the effect; the gate compares it on a golden set that grows, and is used again
every night, and what it publishes is the next champion. A stream went wrong if anything was ever published that is
truly worse than the champion or the anchor by more than the effect. Nothing is fitted in a stream, so there are many.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from feedback import gate, rates
from feedback.gate import Rules, Ruling
from feedback.ope import share
from feedback.records import Run
from feedback.refit import refit_mf
from scorer.routers.base import known_as
from scorer.routers.factorization import Factorization
from tests.benchmarks import given
from tests.benchmarks.nights import lead, likely, qualities, truth, weights
from tests.benchmarks.streams import RATINGS, Floats, Matrix, Stream

NIGHTS = 30
DAILY = 40  # golden ratings a night
RULES = Rules()
console = Console(highlight=False, width=140)


def main() -> None:
    parser = given.parser(__doc__)
    parser.add_argument("--streams", type=int, default=2000)
    chosen = parser.parse_args()
    family(*given.read(chosen), chosen.streams)


def bank(data: Matrix, prior: Factorization, like: dict[str, str]) -> dict[str, Floats]:
    """Versions to put on trial, as the qualities (n, m) that they give: refits of honest thumbs, of noise, of inverted
    ones, and the prior with its prompts mixed up."""
    found = {"prior": qualities(data, prior, like)}
    for count in (300, 1000, 3000):
        for kind in ("honest", "noise", "inverted"):
            stream = Stream(data, RATINGS["100 %"], count)
            if kind != "honest":
                coins = np.random.default_rng(count).integers(0, 2, stream.thumbs.shape).astype(float)
                stream.thumbs = coins if kind == "noise" else 1 - stream.thumbs
            requests = np.arange(count)
            models, propensity = stream.route(requests, prior, known_as(prior, data.ladder, like))
            evidence = stream.evidence(requests, models, propensity)
            fitted = refit_mf(prior, evidence, ladder=data.ladder, like=like)
            found[f"{kind} {count}"] = qualities(data, fitted, like)
    mixed = np.random.default_rng(0).permutation(len(data.prompts))
    return found | {"mixed up": found["honest 3000"][mixed]}


def family(data: Matrix, prior: Factorization, like: dict[str, str], streams: int) -> None:
    """Prints how often a stream ever published what is worse."""
    versions, expected = bank(data, prior, like), truth(data)
    probability = likely(versions["prior"])
    for name, quality in versions.items():
        console.print(
            f"{name:14} {lead(expected, versions['prior'], quality, probability):+.4f} of the prior's squared error"
        )
    table = Table(title="ever published what is worse by more than the effect", title_justify="left", box=None)
    for column in ("challengers", "streams", "did", "95 % interval", "stated", "published a night"):
        table.add_column(column, justify="left" if column == "challengers" else "right")
    for title, challengers in CHALLENGERS.items():
        wrong, published = [], 0
        for seed in track(range(streams), title, console=Console(stderr=True), transient=True):
            bad, count = one_stream(np.random.default_rng(seed), versions, expected, probability, challengers)
            wrong.append(float(bad))
            published += count
        found = share(np.array(wrong), np.arange(streams))
        interval = f"({found.low:.2%}, {found.high:.2%})"
        each = published / (streams * NIGHTS)
        table.add_row(title, str(streams), f"{found.value:.2%}", interval, f"{RULES.error_rate:.0%}", f"{each:.2f}")
    console.print(table)


Challenge = Callable[[np.random.Generator, dict[str, Floats], Floats, Floats, Floats], Floats]


def just_worse(
    draws: np.random.Generator, versions: dict[str, Floats], expected: Floats, probability: Floats, champion: Floats
) -> Floats:
    """The champion, its qualities moved at random so that it is worse by a hair more than the effect."""
    noise, weight = draws.choice([-1.0, 1.0], champion.shape), weights(probability)
    slope, size = 2 * float((weight * noise * (champion - expected)).sum() / weight.sum()), RULES.effect * 1.001
    points = (-slope + (slope**2 + 4 * size) ** 0.5) / 2
    moved: Floats = champion + points * noise
    return moved


def any_bad(
    draws: np.random.Generator, versions: dict[str, Floats], expected: Floats, probability: Floats, champion: Floats
) -> Floats:
    bad = [name for name in versions if not name.startswith(("honest", "prior"))]
    return versions[str(draws.choice(bad))]


def any_at_all(
    draws: np.random.Generator, versions: dict[str, Floats], expected: Floats, probability: Floats, champion: Floats
) -> Floats:
    return versions[str(draws.choice(list(versions)))]


def half_good(
    draws: np.random.Generator, versions: dict[str, Floats], expected: Floats, probability: Floats, champion: Floats
) -> Floats:
    """Good ones pass their levels on to bad ones."""
    if draws.random() < 0.5:
        return versions["honest 3000"]
    return just_worse(draws, versions, expected, probability, champion)


CHALLENGERS: dict[str, Challenge] = {
    "worse by just the effect": just_worse,
    "worse by just the effect, and good ones": half_good,
    "fitted to noise or inverted, mixed up": any_bad,
    "any of the bank": any_at_all,
}


def one_stream(
    draws: np.random.Generator, versions: dict[str, Floats], expected: Floats, probability: Floats, challenge: Challenge
) -> tuple[bool, int]:
    """Whether a version was published that is worse than the champion or the anchor by more than the effect, and how
    many were published. A golden set that grows by DAILY a night, of prompts drawn with replacement."""
    rows = draws.integers(0, len(expected), DAILY * NIGHTS)
    models = (draws.random(len(rows)) < probability[rows, 1]).astype(int)
    thumbs = (draws.random(len(rows)) < expected[rows, models]).astype(float)
    weight = (weights(probability) / probability)[rows, models]
    champion = anchor = versions["prior"]
    sessions, runs = np.arange(len(rows)), list[Run]()
    bad, published = False, 0
    for night in range(1, NIGHTS + 1):
        seen = slice(0, DAILY * night)
        challenger = challenge(draws, versions, expected, probability, champion)
        rate = rates.following(runs, RULES.error_rate)
        said = [quality[rows[seen], models[seen]] for quality in (champion, anchor, challenger)]
        compared = [gate.compare(thumbs[seen], other, said[2], weight[seen], sessions[seen]) for other in said[:2]]
        ruling = Ruling(compared[0], compared[1], NOTHING, RULES.effect, rate.level)
        runs.append(recorded(night, rate.level * ruling.publishes))
        if ruling.publishes:
            against = [lead(expected, other, challenger, probability) for other in (champion, anchor)]
            bad |= max(against) > RULES.effect
            champion, published = challenger, published + 1
    return bad, published


NOTHING = gate.compare(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0), [])


def recorded(night: int, passed_on: float) -> Run:
    times = dict.fromkeys(("scheduled_for", "started_at", "heartbeat_at", "finished_at"), float(night))
    record = {"rate": {"passed_on": passed_on}}
    return Run(run_id=str(night), job="", holder="", attempt=1, status="", verdict="", record=record, **times)


if __name__ == "__main__":
    main()
