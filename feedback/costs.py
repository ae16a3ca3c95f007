"""What a request would have cost at a model that did not serve it: by the prompt's tokens, at what the model cost."""

from __future__ import annotations

import numpy as np

from feedback.ope import Floats, Ints

_LEAST = 20  # priced answers for a line; with fewer, a model's mean


def expected(chosen: Ints, cost: Floats, tokens_in: Floats, models: int) -> Floats:
    """(n, models) US dollars: for each model a line through its observed costs (n,) over the prompts' tokens (n,).

    The slope is what a prompt's token costs, with the longer answers that longer prompts get; the intercept is an
    answer. Where tokens are unknown, or there are too few answers, the model's mean; of a model without any, all mean.
    """
    table = np.full((len(chosen), models), np.nanmean(cost) if (~np.isnan(cost)).any() else 0.0)
    for model in range(models):
        priced = (chosen == model) & ~np.isnan(cost)
        if not priced.any():
            continue
        table[:, model] = cost[priced].mean()
        known = priced & ~np.isnan(tokens_in)
        if known.sum() >= _LEAST and np.ptp(tokens_in[known]) > 0:
            slope, intercept = np.polyfit(tokens_in[known], cost[known], 1)
            line = np.maximum(intercept + slope * tokens_in, 0)
            table[:, model] = np.where(np.isnan(tokens_in), table[:, model], line)
    return table
