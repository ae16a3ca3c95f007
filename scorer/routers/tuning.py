"""What routers that tune a base network on texts share: the loop of the fit, and an artifact without the base."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from scorer import artifacts
from scorer.artifacts import ArtifactError, Manifest
from scorer.tables import DataError

if TYPE_CHECKING:
    import torch

Rows = NDArray[np.int64]
Reading = Callable[[int, int], None]  # prompts done, of how many
Told = Callable[[int, float], None]  # epoch, loss on held-out prompts
Tensors = dict[str, NDArray[Any]]

LEAST_PROMPTS = 20  # of which two are held out
SAMPLE = "sample"  # a tensor beside what was tuned


class Chosen(Protocol):
    """The hyperparameters of the loop."""

    @property
    def batch(self) -> int: ...  # prompts
    @property
    def epochs(self) -> int: ...  # at most
    @property
    def patience(self) -> int: ...  # epochs without a better loss on held-out prompts


class Labels(NamedTuple):
    """Of n prompts: shares (n, k) of the labels, rows sum to 1; weight (n,) > 0; lengths (n,) in tokens."""

    shares: NDArray[np.floating[Any]]
    weight: NDArray[np.floating[Any]]
    lengths: Rows


class Tuned:
    """A router of tensors that belong to a base, which it names. It knows no models: it scores places on the ladder."""

    name: str

    def __init__(self, tensors: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
        """tensors: what was tuned, and perhaps the `sample`'s win rates (n,). about: version, encoder_id (the base's
        digest), hyperparameters and whatever else the artifact records."""
        self.version: str = about["version"]
        self.metrics: dict[str, Any] = about["metrics"]
        self.sample = (about["data"][SAMPLE], tensors[SAMPLE]) if SAMPLE in tensors else None
        self._tensors, self._about = dict(tensors), dict(about)

    @abstractmethod
    def win_rate(self, text: str) -> float:
        """Of the strong side against the weak one."""

    def knows(self, model: str) -> bool:
        """Every name will do."""
        return True

    def sampled(self, name: str, texts: Sequence[str], reading: Reading = lambda done, total: None) -> Self:
        """The same router with its win rates on a sample, by which it is calibrated until there is traffic."""
        win_rates = np.empty(len(texts), np.float32)
        for row, text in enumerate(texts):
            win_rates[row] = self.win_rate(text)
            reading(row + 1, len(texts))
        found = copy.copy(self)
        found.sample = name, win_rates
        found._tensors = self._tensors | {SAMPLE: win_rates}
        found._about = self._about | {"data": self._about["data"] | {SAMPLE: name}}
        return found

    def save(self, directory: Path, metrics: Mapping[str, Any] | None = None) -> Path:
        """Writes the artifact `directory`, with further metrics; the base is not in it. Raises ArtifactError."""
        about = self._about | {"metrics": self.metrics | dict(metrics or {})}
        return artifacts.write(directory, self._tensors, router=self.name, **about)


def check_sample(where: Path, manifest: Manifest, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Raises ArtifactError for win rates that are not those of a sample."""
    if SAMPLE in tensors and (tensors[SAMPLE].ndim != 1 or not isinstance(manifest.data.get(SAMPLE), str)):
        raise ArtifactError(f"{where}: tensor {SAMPLE!r} is not one column of a named sample")


def split(n: int, holdout: float, generator: np.random.Generator) -> tuple[Rows, Rows]:
    """Held-out rows, two at least, and those to learn from."""
    held_out, training = np.split(generator.permutation(n), [max(2, round(holdout * n))])
    return held_out, training


def tune(
    network: torch.nn.Module,
    logits: Callable[[Rows], torch.Tensor],
    labels: Labels,
    rows: tuple[Rows, Rows],
    chosen: Chosen,
    generator: np.random.Generator,
    *,
    step: Callable[[], None],
    kept: Callable[[], Tensors],
    optimiser: torch.optim.Optimizer,
    told: Told,
) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and metrics of a fit by cross-entropy with soft labels, stopped early on held-out prompts.

    logits: of some rows (b, k); rows: held out, training; step: after the gradients are there; kept: the tensors as
    they are now, of which the best epoch's are returned. Raises DataError where the loss is no number.
    """
    import torch

    held_out, training = rows
    shares, weight = torch.from_numpy(labels.shares).float(), torch.from_numpy(labels.weight).float()

    def loss(batch: Rows) -> torch.Tensor:
        """Summed over the batch."""
        surprise = -(shares[batch] * torch.log_softmax(logits(batch), dim=1)).sum(dim=1)
        return (weight[batch] * surprise).sum()

    best: Tensors = {}
    best_loss, best_epoch = np.inf, 0
    for epoch in range(chosen.epochs):
        network.train()
        for batch in batches(training, labels.lengths, chosen.batch, generator):
            optimiser.zero_grad()
            (loss(batch) / weight[batch].sum()).backward()
            step()
        network.eval()
        with torch.no_grad():
            parts = [loss(batch).item() for batch in batches(held_out, labels.lengths, chosen.batch, generator)]
        held_out_loss = sum(parts) / weight[held_out].sum().item()
        told(epoch, held_out_loss)
        if held_out_loss < best_loss:
            best, best_loss, best_epoch = kept(), held_out_loss, epoch
        if epoch - best_epoch >= chosen.patience:
            break
    if not best:
        raise DataError("the fit diverged: the loss on held-out prompts is not a number")
    metrics = {
        "held_out_loss": round(best_loss, 6),
        "held_out_loss_of_a_constant": round(_loss_of_a_constant(labels, held_out, training), 6),
        "epochs": best_epoch + 1,
    }
    return best, metrics


def batches(rows: Rows, lengths: Rows, size: int, generator: np.random.Generator) -> list[Rows]:
    """The rows, shuffled, those of like length together, so that little is padded."""
    shuffled = generator.permutation(rows)
    like = shuffled[np.argsort(lengths[shuffled] // 8, kind="stable")]
    parts = [like[start : start + size] for start in range(0, len(like), size)]
    return [parts[i] for i in generator.permutation(len(parts))]


def _loss_of_a_constant(labels: Labels, held_out: Rows, training: Rows) -> float:
    """Of giving every prompt the training prompts' shares: what there is to improve on."""
    constant = np.average(labels.shares[training], axis=0, weights=labels.weight[training])
    surprise = -(labels.shares[held_out] @ np.log(np.maximum(constant, 1e-9)))
    return float(np.average(surprise, weights=labels.weight[held_out]))
