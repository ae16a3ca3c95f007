"""The judge: a known position bias against what it measures of itself, and how far people agree where it is to agree.

    python -m tests.benchmarks.judge [--prompts 2000] [--people DATA/human_acceptability.parquet]

First `routerd augment` against a stand-in that names the first answer in a share p of its verdicts, whatever it says,
on questions of which a share t has no better answer: both orders agree with probability (1 - t)(1 - p) + t (1 - p)^2,
and the ties are t + (1 - t) p. Then, with --people, what `feedback.agreement` finds between people, who gave thumbs
and a comparison on the same answers: what no judge is likely to exceed.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from feedback import agreement, verdicts
from feedback.agreement import Table
from feedback.augmentation import Augmenter, Result, Task
from feedback.chat import Chat
from feedback.journal import Journal
from scorer.evaluation.bootstrap import Interval
from scorer.tables import read_table
from tests.conftest import served
from tests.feedback.judging import CHEAP, JUDGE, STRONG, Endpoint

CASES = ((0.0, 0.0), (0.1, 0.0), (0.3, 0.0), (0.5, 0.0), (0.3, 0.4))
Places = NDArray[np.int64]
console = Console(highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--people", type=Path)
    given = parser.parse_args()
    for bias, tied in CASES:
        show_bias(bias, tied, given.prompts)
    if given.people:
        show_people(given.people)


def show_bias(bias: float, tied: float, count: int) -> None:
    began = time.perf_counter()
    result = augmented(Endpoint(bias, tied), count)
    ties = sum(outcome == 0.5 for *_, outcome in result.rows)
    consistent = (1 - tied) * (1 - bias) + tied * (1 - bias) ** 2
    console.print(
        f"p = {bias:.1f}, t = {tied:.1f}: both orders agree {_cell(verdicts.share(result.agreeing, count))}, expected "
        f"{consistent:.3f}; ties {_cell(verdicts.share(ties, count))}, expected {tied + (1 - tied) * bias:.3f} "
        f"({time.perf_counter() - began:.0f} s)"
    )


def augmented(endpoint: Endpoint, count: int) -> Result:
    task = Task(tuple(f"question {number}" for number in range(count)), (CHEAP, STRONG), JUDGE, 256)

    async def run(url: str, journal: Journal) -> Result:
        chat = Chat(f"{url}/v1", None, 30.0)
        try:
            return await Augmenter(task, chat, journal, {}).run(8, lambda done, of: None)
        finally:
            await chat.close()

    with (
        tempfile.TemporaryDirectory() as folder,
        served(endpoint.app) as url,
        closing(Journal(Path(folder) / "calls.jsonl")) as journal,
    ):
        return asyncio.run(run(url, journal))


def show_people(file: Path) -> None:
    table = read_table(file)
    said = np.array([_preferred(word) for word in table.texts("preference")])
    good = np.array([[word == "yes" for word in table.texts(f"completion_{side}_is_acceptable")] for side in "ab"]).T
    by_thumbs = 1 - np.sign(good[:, 0].astype(int) - good[:, 1])
    _show("one person's comparison, the same person's two thumbs", _table(said, by_thumbs, 3))
    decided = said != 1
    won = np.stack([said == 0, said == 2], axis=1)[decided].astype(int)
    _show("an answer won, and it was acceptable", _table(won.reshape(-1), good[decided].astype(int).reshape(-1), 2))
    keys = list(zip(*(table.texts(name) for name in ("instance_id", "model_a", "model_b")), strict=True))
    _show("two people's comparisons of the same answers", _between(keys, said))


def _between(keys: Sequence[tuple[str, ...]], said: Places) -> Table:
    first, second = [], []
    rows: dict[tuple[str, ...], list[int]] = {}
    for row, (instance, *models) in enumerate(keys):
        rows.setdefault((instance, *sorted(models)), []).append(row)
    for same in rows.values():
        for i, j in combinations(same, 2):
            turned = keys[i][1] != keys[j][1]
            first.append(said[i])
            second.append(2 - said[j] if turned else said[j])
    return _table(np.array(first, int), np.array(second, int), 3)


def _preferred(word: str) -> int:
    return 1 if word == "tie" else 0 if word.startswith("a-") else 2


def _table(judge: Places, people: Places, size: int) -> Table:
    counts = np.zeros((size, size), np.int64)
    np.add.at(counts, (judge, people), 1)
    return counts


def _show(what: str, table: Table) -> None:
    found, weight = agreement.kappa(table), agreement.reliability(table) if table.sum() else float("nan")
    console.print(f"{what}: kappa {_cell(found)}, weight {weight:.3f}, n = {table.sum()}; {table.tolist()}")


def _cell(found: Interval) -> str:
    return f"{found.value:.3f} ({found.low:.3f}, {found.high:.3f})"


if __name__ == "__main__":
    main()
