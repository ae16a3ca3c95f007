"""How often a version is rolled back, by how much worse it is and how many sessions rated: simulated.

    python -m tests.benchmarks.holdback [--runs 1000]

Thumbs-up rate of the version before: 80 %; of the new one: less by the drop. Looked at after every block. The figures
of docs/rollback.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from feedback import holdback

Rate = Callable[[NDArray[np.float64]], NDArray[np.float64]]

ERROR_RATE, BEFORE = 0.05, 0.8
RATED = (500, 1000, 2000, 5000, 10_000, 20_000)
DROPS = (0.0, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3)
DRIFTS: dict[str, Rate] = {
    "none": lambda when: np.full_like(when, BEFORE),
    "10 % to 90 %": lambda when: 0.1 + 0.8 * when,
    "90 % to 10 %": lambda when: 0.9 - 0.8 * when,
    "10 % and 90 % in turns": lambda when: np.where(when * 20 % 2 < 1, 0.1, 0.9),
    "10 % to 90 % in the first tenth": lambda when: np.minimum(0.1 + 8 * when, 0.9),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--share", type=float, default=0.05)
    asked = parser.parse_args()
    generator = np.random.default_rng(0)
    print(f"rolled back, % of {asked.runs} runs; holdback {asked.share:g}, error rate {ERROR_RATE:g}")
    print(f"{'rated sessions':>16}  detectable  " + "".join(f"{f'drop {drop:g}':>11}" for drop in DROPS))
    for count in RATED:
        found = [rolled_back(generator, asked, count, DRIFTS["none"], drop) for drop in DROPS]
        shares = "".join(f"{100 * share:11.1f}" for share in found)
        print(f"{count:16,}  {detectable(generator, asked.share, count):10.3f}  {shares}")
    print(f"\n{'both drift':>32}  rolled back, %, of {RATED[3]:,} rated sessions")
    for name, rate in DRIFTS.items():
        print(f"{name:>32}  {100 * rolled_back(generator, asked, RATED[3], rate, 0.0):.1f}")


def rolled_back(
    generator: np.random.Generator, asked: argparse.Namespace, count: int, rate: Rate, drop: float
) -> float:
    """The share of runs."""
    raised = [alarm(generator, asked.share, count, rate, drop) for _ in range(asked.runs)]
    return sum(raised) / len(raised)


def alarm(generator: np.random.Generator, share: float, count: int, rate: Rate, drop: float) -> bool:
    values, held = ratings(generator, share, count, rate, drop)
    return bool((holdback.log_wealth(holdback.blocks(values, held, share)) >= -math.log(ERROR_RATE)).any())


def detectable(generator: np.random.Generator, share: float, count: int) -> float:
    """As it is printed where both are alike, the mean of twenty; NaN where there is none."""
    found = [
        holdback.judge(*ratings(generator, share, count, DRIFTS["none"], 0.0), share, ERROR_RATE).detectable
        for _ in range(20)
    ]
    return float(np.mean([math.nan if one is None else one for one in found]))


def ratings(
    generator: np.random.Generator, share: float, count: int, rate: Rate, drop: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    held = generator.random(count) < share
    pleased = generator.random(count) < rate(np.linspace(0, 1, count)) - np.where(held, 0, drop)
    return pleased.astype(float), held


if __name__ == "__main__":
    main()
