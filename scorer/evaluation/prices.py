"""Prices: dollars per million tokens in and out, and what a prompt costs at them by estimate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scorer.evaluation.metrics import Floats
from scorer.tables import DataError

CHARACTERS_PER_TOKEN = 4  # the usual rule of thumb for English
ANSWER_TOKENS = 264  # the mean answer in RouteLLM's cost analysis (arXiv 2406.18665, section 5)

_FIELDS = ("model_api_name", "input_token_price", "output_token_price")


def read(path: Path, models: Sequence[str]) -> Floats:
    """(m, 2) dollars per million tokens in and out. The file: a JSON list of objects with model_api_name,
    input_token_price and output_token_price. Raises DataError."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {getattr(error, 'strerror', None) or error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() >= set(_FIELDS) for row in rows):
        raise DataError(f"{path}: expected a list of objects with {', '.join(_FIELDS)}")
    known = {row[_FIELDS[0]]: row for row in rows}
    prices = []
    for model in models:
        if model not in known:
            raise DataError(f"{path}: no price of {model!r}")
        prices.append([_price(path, model, field, known[model][field]) for field in _FIELDS[1:]])
    return np.array(prices)


def estimate(prices: Floats, prompts: Sequence[str], answer_tokens: float = ANSWER_TOKENS) -> Floats:
    """(n, m) dollars a prompt, at (m, 2) prices: its length in tokens by rule of thumb, answers all of one length."""
    tokens = np.array([[len(prompt) / CHARACTERS_PER_TOKEN, answer_tokens] for prompt in prompts])
    dollars: Floats = tokens @ prices.T / 1e6
    return dollars


def _price(path: Path, model: str, field: str, value: object) -> float:
    try:
        price = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        price = -1
    if not 0 <= price < float("inf"):
        raise DataError(f"{path}: {model}: {field}: {value!r} is not a price")
    return price
