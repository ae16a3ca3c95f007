"""Similarity-weighted ranking: a Bradley-Terry ranking for every prompt, from battles weighted by how like it they are.

No training step: the battles are the router. A ranking sees them only through sums over (player, player) cells, so it
takes one product with the rows, one sum, and Newton's method on as many unknowns as there are players. Two variants:

* `upstream` is RouteLLM's (arXiv 2406.18665, section 4.2, as coded): every battle counts gamma^(1 + s / max s), models
  share tiers, and the score is the tier difference of the strongest model and m. Battles within a tier are dropped.
* `sharp` ranks each model m beside the strongest from the nearest rows alone, those above all on which both fought,
  and shrinks that ranking towards the global one. Every model is a player, the bar gives quality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from scorer import artifacts
from scorer.battles import BAR, Battles
from scorer.features import NAMES
from scorer.routers.base import Prompts, Scores, UnknownModel, standardised
from scorer.routers.bradley_terry import sigmoid, strengths
from scorer.routers.cells import Cells, Floats, copied, gathered, queries
from scorer.routers.tiers import tiers
from scorer.tables import DataError

Positive: TypeAlias = Annotated[float, Meta(gt=0)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]

_TENSORS = {"rows", "count", "pair", "wins", "pairs", "player", "mean", "scale"}
_TOGETHER = 32  # prompts whose similarities are held at once


class Upstream(msgspec.Struct, frozen=True, tag_field="variant", tag="upstream"):
    """RouteLLM's hyperparameters, and the ridge that its regression lacks."""

    gamma: Positive = 10.0
    tiers: Annotated[int, Meta(ge=1)] = 10
    own: tuple[str, ...] = ()  # models that stay players of their own, as the bar always does
    ridge: Positive = 1.0  # on strengths in nats, beside at least `gamma` of weight a battle at similarity 0
    features: ClassVar[float] = 0.0


class Sharp(msgspec.Struct, frozen=True, tag_field="variant", tag="sharp"):
    """The defaults were chosen on held-out training prompts (pretrained/sw/CARD.md)."""

    nearest: Positive = 100.0  # rows; one on which only one of the two models fought counts as `one_sided` of a row
    one_sided: Share = 0.1
    sharpness: Annotated[float, Meta(ge=0)] = 2.0  # a row weighs exp(sharpness * (its similarity - the nearest row's))
    features: Annotated[float, Meta(ge=0)] = 0.5  # length of the standardised features beside the unit embedding
    ridge: Positive = 1.0  # towards the global ranking: the prior precision of a strength in nats


Variant: TypeAlias = Upstream | Sharp


