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
from scorer.routers import pairwise
from scorer.routers.base import Prompts, Scores, UnknownModel, standardised
from scorer.routers.grounds import CONSTANT, EMBEDDING, Grounds, Part
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


@dataclass(frozen=True)
class Ridge:
    """How firmly a refit believes the router it begins with: precisions of a coefficient's change, per embedding
    coordinate. The defaults were chosen on training folds (docs/learning.md)."""

    shared: float = 1.0  # of the bar's vector: the difficulty that all models share
    own: float = 10.0  # of a model's vector
    features: float = 0.3  # prior sd of a standardised feature's change beside that of an embedding coordinate's
    shared_level: float = 10.0  # of the bar's constant: that ratings have become stricter on the whole
    own_level: float = 0.1  # of a model's constant: that it is better on the whole; one model's ratings are its own

    def precision(self, players: Sequence[str], features: int, dimension: int) -> NDArray[np.float64]:
        """(players, d + f + 1)."""
        sd = np.ones(dimension)
        sd[-1 - features : -1] = self.features
        is_bar = np.array([player == BAR for player in players])
        precision = np.where(is_bar, self.shared, self.own)[:, None] / sd**2
        precision[:, -1] = np.where(is_bar, self.shared_level, self.own_level)
        return precision


_RIDGE = Ridge()
_NO_INPUTS: Floats = np.zeros((0, 0), np.float32)


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

    @property
    def encoder_id(self) -> str:
        """Of the encoder it was fitted with."""
        encoder_id: str = self._about["encoder_id"]
        return encoder_id

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

    def explain(self, prompt: Prompts, ladder: Sequence[str]) -> list[Grounds]:
        """Of the qualities: a dot product is a sum over what was multiplied."""
        x = _inputs(prompt, self._factors["mean"], self._factors["scale"])[0].astype(np.float64)
        names, d = self._about["features"], prompt.embeddings.shape[1]
        found = []
        for model, vector in zip(ladder, self._place(ladder) - self._vectors[BAR], strict=True):
            value = x * vector
            parts = Part(EMBEDDING, float(value[:d].sum())), *map(Part, names, value[d:-1].tolist())
            found.append(Grounds(model, "quality", float(value.sum()), (*parts, Part(CONSTANT, float(value[-1])))))
        return found

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

    def refit(
        self,
        battles: Battles,
        prompts: Prompts,
        *,
        ladder: Sequence[str] = (),
        like: Mapping[str, str] | None = None,
        ridge: Ridge = _RIDGE,
        data: Mapping[str, Any] | None = None,
    ) -> Factorization:
        """Warm start: moves the vectors as far as these battles outweigh what is believed; needs no torch.

        The loss of `fit` with its factors multiplied out, so convex: the same battles give the same router. The bar's
        vector takes what all ratings share; a model's moves on its own battles; without battles nothing moves. New
        models of the `ladder` begin exactly as the one they are `like`, else as the mean of their nearest known
        neighbours. Row i of `prompts` is text i of `battles.prompts`. Raises UnknownModel, and DataError when a player
        is neither known nor on the ladder.
        """
        believed = self._vectors | self._beginnings(ladder, like or {})
        players, centre = tuple(believed), np.array(list(believed.values()))
        duels = self._duels(battles, prompts, players)
        precision = ridge.precision(players, len(self._about["features"]), centre.shape[1])
        vectors = pairwise.mode(duels, centre, precision)
        factors: dict[str, NDArray[Any]] = {  # of full rank
            "V": np.eye(len(players), dtype=np.float32),
            "w": np.ones(len(players), np.float32),
            "P": vectors,
            "mean": self._factors["mean"],
            "scale": self._factors["scale"],
        }
        about = self._about | {
            "version": artifacts.new_version(factors),
            "data": dict(data or {"fingerprint": battles.fingerprint}),
            "hyperparameters": asdict(ridge),
            "metrics": {},
            "parent": self.version,
        }
        return Factorization(players, factors, about)

    def loss(self, battles: Battles, prompts: Prompts) -> float:
        """Weighted mean log loss (nats) of what it says of battles between players that it knows."""
        duels = self._duels(battles, prompts, self.players)
        return pairwise.loss(duels, np.array(list(self._vectors.values()))) / float(battles.weight.sum())

    def _beginnings(self, ladder: Sequence[str], like: Mapping[str, str]) -> dict[str, NDArray[np.float64]]:
        """Where the new models of a ladder begin."""
        known_as = [model if self.knows(model) else like.get(model, model) for model in ladder]
        places = self._place(known_as) if ladder else np.zeros((0, 0))
        return {model: place for model, place in zip(ladder, places, strict=True) if not self.knows(model)}

    def _duels(self, battles: Battles, prompts: Prompts, players: Sequence[str]) -> pairwise.Duels:
        if strangers := sorted(set(battles.players) - set(players)):
            raise DataError(f"{self.name} {self.version} has no vector for {strangers[0]!r}, and the ladder no rung")
        number = {player: i for i, player in enumerate(players)}
        a, b = (np.array([number[name] for name in side.tolist()], int) for side in (battles.model_a, battles.model_b))
        x = _inputs(prompts, self._factors["mean"], self._factors["scale"]) if len(prompts) else _NO_INPUTS
        return pairwise.Duels(x, battles.prompt, a, b, battles.outcome, battles.weight)

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
