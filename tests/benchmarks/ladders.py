"""Policies on a ladder of many models: quality and dollars, beside single models, mixtures of them, and the oracle.

    python -m tests.benchmarks.ladders --benchmark DATA/routerbench_dev.parquet

Qualities are predicted by a ridge on the static encoder's embeddings, in five folds, so no prompt predicts itself; what
a call will cost is a model's mean on the other folds. Each line is one level of a policy; `hull` is the random mixture
of single models that costs as much, the best one that looks at no prompt, and `lead` the difference, with its 95 %
interval over prompts (1,000 bootstrap samples, the mixture made anew in each).
"""

from __future__ import annotations

import math
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from scorer import catalogue, tables, training
from scorer.policy import Facts, Policy, Priced, Target

Floats = NDArray[np.float64]

_FOLDS, _RIDGE, _DRAWS = 5, 30.0, 1000
_LAMBDAS = (1.0, 10.0, 50.0, 200.0, 1000.0)
_TARGETS = (0.5, 0.6, 0.7, 0.8, 0.9)


@click.command()
@click.option("--benchmark", type=click.Path(path_type=Path), required=True)
def main(benchmark: Path) -> None:
    """Prints the table."""
    texts, models, results, costs = _read(benchmark)
    prompts = training.encode(catalogue.load_encoder("static"), texts)
    x = np.concatenate([prompts.embeddings, np.ones((len(texts), 1))], axis=1).astype(np.float64)
    quality, expected = _cross_fitted(x, results, costs)
    draws = np.random.default_rng(0).multinomial(len(texts), np.full(len(texts), 1 / len(texts)), size=_DRAWS)
    click.echo(f"{len(texts)} prompts; single models:")
    for place in np.argsort(-costs.mean(axis=0)):
        click.echo(
            f"  {models[place]:<38} {results[:, place].mean():.3f}  ${1000 * costs[:, place].mean():8.4f} / 1000"
        )
    click.echo(f"{'policy':<24}{'quality':>9}{'$ / 1000':>11}{'hull':>8}   lead")
    for name, chosen in _policies(quality, expected, models):
        click.echo(_line(name, chosen, results, costs, draws))
    best = np.lexsort((costs, -results), axis=1)[:, 0]  # the cheapest of those that do best on the prompt
    click.echo(_line("oracle", best, results, costs, draws))


def _read(path: Path) -> tuple[list[str], list[str], Floats, Floats]:
    """Texts, models from the dearest to the cheapest, results and dollars (n, m)."""
    table = tables.read_table(path)
    models = [name.removesuffix("|score") for name in table.columns if name.endswith("|score")]
    results, costs = (
        np.array([table.numbers(f"{model}|{kind}", 0.0, math.inf) for model in models]).T for kind in ("score", "cost")
    )
    order = np.argsort(-costs.mean(axis=0))
    return table.texts("prompt"), [models[i] for i in order], results[:, order], costs[:, order]


def _cross_fitted(x: Floats, results: Floats, costs: Floats) -> tuple[Floats, Floats]:
    """(n, m) predicted qualities and expected dollars."""
    fold = np.random.default_rng(0).permutation(len(x)) % _FOLDS
    quality, expected = np.zeros_like(results), np.zeros_like(costs)
    for number in range(_FOLDS):
        held, rest = fold == number, fold != number
        level = results[rest].mean(axis=0)
        gram = x[rest].T @ x[rest] + _RIDGE * np.eye(x.shape[1])
        quality[held] = level + x[held] @ np.linalg.solve(gram, x[rest].T @ (results[rest] - level))
        expected[held] = costs[rest].mean(axis=0)
    return np.clip(quality, 0, 1), expected


def _policies(quality: Floats, expected: Floats, models: list[str]) -> list[tuple[str, NDArray[np.intp]]]:
    named: list[tuple[str, Policy]] = [(f"lambda {rate:g}", Priced(rate)) for rate in _LAMBDAS]
    named += [(f"quality target {level:g}", Target(level)) for level in _TARGETS]
    facts = [_facts(models, *row) for row in zip(quality, expected, strict=True)]
    return [(name, np.array([models.index(policy.choose(one).model) for one in facts])) for name, policy in named]


def _facts(models: list[str], quality: Floats, expected: Floats) -> Facts:
    by_model = dict(zip(models, quality.tolist(), strict=True))
    win_rates = {model: 0.5 + (quality[0] - one) / 2 for model, one in by_model.items()}
    return Facts(models, win_rates, by_model, dict(zip(models, expected.tolist(), strict=True)))


def _line(name: str, chosen: NDArray[np.intp], results: Floats, costs: Floats, draws: NDArray[np.int64]) -> str:
    rows = np.arange(len(chosen))
    gained, spent = results[rows, chosen], costs[rows, chosen]
    lead = gained.mean() - _mixture(spent.mean(), results.mean(axis=0), costs.mean(axis=0))
    n = len(rows)
    leads = [
        times @ gained / n - _mixture(times @ spent / n, times @ results / n, times @ costs / n) for times in draws
    ]
    low, high = np.quantile(leads, [0.025, 0.975])
    hull = gained.mean() - lead
    figures = f"{gained.mean():9.3f}{1000 * spent.mean():11.4f}{hull:8.3f}"
    return f"{name:<24}{figures}   {lead:+.3f} ({low:+.3f}, {high:+.3f})"


def _mixture(dollars: float, results: Floats, costs: Floats) -> float:
    """What the best mixture of two single models of that mean cost comes to."""
    best = 0.0
    for a in range(len(results)):
        if costs[a] <= dollars:
            best = max(best, float(results[a]))
        for b in range(len(results)):
            if costs[a] <= dollars < costs[b]:
                part = (dollars - costs[a]) / (costs[b] - costs[a])
                best = max(best, float((1 - part) * results[a] + part * results[b]))
    return best


if __name__ == "__main__":
    main()
