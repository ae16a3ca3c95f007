"""Boosted trees on a prompt's embedding and features: the simplest router that learns.

    P(strong wins | x) = sigmoid(prior + sum of trees at x),    x = [embedding; standardised features]
    prior = logit of the mean win rate + slope * standardised log of the length

Fitted to the win rates of one model against another (scorer.pairing), ties counted half, by the logistic loss with soft
labels; XGBoost (arXiv 1603.02754) grows the trees. Where training prompts are few or far, little moves the prior: the
longer, the stronger. It knows two sides and no models, so a longer ladder is climbed in equal steps. Kept is XGBoost's
own binary JSON, as bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scorer import artifacts
from scorer.battles import Battles
from scorer.features import NAMES
from scorer.pairing import ThreeWay, three_way
from scorer.routers.base import Prompts, Scores, spread, standardised
from scorer.routers.grounds import CONSTANT, EMBEDDING, Grounds, Part
from scorer.tables import DataError

if TYPE_CHECKING:
    import xgboost

Floats = NDArray[np.float32]

_LEAST_PROMPTS = 20
_LENGTHS = ("log_chars", "log_words")  # with which a win rate never falls; the first is the prior's


@dataclass(frozen=True)
class Hyperparameters:
    """Of the fit; the defaults were chosen by cross-validation on training prompts (pretrained/minilm/boosted)."""

    trees: int = 500
    depth: int = 2
    learning_rate: float = 0.02
    rows: float = 0.5  # of the prompts, that each tree sees
    columns: float = 0.05  # of the inputs, that each tree sees
    odds: float = 20.0  # that a feature is among them, against a coordinate of the embedding
    least_weight: float = 10.0  # of a leaf: the sum of p(1 - p) over its prompts
    ridge: float = 10.0  # on the leaves
    slope: float = 0.3  # of the prior, in nats for a standard deviation of log length
    seed: int = 0


_DEFAULTS = Hyperparameters()


class Boosted:
    """The boosted-trees router. Needs xgboost."""

    name = "boosted"

    def __init__(self, trees: xgboost.Booster, tensors: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
        """tensors: mean and scale (f,) of the features, prior (2,): intercept and slope, and the trees' bytes.
        about: version, encoder_id, features and whatever else the artifact records."""
        self.version: str = about["version"]
        self.metrics: dict[str, Any] = about["metrics"]
        self._trees, self._tensors, self._about = trees, dict(tensors), dict(about)
        self._length = about["features"].index(_LENGTHS[0])
        trees.set_param({"nthread": 1})  # one prompt is too little to share, and the cores are not ours alone

    def knows(self, model: str) -> bool:
        """It scores places on the ladder, so every name will do."""
        return True

    def score(self, prompts: Prompts, ladder: Sequence[str]) -> Scores:
        """The strong side's win rate for the cheapest model, spread over the ladder."""
        x, prior = _inputs(prompts, self._tensors, self._length)
        win_rate = self._trees.inplace_predict(x, base_margin=prior, validate_features=False)
        return Scores(spread(win_rate.astype(np.float64), len(ladder)))

    def explain(self, prompt: Prompts, ladder: Sequence[str]) -> list[Grounds]:
        """Of the cheapest model's win rate: XGBoost's contributions, which are SHAP values (arXiv 1802.03888), with
        the prior's slope added to that of the length."""
        import xgboost

        x, prior = _inputs(prompt, self._tensors, self._length)
        rows = xgboost.DMatrix(x, base_margin=prior)
        value = self._trees.predict(rows, pred_contribs=True, validate_features=False)[0].astype(np.float64)
        names, d = self._about["features"], prompt.embeddings.shape[1]
        sloped = float(prior[0] - self._tensors["prior"][0])
        value[d + self._length] += sloped
        constant = Part(CONSTANT, float(value[-1]) - sloped)
        parts = Part(EMBEDDING, float(value[:d].sum())), *map(Part, names, value[d:-1].tolist()), constant
        return [Grounds(ladder[-1], "win rate", sum(part.value for part in parts), parts)]

    @classmethod
    def fit(
        cls,
        battles: Battles,
        prompts: Prompts,
        *,
        strong: str,
        weak: str,
        encoder_id: str,
        features: Sequence[str],
        chosen: Hyperparameters = _DEFAULTS,
        data: Mapping[str, Any] | None = None,
    ) -> Boosted:
        """Row i of `prompts` is text i of `battles.prompts`; `data` is recorded in the artifact.

        Learns from the battles of these two, with each other or with the bar.
        The same input and seed give the same router. Raises DataError when there is too little to tell them apart by.
        """
        known = three_way(battles, [strong], [weak])
        _check(known, strong, weak)
        tensors: dict[str, NDArray[Any]] = {
            "mean": prompts.features[known.prompt].mean(axis=0),
            "scale": np.maximum(prompts.features[known.prompt].std(axis=0), 1e-3),
            "prior": np.array([_logit(known), chosen.slope], np.float32),
        }
        x, prior = _inputs(prompts, tensors, features.index(_LENGTHS[0]))
        trees = _grow(x[known.prompt], prior[known.prompt], known, features, chosen)
        tensors["trees"] = np.frombuffer(trees.save_raw("ubj"), np.uint8)
        about = {
            "version": artifacts.new_version(tensors),
            "encoder_id": encoder_id,
            "features": tuple(features),
            "data": dict(data or {"fingerprint": battles.fingerprint})
            | {"strong": strong, "weak": weak, "prompts_of_both": len(known.prompt)},
            "hyperparameters": asdict(chosen),
            "metrics": {},
        }
        return cls(trees, tensors, about)

    def save(self, directory: Path, metrics: Mapping[str, Any] | None = None) -> Path:
        """Writes the artifact `directory`, with further metrics. Raises ArtifactError."""
        about = self._about | {"metrics": self.metrics | dict(metrics or {})}
        return artifacts.write(directory, self._tensors, router=self.name, **about)

    @classmethod
    def load(cls, directory: Path, encoder_id: str | None, features: Sequence[str] = NAMES) -> Boosted:
        """Raises ArtifactError, also when it was fitted on other features than those that will be extracted."""
        manifest, tensors = artifacts.read(directory, router=cls.name, encoder_id=encoder_id)
        if manifest.features != tuple(features):
            changed = sorted(set(manifest.features) ^ set(features)) or ["their order"]
            raise artifacts.ArtifactError(
                f"{directory / artifacts.MANIFEST}: fitted on other features ({', '.join(changed[:5])}); train again"
            )
        about = ("version", "encoder_id", "features", "data", "hyperparameters", "metrics", "parent")
        return cls(_read(directory, manifest, tensors), tensors, {name: getattr(manifest, name) for name in about})


