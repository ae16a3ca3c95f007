"""Matrix factorization: models and prompts meet in a small space, and whoever scores higher there wins.

    delta(M, q) = w . (v_M / |v_M| * (P x_q)),    P(M beats N on q) = sigmoid(delta(M, q) - delta(N, q))

RouteLLM's form (arXiv 2406.18665, section 4.2) with x = [embedding; standardised features; 1] in place of its text
embedding; the constant is the bias b that the paper prints and its code lacks. The bar is one more player, so ratings
are battles too, and its vector takes up the difficulty that all models share. For serving, everything collapses to one
vector a player, u_M = P^T (w * v_M / |v_M|), and a score is a dot product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorer import artifacts
from scorer.battles import BAR, Battles
from scorer.features import NAMES
from scorer.routers.base import Prompts, Scores, UnknownModel, standardised
from scorer.tables import DataError

Floats = NDArray[np.float32]
Progress = Callable[[int, int, float], None]  # restart, epoch, loss on held-out prompts

_LEAST_PROMPTS = 20  # of which two are held out


@dataclass(frozen=True)
class Hyperparameters:
    """Of the fit; the defaults were chosen on held-out training prompts (pretrained/mf/CARD.md)."""

    rank: int = 32  # of one restart
    restarts: int = 5  # fits from other beginnings with other prompts held out; the router is their mean
    learning_rate: float = 3e-3
    decay: float = 1e-2  # AdamW's
    noise: float = 0.02  # sd of Gaussian noise on each embedding coordinate: upstream's regulariser
    batch: int = 256  # prompts, each with all its battles
    epochs: int = 60  # at most
    patience: int = 4  # epochs without a better loss on held-out prompts
    holdout: float = 0.1  # of the prompts
    seed: int = 0


_DEFAULTS = Hyperparameters()


class Factorization:
    """The MF router. Players are the known models and the bar."""

    name = "mf"

    def __init__(self, players: Sequence[str], factors: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
        """factors: V (players, k) of unit rows, w (k,), P (k, d + f + 1), mean and scale (f,). about: version,
        encoder_id, features and whatever else the artifact records."""
        self.players = tuple(players)
        self.known = tuple(player for player in players if player != BAR)
        self.version: str = about["version"]
        self.metrics: dict[str, Any] = about["metrics"]
        self._factors, self._about = dict(factors), dict(about)
        collapsed = (factors["V"] * factors["w"]).astype(np.float64) @ factors["P"].astype(np.float64)
        self._vectors = dict(zip(players, collapsed, strict=True))

    def knows(self, model: str) -> bool:
        """Whether the model has a vector of its own."""
        return model in self.known

    def score(self, prompts: Prompts, ladder: Sequence[str]) -> Scores:
        """quality = sigmoid(delta_M - delta_bar), win = 1/2 + (quality of the strongest - quality of M) / 2.

        A model without a vector gets the mean of its nearest known neighbours on the ladder.
        """
        x = _inputs(prompts, self._factors["mean"], self._factors["scale"]).astype(np.float64)
        quality = 1 / (1 + np.exp(-_dots(x, self._place(ladder) - self._vectors[BAR])))
        return Scores(0.5 + (quality[:, :1] - quality) / 2, quality)

    def _place(self, ladder: Sequence[str]) -> NDArray[np.float64]:
        """(m, d + f + 1): a vector for every rung."""
        rungs = [i for i, model in enumerate(ladder) if self.knows(model)]
        if not rungs:
            raise UnknownModel(f"{self.name} {self.version}", ladder, self.known)
        vectors = []
        for i in range(len(ladder)):
            above = max((k for k in rungs if k <= i), default=rungs[0])
            below = min((k for k in rungs if k >= i), default=rungs[-1])
            vectors.append((self._vectors[ladder[above]] + self._vectors[ladder[below]]) / 2)
        return np.array(vectors)

    @classmethod
    def fit(
        cls,
        battles: Battles,
        prompts: Prompts,
        *,
        encoder_id: str,
        features: Sequence[str],
        chosen: Hyperparameters = _DEFAULTS,
        data: Mapping[str, Any] | None = None,
        progress: Progress = lambda restart, epoch, held_out: None,
    ) -> Factorization:
        """Row i of `prompts` is text i of `battles.prompts`; `data` is recorded in the artifact. Needs torch.

        The mean of restarts is a factorization again: their factors side by side. The same input and seed give the
        same router. Raises DataError when there are too few prompts.
        """
        if len(prompts) < _LEAST_PROMPTS:
            raise DataError(f"{len(prompts)} prompts with battles; fitting takes at least {_LEAST_PROMPTS}")
        players = tuple(sorted({*battles.players, BAR}))
        mean, scale = prompts.features.mean(0), np.maximum(prompts.features.std(0), 1e-3)
        x = _inputs(prompts, mean, scale)
        noise = np.zeros(x.shape[1], np.float32)
        noise[: prompts.embeddings.shape[1]] = chosen.noise
        fits = [_fit(battles, players, x, noise, chosen, restart, progress) for restart in range(chosen.restarts)]
        factors = {
            "V": np.concatenate([fit.V for fit in fits], axis=1) / chosen.restarts**0.5,
            "w": np.concatenate([fit.w for fit in fits]) / chosen.restarts**0.5,
            "P": np.concatenate([fit.P for fit in fits]),
            "mean": mean,
            "scale": scale,
        }
        about = {
            "version": artifacts.new_version(factors),
            "encoder_id": encoder_id,
            "features": tuple(features),
            "data": dict(data or {"fingerprint": battles.fingerprint}),
            "hyperparameters": asdict(chosen),
            "metrics": {"held_out_loss": [round(fit.loss, 6) for fit in fits]},
        }
        return cls(players, factors, about)

    def save(self, directory: Path, metrics: Mapping[str, Any] | None = None) -> Path:
        """Writes the artifact `directory`, with further metrics. Raises ArtifactError."""
        about = self._about | {"metrics": self.metrics | dict(metrics or {})}
        return artifacts.write(directory, self._factors, router=self.name, models=self.players, **about)

    @classmethod
    def load(cls, directory: Path, encoder_id: str | None, features: Sequence[str] = NAMES) -> Factorization:
        """Raises ArtifactError, also when it was fitted on other features than those that will be extracted."""
        manifest, factors = artifacts.read(directory, router=cls.name, encoder_id=encoder_id)
        if manifest.features != tuple(features):
            changed = sorted(set(manifest.features) ^ set(features)) or ["their order"]
            raise artifacts.ArtifactError(
                f"{directory / artifacts.MANIFEST}: fitted on other features ({', '.join(changed[:5])}); train again"
            )
        _check(directory, manifest, factors)
        about = ("version", "encoder_id", "features", "data", "hyperparameters", "metrics", "parent")
        return cls(manifest.models, factors, {name: getattr(manifest, name) for name in about})


@dataclass(frozen=True)
class _Fit:
    """Factors of one restart, V with unit rows, and the loss they had on its held-out prompts."""

    V: Floats
    w: Floats
    P: Floats
    loss: float


def _fit(
    battles: Battles,
    players: Sequence[str],
    inputs: Floats,
    noise: Floats,
    chosen: Hyperparameters,
    restart: int,
    progress: Progress,
) -> _Fit:
    """One fit: data, parameters, loss, steps; stopped early on held-out prompts, of which the best epoch is kept."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, normalize

    torch.manual_seed(chosen.seed + restart)
    generator = np.random.default_rng(chosen.seed + restart)
    row_of = {player: row for row, player in enumerate(players)}
    a, b = (torch.tensor([row_of[name] for name in side.tolist()]) for side in (battles.model_a, battles.model_b))
    y, weight = (torch.from_numpy(column).float() for column in (battles.outcome, battles.weight))
    x, sd = torch.from_numpy(inputs), torch.from_numpy(noise)
    by_prompt = np.argsort(battles.prompt, kind="stable")
    bounds = np.searchsorted(battles.prompt[by_prompt], np.arange(len(inputs) + 1))
    # whole prompts are held out: rows of one prompt share its difficulty and would give it away
    held_out, training = np.split(generator.permutation(len(inputs)), [max(2, round(chosen.holdout * len(inputs)))])

    V = torch.nn.Parameter(1 + torch.randn(len(players), chosen.rank))
    w = torch.nn.Parameter(torch.ones(chosen.rank))
    P = torch.nn.Parameter(torch.randn(chosen.rank, x.shape[1]) / x.shape[1] ** 0.5)
    optimiser = torch.optim.AdamW([V, w, P], lr=chosen.learning_rate, weight_decay=chosen.decay)

    def mean_loss(batch: NDArray[np.int64], sd: Any) -> Any:
        rows = torch.from_numpy(np.concatenate([by_prompt[bounds[q] : bounds[q + 1]] for q in batch]))
        place = torch.from_numpy(np.repeat(np.arange(len(batch)), bounds[batch + 1] - bounds[batch]))
        seen = x[torch.from_numpy(batch)]
        delta = (seen + sd * torch.randn_like(seen)) @ P.T @ (normalize(V) * w).T  # (batch, players)
        logits = delta[place, a[rows]] - delta[place, b[rows]]
        return binary_cross_entropy_with_logits(logits, y[rows], weight[rows], reduction="sum") / weight[rows].sum()

    best, best_loss, best_epoch = (V, w, P), np.inf, 0
    for epoch in range(chosen.epochs):
        shuffled = generator.permutation(training)
        for start in range(0, len(shuffled), chosen.batch):
            optimiser.zero_grad()
            mean_loss(shuffled[start : start + chosen.batch], sd).backward()
            optimiser.step()
        with torch.no_grad():
            loss = mean_loss(held_out, 0.0).item()
            progress(restart, epoch, loss)
            if loss < best_loss:
                best, best_loss, best_epoch = (normalize(V), w.clone(), P.clone()), loss, epoch
        if epoch - best_epoch >= chosen.patience:
            break
    V_best, w_best, P_best = (factor.detach().numpy() for factor in best)
    return _Fit(V_best, w_best, P_best, best_loss)


