"""Does router-mf-p30 send 30 %? Calibrated on one part of real prompts, realised on another, two hundred times.

    python -m tests.benchmarks.calibration PROMPTS [--calibrate 2000] [--realise 2000] [--splits 200]

PROMPTS is a table with a column `prompt`. Prints, for common shares, the mean realised share and how often the 95 %
prediction interval held it; and the same for a threshold from the shipped sample, whose prompts are of another kind.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from scorer import calibration, catalogue, tables, training
from scorer.calibration import Calibration
from scorer.sections import ENCODERS

LADDER = ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")
SHARES = (0.1, 0.3, 0.5)

console = Console(highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--router", default="mf")
    parser.add_argument("--encoder", choices=ENCODERS, default="minilm")
    parser.add_argument("--calibrate", type=int, default=2000, help="prompts a threshold is taken from")
    parser.add_argument("--realise", type=int, default=2000, help="prompts it is tried on")
    parser.add_argument("--splits", type=int, default=200)
    chosen = parser.parse_args()
    encoder = catalogue.load_encoder(chosen.encoder)
    router = catalogue.load(chosen.router, "pretrained", encoder)
    texts = tables.read_table(chosen.prompts).texts("prompt")
    with Progress(transient=True) as bar:
        task = bar.add_task("encoding", total=len(texts))
        prompts = training.encode(encoder, texts, lambda done, _: bar.update(task, completed=done))
    lowest = calibration.calibrate(router, LADDER, chosen.prompts.name, prompts).lowest
    shipped = calibration.calibrate(router, LADDER, *calibration.shipped_sample(encoder.name, encoder.id))
    table = Table(
        "share asked", "mean realised", "sd, points", "interval held it", "shipped sample's threshold", box=None
    )
    for share in SHARES:
        realised, held = splits(lowest, share, chosen.calibrate, chosen.realise, chosen.splits)
        elsewhere = (lowest >= shipped.threshold(share)).mean()
        table.add_row(
            f"{share:.0%}",
            f"{np.mean(realised):.1%}",
            f"{100 * np.std(realised):.1f}",
            f"{np.mean(held):.1%} of {chosen.splits}",
            f"{elsewhere:.1%}",
        )
    console.print(f"{chosen.router} {router.version}, {len(texts)} prompts of {chosen.prompts.name}")
    console.print(table)


def splits(
    lowest: NDArray[np.float64], share: float, calibrate: int, realise: int, count: int
) -> tuple[list[float], list[bool]]:
    """Of each random split: the realised share, and whether the interval held it."""
    generator = np.random.default_rng(0)
    realised, held = [], []
    for _ in range(count):
        shuffled = generator.permutation(lowest)
        fitted = Calibration("split", shuffled[:calibrate])
        threshold = fitted.threshold(share)
        low, high = fitted.prediction_interval(threshold, realise)
        realised.append(float((shuffled[calibrate : calibrate + realise] >= threshold).mean()))
        held.append(low <= realised[-1] <= high)
    return realised, held


if __name__ == "__main__":
    main()