class Similarity:
    """The SW router. Rows are shared between a router and those appended to it."""

    name = "sw"

    def __init__(
        self,
        models: Sequence[str],
        pairs: NDArray[np.int32],
        player: NDArray[np.int32],
        blocks: Sequence[Cells],
        standard: tuple[NDArray[np.float32], NDArray[np.float32]],
        chosen: Variant,
        about: Mapping[str, Any],
    ) -> None:
        """models: names, the bar among them; pairs (p, 2) of models that fought; player (models,): whom each plays as;
        standard: mean and scale (f,) of the features. about: version, encoder_id, features and whatever else the
        artifact records."""
        self.models, self.chosen = tuple(models), chosen
        self.known = tuple(model for model in models if model != BAR)
        self.version: str = about["version"]
        self.metrics: dict[str, Any] = about["metrics"]
        self._number = {model: i for i, model in enumerate(models)}
        self._pairs, self._player, self._blocks, self._standard = pairs, player, tuple(blocks), standard
        self._about = dict(about)
        total = np.zeros((len(pairs), 2))
        for block in blocks:
            total[: len(block.total)] += block.total
        self._ranking = strengths(self._wins([total]), chosen.ridge)[0]  # (players,): the global one

    def knows(self, model: str) -> bool:
        """Whether the model has battles of its own."""
        return model in self.known

    def score(self, prompts: Prompts, ladder: Sequence[str]) -> Scores:
        """`sharp`: win = 1/2 + (quality of the strongest - quality of M) / 2, in the ranking made for that pair;
        `quality` has M's there and, for the strongest, that in a ranking of its own. `upstream`: win rates alone.

        A model without battles gets the mean of its nearest known neighbours on the ladder. Scores do not depend on
        the batch.
        """
        rungs = [i for i, model in enumerate(ladder) if self.knows(model)]
        if not rungs:
            raise UnknownModel(f"{self.name} {self.version}", ladder, self.known)
        known = [self._number[ladder[i]] for i in rungs]
        scored = [self._together(prompts, start, known) for start in range(0, len(prompts), _TOGETHER)]
        win = np.concatenate([np.zeros((0, len(known))), *(scores.win_rates for scores in scored)])
        above = [max((k for k, i in enumerate(rungs) if i <= place), default=0) for place in range(len(ladder))]
        below = [min((k for k, i in enumerate(rungs) if i >= place), default=-1) for place in range(len(ladder))]
        win = (win[:, above] + win[:, below]) / 2
        if isinstance(self.chosen, Upstream):
            return Scores(win)
        quality = np.concatenate([np.zeros((0, len(known))), *(s.quality for s in scored if s.quality is not None)])
        return Scores(win, (quality[:, above] + quality[:, below]) / 2)

    def _together(self, prompts: Prompts, start: int, ladder: Sequence[int]) -> Scores:
        """Of the few prompts from `start` on, for a ladder of known models."""
        few = slice(start, start + _TOGETHER)
        some = Prompts(prompts.texts[few], prompts.embeddings[few], prompts.features[few])
        asked = queries(_vectors(some, *self._standard, self.chosen.features))
        similarity = np.concatenate([block.similarity(asked) for block in self._blocks], axis=1)
        if isinstance(self.chosen, Upstream):
            return self._upstream(self.chosen, similarity, ladder)
        return self._sharp(self.chosen, similarity, ladder)

    def _upstream(self, chosen: Upstream, similarity: Floats, ladder: Sequence[int]) -> Scores:
        sums = []
        for row in similarity:
            most = max(row.max(), 1e-6)  # upstream's normaliser; below it no row is like the prompt
            sums.append(self._summed(chosen.gamma * chosen.gamma ** (row / most)))
        theta = strengths(self._wins(sums), chosen.ridge, start=self._ranking)[:, self._player[ladder]]
        return Scores(sigmoid(theta[:, :1] - theta))

    def _sharp(self, chosen: Sharp, similarity: Floats, ladder: Sequence[int]) -> Scores:
        """Rankings of (strongest, m) for every m of the ladder; that of the strongest with itself is its own."""
        evidence = [self._evidence(ladder[0], model, chosen.one_sided) for model in ladder]
        sums = [self._summed(_nearest(chosen, row, known)) for row in similarity for known in evidence]
        theta = strengths(self._wins(sums), chosen.ridge, self._ranking).reshape(len(similarity), len(ladder), -1)
        quality = sigmoid(theta - theta[:, :, [self._number[BAR]]])
        of_model, of_strongest = quality[:, np.arange(len(ladder)), ladder], quality[:, :, ladder[0]]
        return Scores(0.5 + (of_strongest - of_model) / 2, of_model)

    def _evidence(self, a: int, b: int, one_sided: float) -> Floats:
        """(rows,): 1 where both models fought, `one_sided` where one did, else 0."""
        fought_a, fought_b = (np.concatenate([block.fought(model) for block in self._blocks]) for model in (a, b))
        return np.where(fought_a & fought_b, 1.0, np.where(fought_a | fought_b, one_sided, 0.0))

    def _summed(self, weights: Floats) -> Floats:
        """(pairs, 2): cells under weights of all rows (n,)."""
        ends = np.cumsum([len(block) for block in self._blocks])[:-1]
        parts = np.split(weights, ends)
        return sum((b.summed(w, len(self._pairs)) for b, w in zip(self._blocks, parts, strict=True)), np.zeros(()))

    def _wins(self, sums: Sequence[Floats]) -> Floats:
        """(n, players, players) from n cells of pairs of models; what models of one player won of each other is not
        counted (upstream's regression keeps such rows by mistake, and pulls every tier to the mean)."""
        a, b = self._player[self._pairs].T.astype(np.intp)
        apart, players = a != b, int(self._player.max()) + 1
        places = np.concatenate([(a * players + b)[apart], (b * players + a)[apart]])
        return np.stack(
            [np.bincount(places, cells[apart].T.ravel(), players**2).reshape(players, players) for cells in sums]
        )

    @classmethod
    def fit(
        cls,
        battles: Battles,
        prompts: Prompts,
        *,
        encoder_id: str,
        features: Sequence[str],
        chosen: Variant | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> Similarity:
        """Row i of `prompts` is text i of `battles.prompts`; `data` is recorded in the artifact.

        Fixes the features' standardisation and the tiers; the rest is appending. Raises DataError without battles.
        """
        chosen = Sharp() if chosen is None else chosen
        if not len(battles):
            raise DataError("no battle to learn from")
        models = tuple(sorted({*battles.players, BAR}))
        about = {
            "version": "",
            "encoder_id": encoder_id,
            "features": tuple(features),
            "data": {},
            "hyperparameters": msgspec.to_builtins(chosen),
            "metrics": {},
        }
        standard = prompts.features.mean(0), np.maximum(prompts.features.std(0), np.float32(1e-3))
        player = np.arange(len(models), dtype=np.int32)
        router = cls(models, np.zeros((0, 2), np.int32), player, (), standard, chosen, about)
        router = router.append(battles, prompts, data)
        return router.tiered() if isinstance(chosen, Upstream) else router

    def tiered(self) -> Similarity:
        """`upstream` with tiers made anew, from everything that is known by now."""
        assert isinstance(self.chosen, Upstream)
        shared = self._blocks, self._standard, self.chosen, self._about
        apart = Similarity(self.models, self._pairs, np.arange(len(self.models), dtype=np.int32), *shared)
        return Similarity(self.models, self._pairs, _players(self.models, apart._ranking, self.chosen), *shared)

    def joined_by(self, ladder: Sequence[str], like: Mapping[str, str]) -> Similarity:
        """This router with every rung a player of its own: a new one has fought all the battles of the model that it is
        `like`. One that is like nobody known begins with the bar's and others' first battles against it."""
        router = self
        for model in ladder:
            if not router.knows(model) and router.knows(like.get(model, "")):
                router = router._with_copy(model, like[model])
        return router

    def _with_copy(self, new: str, model: str) -> Similarity:
        number, pairs, blocks = self._number[model], self._pairs, []
        for block in self._blocks:
            with_copy, pairs = copied(block, self._pairs, number, len(self.models))
            blocks.append(with_copy)
        player = np.append(self._player, self._player.max() + 1).astype(np.int32)
        return Similarity((*self.models, new), pairs, player, blocks, self._standard, self.chosen, self._about)

    def append(self, battles: Battles, prompts: Prompts, data: Mapping[str, Any] | None = None) -> Similarity:
        """A router that knows these battles too; the work grows with them, not with what is known already.

        Keeps the standardisation and the tiers; models that are new are players of their own. A prompt that has a row
        gets another one.
        """
        models = (*self.models, *sorted(set(battles.players) - set(self.models)))
        new = np.arange(len(models) - len(self.models), dtype=np.int32) + self._player.max() + 1
        vectors = _vectors(prompts, *self._standard, self.chosen.features)
        block, pairs = gathered(battles, vectors, models, self._pairs)
        about = self._about | {
            "version": artifacts.new_version({"rows": block.rows, "wins": block.wins}),
            "data": dict(data or {"fingerprint": battles.fingerprint}),
            "metrics": {},
            "parent": self.version or None,
        }
        player = np.concatenate([self._player, new])
        blocks = (*self._blocks, block)
        return Similarity(models, pairs, player, blocks, self._standard, self.chosen, about)

    def save(self, directory: Path, metrics: Mapping[str, Any] | None = None) -> Path:
        """Writes the artifact `directory`, with further metrics. Raises ArtifactError."""
        blocks = self._blocks
        tensors = {
            "rows": np.concatenate([block.rows for block in blocks]),
            "count": np.concatenate([block.count for block in blocks]),
            "pair": np.concatenate([block.pair for block in blocks]),
            "wins": np.concatenate([block.wins for block in blocks]),
            "pairs": self._pairs,
            "player": self._player,
            "mean": self._standard[0],
            "scale": self._standard[1],
        }
        about = self._about | {"metrics": self.metrics | dict(metrics or {})}
        return artifacts.write(directory, tensors, router=self.name, models=self.models, **about)

    @classmethod
    def load(cls, directory: Path, encoder_id: str | None, features: Sequence[str] = NAMES) -> Similarity:
        """Raises ArtifactError, also when it was fitted on other features than those that will be extracted."""
        manifest, tensors = artifacts.read(directory, router=cls.name, encoder_id=encoder_id)
        where = directory / artifacts.MANIFEST
        if manifest.features != tuple(features):
            changed = sorted(set(manifest.features) ^ set(features)) or ["their order"]
            raise artifacts.ArtifactError(f"{where}: fitted on other features ({', '.join(changed[:5])}); train again")
        try:
            chosen: Variant = msgspec.convert(manifest.hyperparameters, Upstream | Sharp)
        except msgspec.ValidationError as error:
            raise artifacts.ArtifactError(f"{where}: hyperparameters: {error}") from None
        _check(directory, manifest, tensors, chosen)
        block = Cells(*(tensors[name] for name in ("rows", "count", "pair", "wins", "pairs")))
        about = ("version", "encoder_id", "features", "data", "hyperparameters", "metrics", "parent")
        return cls(
            manifest.models,
            tensors["pairs"],
            tensors["player"],
            (block,),
            (tensors["mean"], tensors["scale"]),
            chosen,
            {name: getattr(manifest, name) for name in about},
        )


def _vectors(prompts: Prompts, mean: NDArray[np.float32], scale: NDArray[np.float32], features: float) -> Floats:
    """(n, d) unit embeddings or, with `features`, (n, d + f) units of [embedding; features * standardised / sqrt f]."""
    x = prompts.embeddings.astype(np.float64)
    if features and mean.size:
        scaled = standardised(prompts.features, mean, scale)
        x = np.concatenate([x, scaled * (features / mean.size**0.5)], axis=1)
    norms = np.sqrt(np.square(x).sum(axis=1, keepdims=True))
    unit: Floats = x / np.maximum(norms, np.finfo(np.float32).tiny)
    return unit


def _nearest(chosen: Sharp, similarity: Floats, evidence: Floats) -> Floats:
    """(rows,) weights: of the nearest rows that together are worth `nearest`, those as near as the last included."""
    weights, rows = np.zeros(len(similarity)), np.flatnonzero(evidence)
    if not len(rows):
        return weights
    near, worth = similarity[rows], evidence[rows]
    order = np.argsort(-near)
    enough = np.flatnonzero(np.cumsum(worth[order]) >= chosen.nearest)
    within = near >= (near[order[enough[0]]] if len(enough) else -np.inf)
    weights[rows[within]] = worth[within] * np.exp(chosen.sharpness * (near[within] - near[order[0]]))
    return weights


def _players(models: Sequence[str], ranking: Floats, chosen: Upstream) -> NDArray[np.int32]:
    """(models,): the bar and `own` models first, each alone, then the tiers of the rest."""
    alone = [i for i, model in enumerate(models) if model == BAR or model in chosen.own]
    rest = [i for i in range(len(models)) if i not in alone]
    player = np.empty(len(models), np.int32)
    player[alone] = np.arange(len(alone))
    player[rest] = len(alone) + tiers(ranking[rest], chosen.tiers)
    return player


def _check(directory: Path, manifest: artifacts.Manifest, tensors: Mapping[str, NDArray[Any]], chosen: Variant) -> None:
    """What artifacts.read cannot know: that the tensors fit each other, the models and the features."""
    where = directory / artifacts.TENSORS
    if missing := sorted(_TENSORS - tensors.keys()):
        raise artifacts.ArtifactError(f"{where}: no tensor {missing[0]!r}")
    n, e, p = (np.atleast_1d(tensors[name]).shape[:1] for name in ("rows", "pair", "pairs"))
    models, features = (len(manifest.models),), (len(manifest.features),)
    shapes = {"rows": (*n, *tensors["rows"].shape[1:2]), "count": n, "pair": e, "wins": (*e, 2), "pairs": (*p, 2)}
    for name, shape in (shapes | {"player": models, "mean": features, "scale": features}).items():
        if tensors[name].shape != shape:
            raise artifacts.ArtifactError(f"{where}: tensor {name!r} is {tensors[name].shape}, expected {shape}")
    for name, below in {"pair": p[0], "pairs": models[0], "player": models[0], "count": e[0] + 1}.items():
        if tensors[name].dtype.kind not in "iu" or not (tensors[name] < below).all() or (tensors[name] < 0).any():
            raise artifacts.ArtifactError(f"{where}: tensor {name!r} is not whole numbers from 0 to {below - 1}")
    if tensors["rows"].dtype != np.int8 or tensors["rows"].ndim != 2 or len(tensors["rows"]) == 0:
        raise artifacts.ArtifactError(f"{where}: tensor 'rows' is not int8 rows")
    if chosen.features and tensors["rows"].shape[1] <= features[0]:
        raise artifacts.ArtifactError(
            f"{where}: tensor 'rows' is {tensors['rows'].shape}, expected d + {features[0]} columns"
        )
    if tensors["count"].sum() != e[0] or (tensors["wins"] < 0).any():
        raise artifacts.ArtifactError(f"{where}: tensors 'count' and 'wins' do not describe {e[0]} entries")
    if BAR not in manifest.models:
        raise artifacts.ArtifactError(f"{directory / artifacts.MANIFEST}: the bar is not among the models")