def _inputs(prompts: Prompts, mean: Floats, scale: Floats) -> Floats:
    """x (n, d + f + 1)."""
    scaled = standardised(prompts.features, mean, scale)
    return np.concatenate([prompts.embeddings, scaled, np.ones((len(prompts), 1), np.float32)], axis=1)


def _dots(x: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, m) inner products, each summed on its own in one order: BLAS would round a row by the batch it is in."""
    out = np.empty((len(x), len(u)))
    for column, vector in enumerate(u):
        out[:, column] = (x * vector).sum(axis=1)
    return out


def _check(directory: Path, manifest: artifacts.Manifest, factors: Mapping[str, NDArray[Any]]) -> None:
    """What artifacts.read cannot know: that the factors fit each other, the players and the features."""
    where = directory / artifacts.TENSORS
    if missing := {"V", "w", "P", "mean", "scale"} - factors.keys():
        raise artifacts.ArtifactError(f"{where}: no tensor {min(missing)!r}")
    rank, features = factors["w"].size, len(manifest.features)
    shapes = {"V": (len(manifest.models), rank), "w": (rank,), "mean": (features,), "scale": (features,)}
    for name, shape in shapes.items():
        if factors[name].shape != shape:
            raise artifacts.ArtifactError(f"{where}: tensor {name!r} is {factors[name].shape}, expected {shape}")
    if factors["P"].ndim != 2 or len(factors["P"]) != rank or factors["P"].shape[1] < features + 2:
        raise artifacts.ArtifactError(
            f"{where}: tensor 'P' is {factors['P'].shape}, expected ({rank}, d + {features} + 1)"
        )
    if BAR not in manifest.models:
        raise artifacts.ArtifactError(f"{directory / artifacts.MANIFEST}: the bar is not among the models")
