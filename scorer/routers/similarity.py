"""Similarity-weighted ranking: a Bradley-Terry ranking for every prompt, from battles weighted by how like it they are.

No training step: the battles are the router. A ranking sees them only through sums over (player, player) cells, so it
takes one product with the rows, one sum, and Newton's method on as many unknowns as there are players. Two variants:

* `upstream` is RouteLLM's (arXiv 2406.18665, section 4.2, as coded): every battle counts gamma^(1 + s / max s), models
  share tiers, and the score is the tier difference of the strongest model and m. Battles within a tier are dropped.
* `sharp` ranks each model m beside the strongest from the nearest rows alone, those above all on which both fought,
  and shrinks that ranking towards the global one. Every model is a player, the bar gives quality.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from scorer import artifacts
from scorer.battles import BAR, Battles
from scorer.features import NAMES
from scorer.routers.base import Prompts, Scores, UnknownModel
from scorer.routers.bradley_terry import curvature, sigmoid, strengths
from scorer.routers.cells import Cells, Floats, check, copied, gathered, joined, queries, units
from scorer.routers.coreset import Remainder, bernstein, off_line, thinned
from scorer.routers.grounds import GLOBAL, OTHERS, Grounds, Part, Score
from scorer.routers.neighbours import Rows
from scorer.routers.origins import Origins
from scorer.routers.tiers import players
from scorer.routers.variants import Sharp, Upstream, Variant
from scorer.tables import DataError

Gather = Callable[[Battles, Floats, Sequence[str], NDArray[np.int32]], tuple[Cells, NDArray[np.int32]]]

_TOGETHER = 32  # prompts whose similarities are held at once,
_HELD = 2**22  # or fewer, so that these do not leave the memory's fastest parts behind


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
        origins: Origins,
        remainder: Remainder | None = None,
    ) -> None:
        """models: names, the bar among them; pairs (p, 2) of models that fought; player (models,): whom each plays as;
        standard: mean and scale (f,) of the features. about: version, encoder_id, features and whatever else the
        artifact records. origins: of all rows. remainder: what they lack, where they are a coreset."""
        self.models, self.chosen = tuple(models), chosen
        self.known = tuple(model for model in models if model != BAR)
        self.version: str = about["version"]
        self.metrics: dict[str, Any] = about["metrics"]
        self._number = {model: i for i, model in enumerate(models)}
        self._pairs, self._player, self._blocks, self._standard = pairs, player, tuple(blocks), standard
        self._about, self._origins, self._remainder = dict(about), origins, remainder
        total = np.zeros((len(pairs), 2))
        for part in (*(block.total for block in blocks), *([remainder.total] if remainder else [])):
            total[: len(part)] += part
        players, (a, b) = int(player.max()) + 1, player[pairs].T.astype(np.intp)
        self._places = np.where(a == b, players**2, [a * players + b, b * players + a]).T.ravel()
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
        few = max(1, min(_TOGETHER, _HELD // sum(map(len, self._blocks))))
        scored = [self._together(prompts[at : at + few], known) for at in range(0, len(prompts), few)]
        win = np.concatenate([np.zeros((0, len(known))), *(scores.win_rates for scores in scored)])
        above = [max((k for k, i in enumerate(rungs) if i <= place), default=0) for place in range(len(ladder))]
        below = [min((k for k, i in enumerate(rungs) if i >= place), default=-1) for place in range(len(ladder))]
        win = (win[:, above] + win[:, below]) / 2
        if isinstance(self.chosen, Upstream):
            return Scores(win)
        quality = np.concatenate([np.zeros((0, len(known))), *(s.quality for s in scored if s.quality is not None)])
        return Scores(win, (quality[:, above] + quality[:, below]) / 2)

    def _together(self, prompts: Prompts, ladder: Sequence[int]) -> Scores:
        """Of a few prompts, for a ladder of known models."""
        (asked, similarity), chosen = self._similarities(prompts), self.chosen
        if isinstance(chosen, Sharp):
            return self._sharp(chosen, similarity, ladder)
        sums = [self._cells(chosen.weights(row), row, query) for row, query in zip(similarity, asked, strict=True)]
        theta = strengths(self._wins(sums), chosen.ridge, start=self._ranking)[:, self._player[ladder]]
        return Scores(sigmoid(theta[:, :1] - theta))

    def _similarities(self, prompts: Prompts) -> tuple[NDArray[np.float32], Floats]:
        """The prompts' vectors (n, d), and (n, rows)."""
        asked = queries(units(prompts, *self._standard, self.chosen.features))
        return asked, np.concatenate([block.similarity(asked) for block in self._blocks], axis=1)

    def _sharp(self, chosen: Sharp, similarity: Floats, ladder: Sequence[int]) -> Scores:
        """Rankings of (strongest, m) for every m of the ladder; that of the strongest with itself is its own."""
        evidence = [self._evidence(ladder[0], model, chosen.one_sided) for model in ladder]
        sums = [self._summed(chosen.weights(row, known)) for row in similarity for known in evidence]
        theta = strengths(self._wins(sums), chosen.ridge, self._ranking).reshape(len(similarity), len(ladder), -1)
        quality = sigmoid(theta - theta[:, :, [self._number[BAR]]])
        of_model, of_strongest = quality[:, np.arange(len(ladder)), ladder], quality[:, :, ladder[0]]
        return Scores(0.5 + (of_strongest - of_model) / 2, of_model)

    def explain(self, prompt: Prompts, ladder: Sequence[str]) -> list[Grounds]:
        """Of the qualities (`upstream`: of win rates), each in the ranking that it is from."""
        known = [self._number[model] for model in ladder if self.knows(model)]
        if not known:
            raise UnknownModel(f"{self.name} {self.version}", ladder, self.known)
        (query,), (similarity,) = self._similarities(prompt)
        chosen = self.chosen
        if isinstance(chosen, Upstream):
            weights = chosen.weights(similarity)
            cells = self._cells(weights, similarity, query)
            return [self._grounds(similarity, weights, cells, known[0], model) for model in known[1:]]
        evidence = [self._evidence(known[0], model, chosen.one_sided) for model in known]
        near = zip((chosen.weights(similarity, one) for one in evidence), known, strict=True)
        return [self._grounds(similarity, one, self._summed(one), known[0], model) for one, model in near]

    def _grounds(self, similarity: Floats, weights: Floats, cells: Floats, strongest: int, model: int) -> Grounds:
        """In the ranking made of these cells, under these weights (rows,)."""
        tiered = isinstance(self.chosen, Upstream)
        centre = np.zeros(len(self._ranking)) if tiered else self._ranking
        theta = strengths(self._wins([cells]), self.chosen.ridge, centre, self._ranking)[0]
        one, other = self._player[[strongest, model] if tiered else [model, self._number[BAR]]]
        rows = self._rows()
        value = weights * rows.surplus(theta, _apart(len(theta), one, other)) / self.chosen.ridge
        near = rows.nearest(weights, value, similarity, (strongest, model))
        total, everywhere = float(theta[one] - theta[other]), float(centre[one] - centre[other])
        rest = total - everywhere - sum(neighbour.value for neighbour in near)
        of: Score = "win rate" if tiered else "quality"
        return Grounds(self.models[model], of, total, (Part(GLOBAL, everywhere), Part(OTHERS, rest)), near)

    def doubt(self, prompts: Prompts, strong: str, weak: str, delta: float = 1e-3) -> Floats:
        """(n,): how far `upstream`'s win rate of strong and weak is from that of all rows, kept or not, at most; with
        probability `delta` it is farther (routers.coreset)."""
        assert isinstance(self.chosen, Upstream)
        chance, rows, ridge = self._chance(), self._rows(), self.chosen.ridge
        one, other = self._player[[self._number[strong], self._number[weak]]]
        doubts = []
        for query, similarity in zip(*self._similarities(prompts), strict=True):
            weights = self.chosen.weights(similarity)
            wins = self._wins([self._cells(weights, similarity, query)])
            theta = strengths(wins, ridge, start=self._ranking)[0]
            phi = np.linalg.solve(curvature(wins[0], theta, ridge), _apart(len(theta), one, other))
            terms = off_line(weights, similarity) * rows.surplus(theta, phi.astype(np.float64, copy=False))
            doubts.append(bernstein(terms, chance, delta) / 4)
        return np.array(doubts)

    def _chance(self) -> NDArray[np.float32]:
        """(rows,): with which each was kept."""
        rows = sum(map(len, self._blocks))
        return self._remainder.of_rows(rows) if self._remainder else np.ones(rows, np.float32)

    def _rows(self) -> Rows:
        return Rows(self.models, self._pairs, self._player, self._blocks, self._origins)

    def _evidence(self, a: int, b: int, one_sided: float) -> Floats:
        """(rows,): 1 where both models fought, `one_sided` where one did, else 0."""
        fought_a, fought_b = (np.concatenate([block.fought(model) for block in self._blocks]) for model in (a, b))
        return np.where(fought_a & fought_b, 1.0, np.where(fought_a | fought_b, one_sided, 0.0))

    def _cells(self, weights: Floats, similarity: Floats, query: NDArray[np.float32]) -> Floats:
        """(pairs, 2): what all rows come to, kept or not."""
        rest = self._remainder.summed(weights, similarity, query, len(self._pairs)) if self._remainder else 0.0
        return self._summed(weights) + rest

    def _summed(self, weights: Floats) -> Floats:
        """(pairs, 2): cells under weights of all rows (n,)."""
        ends = np.cumsum([len(block) for block in self._blocks])[:-1]
        parts = np.split(weights, ends)
        return sum((b.summed(w, len(self._pairs)) for b, w in zip(self._blocks, parts, strict=True)), np.zeros(()))

    def _wins(self, sums: Sequence[Floats]) -> Floats:
        """(n, players, players) from n cells of pairs of models; what models of one player won of each other is not
        counted (upstream's regression keeps such rows by mistake, and pulls every tier to the mean)."""
        players = int(self._player.max()) + 1
        won = [np.bincount(self._places, cells.ravel(), players**2 + 1)[:-1] for cells in sums]
        return np.stack(won).reshape(-1, players, players).astype(np.float64, copy=False)

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
        gather: Gather = gathered,
    ) -> Similarity:
        """Row i of `prompts` is text i of `battles.prompts`; `data` is recorded in the artifact; gather: how its cells
        are made, all at once or in shards.

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
        nothing = np.zeros((0, 2), np.int32), player, ()
        router = cls(models, *nothing, standard, chosen, about, Origins.unknown(0))
        router = router.append(battles, prompts, data, gather)
        return router.tiered() if isinstance(chosen, Upstream) else router

    def tiered(self) -> Similarity:
        """`upstream` with tiers made anew, from everything that is known by now."""
        assert isinstance(self.chosen, Upstream)
        shared = self._blocks, self._standard, self.chosen, self._about, self._origins, self._remainder
        apart = Similarity(self.models, self._pairs, np.arange(len(self.models), dtype=np.int32), *shared)
        alone = {BAR, *self.chosen.own}
        player = players(self.models, apart._ranking, alone, self.chosen.tiers)
        return Similarity(self.models, self._pairs, player, *shared)

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
        remainder = self._remainder.copied(self._pairs, number) if self._remainder else None
        shared = self._standard, self.chosen, self._about, self._origins, remainder
        return Similarity((*self.models, new), pairs, player, blocks, *shared)

    def thinned(self) -> Similarity:
        """`upstream` with about `most_rows` that stand for all (routers.coreset)."""
        assert isinstance(self.chosen, Upstream)
        block, remainder, kept = thinned(self._blocks, self._pairs, self._remainder, self.chosen.most_rows)
        shared = self._standard, self.chosen, self._about, self._origins.taken(kept), remainder
        return Similarity(self.models, self._pairs, self._player, (block,), *shared)

    def append(
        self,
        battles: Battles,
        prompts: Prompts,
        data: Mapping[str, Any] | None = None,
        gather: Gather = gathered,
    ) -> Similarity:
        """A router that knows these battles too; the work grows with them, not with what is known already.

        Keeps the standardisation and the tiers; models that are new are players of their own. A prompt that has a row
        gets another one.
        """
        models = (*self.models, *sorted(set(battles.players) - set(self.models)))
        new = np.arange(len(models) - len(self.models), dtype=np.int32) + self._player.max() + 1
        vectors = units(prompts, *self._standard, self.chosen.features)
        block, pairs = gather(battles, vectors, models, self._pairs)
        about = self._about | {
            "version": artifacts.new_version({"rows": block.rows, "wins": block.wins}),
            "data": dict(data or {"fingerprint": battles.fingerprint}),
            "metrics": {},
            "parent": self.version or None,
        }
        player = np.concatenate([self._player, new])
        blocks = (*self._blocks, block)
        origins = self._origins.joined(Origins.of(battles))
        shared = self._standard, self.chosen, about, origins, self._remainder
        router = Similarity(models, pairs, player, blocks, *shared)
        many = isinstance(self.chosen, Upstream) and sum(map(len, blocks)) > self.chosen.most_rows
        return router.thinned() if many else router

    def save(self, directory: Path, metrics: Mapping[str, Any] | None = None) -> Path:
        """Writes the artifact `directory`, with further metrics. Raises ArtifactError."""
        whole = joined(self._blocks, self._pairs)
        tensors = {
            "rows": whole.rows,
            "count": whole.count,
            "pair": whole.pair,
            "wins": whole.wins,
            "pairs": self._pairs,
            "player": self._player,
            "mean": self._standard[0],
            "scale": self._standard[1],
        }
        tensors |= self._origins.tensors() | (self._remainder.tensors() if self._remainder else {})
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
        check(directory, manifest, tensors, bool(chosen.features))
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
            Origins.read(directory, tensors, len(block)),
            Remainder.read(directory, tensors, len(tensors["pairs"])),
        )


def _apart(players: int, one: int, other: int) -> Floats:
    """(players,): 1 for one, -1 for the other."""
    numbers = np.arange(players)
    return np.asarray(1.0 * (numbers == one) - (numbers == other), np.float64)
