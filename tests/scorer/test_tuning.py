"""The loop that networks are tuned by, on a network of one linear map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer.routers import tuning
from scorer.routers.bert import Hyperparameters
from scorer.routers.tuning import Labels, Tensors
from scorer.tables import DataError


def fit(
    shares: Sequence[Sequence[float]], chosen: Hyperparameters, rate: float = 0.5
) -> tuple[Tensors, dict[str, Any], list[float]]:
    """A constant prediction, learned: every prompt looks alike. The last two rows are held out."""
    import torch

    network = torch.nn.Linear(1, 3, bias=False)
    torch.nn.init.zeros_(network.weight)
    optimiser = torch.optim.SGD(network.parameters(), lr=rate)
    n = len(shares)
    labels = Labels(np.array(shares), np.ones(n), np.ones(n, np.int64))
    losses: list[float] = []
    tensors, metrics = tuning.tune(
        network,
        lambda batch: network(torch.ones(len(batch), 1)),
        labels,
        (np.arange(n - 2, n), np.arange(n - 2)),
        chosen,
        np.random.default_rng(0),
        optimiser=optimiser,
        step=optimiser.step,
        kept=lambda: {"weight": network.weight.detach().numpy().copy()},
        told=lambda epoch, loss: losses.append(loss),
    )
    return tensors, metrics, losses


@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 5))
def test_batches_hold_every_row_once_and_none_is_too_large(n: int, size: int, seed: int) -> None:
    rows = np.random.default_rng(seed).permutation(1000)[:n]
    lengths = np.random.default_rng(seed + 1).integers(1, 512, 1000)
    parts = tuning.batches(rows, lengths, size, np.random.default_rng(seed))
    assert sorted(np.concatenate(parts)) == sorted(rows)
    assert max(map(len, parts)) <= size


@given(st.integers(3, 500), st.floats(0.01, 0.9))
def test_two_rows_at_least_are_held_out_and_none_is_in_both(n: int, holdout: float) -> None:
    held_out, training = tuning.split(n, holdout, np.random.default_rng(0))
    assert len(held_out) == min(max(2, round(holdout * n)), n)
    assert sorted([*held_out, *training]) == list(range(n))


def test_a_constant_is_learned_to_its_closed_form() -> None:
    shares = [[0.5, 0.3, 0.2]] * 10
    tensors, metrics, _ = fit(shares, Hyperparameters(batch=8, epochs=60, patience=60), rate=2.0)
    odds = np.exp(tensors["weight"][:, 0])
    np.testing.assert_allclose(odds / odds.sum(), shares[0], atol=1e-4)
    entropy = -float(np.sum(np.array(shares[0]) * np.log(shares[0])))
    assert metrics["held_out_loss"] == pytest.approx(entropy, abs=1e-5)
    assert metrics["held_out_loss_of_a_constant"] == pytest.approx(entropy, abs=1e-6)


def test_the_best_epoch_is_kept_and_patience_ends_the_fit() -> None:
    shares = [[1.0, 0.0, 0.0]] * 8 + [[0.6, 0.2, 0.2]] * 2  # what is held out is less sure than what is learned
    tensors, metrics, losses = fit(shares, Hyperparameters(batch=8, epochs=50, patience=3))
    best = int(np.argmin(losses))
    assert 0 < best < 40
    assert len(losses) == best + 1 + 3
    assert metrics["epochs"] == best + 1
    odds = np.exp(tensors["weight"][:, 0])
    assert -np.log(odds / odds.sum()) @ np.array(shares[-1]) == pytest.approx(losses[best], abs=1e-6)


def test_a_fit_that_diverges_is_refused() -> None:
    with pytest.raises(DataError, match="diverged"):
        fit([[float("nan"), 0.0, 0.0]] * 10, Hyperparameters(batch=8, epochs=2))
