"""Days of bursty traffic under a budget, step by step as the daemon plans: outcomes come late, answers are any length.

Arrivals are Poisson; their rate follows the hour (not if `flat`) and is several times as high in bursts, which begin at
random. A decision costs what its price and an answer of log-normal length come to; until its outcome comes, the
ledger has what was expected.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scorer import budget
from scorer.budget import DAY_SECONDS, SLOT_SECONDS, Sample, Slot
from scorer.models import Price
from scorer.sections import Budget

Floats = NDArray[np.float64]

_SAMPLE = 500  # decisions that the daemon plans by


@dataclass(frozen=True)
class Traffic:
    """Prompts to draw from: win rates (n, m), strongest first, and tokens (n,); calls a day, and how they come."""

    win_rates: Floats
    tokens: Floats
    calls: float = 20_000
    flat: bool = False  # at any hour alike
    bursts: float = 6.0  # a day
    burst_minutes: float = 20.0  # that one lasts, on average
    burst_factor: float = 8.0
    late: bool = False  # half the calls come in the last two hours of the day
    delay: float = 60.0  # seconds from a decision to its outcome


@dataclass(frozen=True)
class Answers:
    """How long answers really are: log-normal, `longer` times as long from the strongest model."""

    median: float = 250.0
    sigma: float = 0.9
    longer: float = 1.2


@dataclass(frozen=True)
class Day:
    """What came of one. demand: dollars, had every call gone to the strongest model; floor: to the cheapest."""

    calls: int
    spent: float
    strong: int
    demand: float
    floor: float


def simulate(
    aim: Budget,
    traffic: Traffic,
    prices: Sequence[Price],
    *,
    days: int,
    seed: int = 0,
    answers: Answers = Answers(),
    expected_tokens: float = 300.0,
    exploration: float = 0.05,
    threshold: float = 0.5,
    step: float = 10.0,
) -> list[Day]:
    """Plans anew every `step` seconds; `threshold` holds until there is a plan."""
    generator = np.random.default_rng(seed)
    ledger: dict[int, list[float]] = defaultdict(lambda: [0.0] * 4)
    recent = Sample(np.zeros((0, len(prices))), np.zeros((0, len(prices))))
    waiting: list[tuple[float, int, float]] = []  # when an outcome comes, its slot, what it adds
    found = []
    for day in range(days):
        calls, spent, strong, demand, floor = 0, 0.0, 0, 0.0, 0.0
        for offset, count in enumerate(_arrivals(traffic, step, generator)):
            now = day * DAY_SECONDS + offset * step
            while waiting and waiting[0][0] <= now:
                _, start, more = waiting.pop(0)
                ledger[start][2] += more
            slots = [Slot(start, int(row[0]), int(row[1]), row[2], row[3]) for start, row in ledger.items()]
            threshold = _planned(aim, slots, recent, now, exploration, threshold)
            if not count:
                continue
            rows = generator.integers(len(traffic.tokens), size=count)
            rates, tokens = traffic.win_rates[rows], traffic.tokens[rows]
            lengths = np.exp(np.log(answers.median) + answers.sigma * generator.standard_normal((count, len(prices))))
            lengths[:, 0] *= answers.longer
            expected = np.stack([_dollars(price, tokens, expected_tokens) for price in prices], axis=1)
            paid = np.stack([_dollars(price, tokens, lengths[:, place]) for place, price in enumerate(prices)], axis=1)
            chosen = _chosen(rates, threshold, 0.0 if threshold >= 1 else exploration, generator)
            start = int(now // SLOT_SECONDS) * SLOT_SECONDS
            bill, guess = (float(table[np.arange(count), chosen].sum()) for table in (paid, expected))
            for column, amount in enumerate((count, (chosen == 0).sum(), guess, guess)):
                ledger[start][column] += float(amount)
            waiting.append((now + traffic.delay, start, bill - guess))
            grown = zip(recent, (rates, expected), strict=True)
            recent = Sample(*(np.concatenate([old, new])[-_SAMPLE:] for old, new in grown))
            calls, spent, strong = calls + count, spent + bill, strong + int((chosen == 0).sum())
            demand, floor = demand + float(paid[:, 0].sum()), floor + float(paid[:, -1].sum())
        found.append(Day(calls, spent, strong, demand, floor))
        ledger = defaultdict(lambda: [0.0] * 4, {s: r for s, r in ledger.items() if s > now - 7 * DAY_SECONDS})
    return found


def _planned(
    aim: Budget, slots: Sequence[Slot], sample: Sample, now: float, exploration: float, before: float
) -> float:
    planned = budget.plan(aim, slots, sample, now, exploration)
    return before if planned is None else planned


def _arrivals(traffic: Traffic, step: float, generator: np.random.Generator) -> NDArray[np.int64]:
    """Calls in each step of a day."""
    steps = int(DAY_SECONDS / step)
    hours = np.arange(steps) * step / 3600
    rate = np.ones(steps) if traffic.flat else 1 + 0.9 * np.sin((hours - 8) / 24 * 2 * np.pi)
    if traffic.late:
        rate[hours >= 22] = rate[hours < 22].sum() / (hours >= 22).sum()
    bursting = np.zeros(steps, bool)
    for _ in range(generator.poisson(traffic.bursts)):
        begin, length = generator.uniform(0, 24), generator.exponential(traffic.burst_minutes / 60)
        bursting |= (hours >= begin) & (hours < begin + length)
    rate[bursting] *= traffic.burst_factor
    return generator.poisson(traffic.calls * step / DAY_SECONDS * rate)


def _chosen(rates: Floats, threshold: float, exploration: float, generator: np.random.Generator) -> NDArray[np.intp]:
    """Places on the ladder that the threshold rule and exploration lead to."""
    below = rates < threshold
    below[:, 0] = True
    choice = below.shape[1] - 1 - below[:, ::-1].argmax(axis=1)
    explored = generator.uniform(size=len(rates)) < exploration
    return np.where(explored, generator.integers(rates.shape[1], size=len(rates)), choice)


def _dollars(price: Price, tokens_in: Floats, tokens_out: Floats | float) -> Floats:
    return np.asarray((tokens_in * price.tokens_in + tokens_out * price.tokens_out) / 1e6)