def _grow(x: Floats, prior: Floats, known: ThreeWay, features: Sequence[str], chosen: Hyperparameters) -> Any:
    """Trees for inputs (k, d + f) and priors (k,), in nats, of the prompts in `known`."""
    import xgboost

    # of mean 1, so that `least_weight` and `ridge` mean the same whatever battles weigh
    weight = known.weight / known.weight.mean()
    coordinates = x.shape[1] - len(features)
    odds = [1.0] * coordinates + [chosen.odds] * len(features)
    rising = [0] * coordinates + [int(name in _LENGTHS) for name in features]
    settings = {
        "objective": "binary:logistic",
        "max_depth": chosen.depth,
        "learning_rate": chosen.learning_rate,
        "subsample": chosen.rows,
        "colsample_bytree": chosen.columns,
        "min_child_weight": chosen.least_weight,
        "reg_lambda": chosen.ridge,
        "monotone_constraints": str(tuple(rising)),
        "tree_method": "hist",
        "max_bin": 32,
        "seed": chosen.seed,
        "nthread": 1,
    }
    rows = xgboost.DMatrix(x, known.win_rate, weight=weight, base_margin=prior, feature_weights=odds)
    return xgboost.train(settings, rows, chosen.trees)


def _inputs(prompts: Prompts, tensors: Mapping[str, NDArray[Any]], length: int) -> tuple[Floats, Floats]:
    """x (n, d + f) and prior (n,); `length` is the place of the prior's feature."""
    scaled = standardised(prompts.features, tensors["mean"], tensors["scale"])
    intercept, slope = tensors["prior"]
    return np.concatenate([prompts.embeddings, scaled], axis=1), intercept + slope * scaled[:, length]


def _logit(known: ThreeWay) -> float:
    mean = float(np.average(known.win_rate, weights=known.weight))
    return float(np.log(mean / (1 - mean)))


def _check(known: ThreeWay, strong: str, weak: str) -> None:
    """Raises DataError unless there is something to learn."""
    prompts = len(known.prompt)
    if prompts < _LEAST_PROMPTS:
        raise DataError(f"{prompts} prompts with battles of both {strong} and {weak}; fitting takes {_LEAST_PROMPTS}")
    if np.ptp(known.win_rate) == 0:
        one = f"{known.win_rate[0]:g}"
        raise DataError(f"{strong} against {weak}: a win rate of {one} on every prompt; there is nothing to tell apart")


def _read(directory: Path, manifest: artifacts.Manifest, tensors: Mapping[str, NDArray[Any]]) -> Any:
    """The trees, checked against the other tensors."""
    import xgboost

    where = directory / artifacts.TENSORS
    if missing := {"mean", "scale", "prior", "trees"} - tensors.keys():
        raise artifacts.ArtifactError(f"{where}: no tensor {min(missing)!r}")
    trees = xgboost.Booster()
    try:
        trees.load_model(bytearray(tensors["trees"].tobytes()))
    except xgboost.core.XGBoostError as error:
        reason = str(error).splitlines()[0]
        raise artifacts.ArtifactError(f"{where}: no trees that this xgboost reads: {reason}") from None
    features = len(manifest.features)
    if trees.num_features() <= features:
        raise artifacts.ArtifactError(f"{where}: trees of {trees.num_features()} inputs, for {features} features")
    for name, shape in {"mean": (features,), "scale": (features,), "prior": (2,)}.items():
        if tensors[name].shape != shape:
            raise artifacts.ArtifactError(f"{where}: tensor {name!r} is {tensors[name].shape}, expected {shape}")
    return trees
