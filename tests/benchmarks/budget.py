"""A day's budget under bursty arrivals: what is spent of it, simulated on real prompts with real prices.

    python -m tests.benchmarks.budget --prompts DATA/arena_prompts.parquet --prices DATA/model_prices.json

Prompts come from the file, scored by the shipped mf router on the static encoder; tokens are characters / 4. Answers
are log-normal (median 250 tokens, sigma 0.9, a fifth longer from the strongest model), while the daemon expects 300 of
each. Arrivals follow the hour, with bursts of eight times the rate (tests/scorer/days.py). The first day has no
history; days count where the demand for the strong model alone exceeds the budget.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np

from scorer import catalogue, tables, training
from scorer.models import Price
from scorer.sections import Budget
from tests.scorer.days import Day, Traffic, simulate

_KNOWN = ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")  # as the router knows the two
_UNLIMITED = Budget(daily_dollars=1e9)


@click.command()
@click.option("--prompts", type=click.Path(path_type=Path), required=True)
@click.option("--prices", "prices_file", type=click.Path(path_type=Path), required=True)
@click.option("--strong", default="chatgpt-4o-latest-20241120", show_default=True)
@click.option("--weak", default="gpt-4o-mini-2024-07-18", show_default=True)
@click.option("--calls", default=10_000, show_default=True, help="A day, before bursts.")
@click.option("--days", default=4, show_default=True)
@click.option("--seeds", default="0:4", show_default=True, metavar="A:B")
@click.option("--step", default=30.0, show_default=True, help="Seconds between plans.")
def main(
    prompts: Path, prices_file: Path, strong: str, weak: str, calls: int, days: int, seeds: str, step: float
) -> None:
    """Prints spend over budget, by how large the budget is beside the demand for the strong model."""
    drawn = range(*map(int, seeds.split(":")))
    traffic = _traffic(tables.read_table(prompts).texts("prompt"), calls)
    prices = [_price(prices_file, model) for model in (strong, weak)]
    demand = np.mean([simulate(_UNLIMITED, traffic, prices, days=1, seed=s, step=600)[0].demand for s in drawn])
    click.echo(f"{strong} {prices[0][:2]}, {weak} {prices[1][:2]}: all strong, ${demand:.2f} a day on average\n")
    click.echo("budget / demand   first day: lowest highest   later days: lowest highest   strong %")
    for part in (0.15, 0.3, 0.5, 0.7):
        dollars = part * float(demand)
        runs = [
            simulate(Budget(daily_dollars=dollars), traffic, prices, days=days, seed=seed, step=step) for seed in drawn
        ]
        first, later = ([run[0] for run in runs], [day for run in runs for day in run[1:]])
        ends = [_ends([day.spent / dollars for day in some if day.demand > dollars]) for some in (first, later)]
        click.echo(f"{part:15.2f}   {ends[0]:>26}   {ends[1]:>27}   {_strong(first + later):8.1f}")


def _traffic(texts: list[str], calls: int) -> Traffic:
    encoder = catalogue.load_encoder("static")
    router = catalogue.load("mf", "pretrained", encoder)
    win_rates = router.score(training.encode(encoder, texts), _KNOWN).win_rates
    return Traffic(win_rates, np.array([max(len(text) / 4, 1) for text in texts]), calls)


def _price(path: Path, model: str) -> Price:
    row = next(row for row in json.loads(path.read_text()) if row.get("model_api_name") == model)
    return Price(float(row["input_token_price"]), float(row["output_token_price"]))


def _ends(ratios: list[float]) -> str:
    return f"{min(ratios):.3f} {max(ratios):.3f} (n={len(ratios)})" if ratios else "-"


def _strong(days: list[Day]) -> float:
    return 100 * sum(day.strong for day in days) / sum(day.calls for day in days)


if __name__ == "__main__":
    main()
