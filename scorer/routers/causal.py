"""A causal language model that grades: how would the weak model's answer to this prompt be scored, from 1 to 5?

RouteLLM's form (arXiv 2406.18665, section 4.2): five label tokens, win rate = P(1) + P(2) + P(3). The tokens are only
ever predicted, once, at the end of the prompt: so of the vocabulary's head their five rows are all that is computed,
after one pass without decoding. The layers above `depth` are left out, those under it are tuned by low-rank adapters
(arXiv 2106.09685), and the rubric before the prompt is read once, at loading.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scorer import artifacts, bases
from scorer.battles import Battles
from scorer.routers import adapters, prefill, tuning
from scorer.routers.base import Prompts, Scores, spread
from scorer.routers.grades import SCORES, Graded, grades, thinned
from scorer.routers.tuning import LEAST_PROMPTS, SAMPLE, Labels, Reading, Told, Tuned
from scorer.tables import DataError

if TYPE_CHECKING:
    import torch

    from scorer.bases import Base

RUBRIC = (
    "You grade how hard requests are. Predict the score, from 1 to 5, that an expert would give to a small assistant's "
    "answer to the next request. 5: correct and complete. 3: partly right. 1: wrong. Long reasoning, exact calculation "
    "and rare knowledge lower the score. Reply with the score alone."
)
RUBRIC_VERSION = 1  # raised with every change of it: artifacts were tuned to its words

_LOSES = 3  # the highest score that is no win for the weak model
_ROWS = "rows"  # a tensor beside the adapters


@dataclass(frozen=True)
class Hyperparameters:
    """Of the model and its fit; the defaults were chosen on held-out training prompts (pretrained/causal/CARD.md)."""

    depth: int = 16  # layers used of the base's; more than it has: all
    tuned: int = 3  # of them, the topmost, that get adapters
    rank: int = 8
    alpha: int = 16  # an adapter adds alpha / rank * B A
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    window: int = 512  # tokens of a prompt at serving; of a longer one the first and the last half
    cut: int = 128  # the same in training
    prompts: int = 2100  # at most, from the smallest source on
    learning_rate: float = 1e-3  # of the adapters
    rows_rate: float = 3e-4  # of the labels' rows
    decay: float = 1e-2  # AdamW's
    batch: int = 16  # prompts
    epochs: int = 5  # at most
    patience: int = 2  # epochs without a better loss on held-out prompts
    holdout: float = 0.1  # of the prompts
    halved: bool = True  # bfloat16 in the fit; serving is float32
    seed: int = 0


_DEFAULTS = Hyperparameters()


class Causal(Tuned):
    """The causal LLM router. Needs torch and transformers."""

    name = "causal"

    def __init__(self, base: Base, tensors: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
        """Makes the base its own: cuts it at its depth and merges the adapters into its weights.

        tensors: rows (5, d), the adapters' factors and perhaps the `sample`'s win rates.
        """
        import torch

        super().__init__(tensors, about)
        self.base = base
        self._window = about["hyperparameters"]["window"]
        self._layers = _cut(base.trunk, about["hyperparameters"]["depth"])
        self._rows = torch.from_numpy(tensors[_ROWS].astype(np.float32))
        adapters.merge(base.trunk, tensors, about["hyperparameters"]["alpha"])
        with torch.no_grad():
            before, self._after = base.frame(RUBRIC)
            _, self._prefix = prefill.read_prefix(base.trunk, self._layers, prefill.embed(base.trunk, [before]))

    def score(self, prompts: Prompts, ladder: Sequence[str]) -> Scores:
        """The win rate against the weak side for the cheapest model, spread over the ladder.

        Each prompt is a pass of its own, so its score is the same to the last bit whatever comes with it.
        """
        win = np.array([self.win_rate(text) for text in prompts.texts], np.float64)
        return Scores(spread(win, len(ladder)))

    def win_rate(self, text: str) -> float:
        """P(1) + P(2) + P(3)."""
        return float(self.labels(text)[:_LOSES].sum())

    def labels(self, text: str) -> NDArray[np.float64]:
        """(5,) probabilities of the scores 1 to 5."""
        import torch

        with torch.inference_mode():
            ids = [*self.base.tokens(text, self._window), *self._after]
            hidden = prefill.embed(self.base.trunk, [ids])
            last = prefill.read(self.base.trunk, self._layers, hidden, self._prefix)[0, -1]
            logits = self._rows @ self.base.trunk.norm(last)
            probabilities: NDArray[np.float64] = torch.softmax(logits.double(), dim=0).numpy()
        return probabilities

    @classmethod
    def fit(
        cls,
        battles: Battles,
        *,
        base: Base,
        weak: Collection[str],
        chosen: Hyperparameters = _DEFAULTS,
        data: Mapping[str, Any] | None = None,
        reading: Reading = lambda done, total: None,
        told: Told = lambda epoch, held_out: None,
    ) -> Causal:
        """Learns what the bar made of the `weak` models' answers. `data` is recorded in the artifact. Needs peft.

        The base becomes the router's own. The same input and seed give the same router on the same machine. Raises
        DataError.
        """
        graded = thinned(grades(battles, weak), chosen.prompts, chosen.seed)
        if len(graded.texts) < LEAST_PROMPTS:
            raise DataError(
                f"{len(graded.texts)} prompts with battles of {', '.join(sorted(weak)[:5])} against the bar; "
                f"fitting takes at least {LEAST_PROMPTS}"
            )
        tensors, metrics = _tune(base, graded, chosen, reading, told)
        about = {
            "version": artifacts.new_version(tensors),
            "encoder_id": base.digest,
            "data": dict(data or {"fingerprint": battles.fingerprint})
            | {"weak": sorted(weak), "graded": len(graded.texts)},
            "hyperparameters": asdict(chosen) | {"base": base.source, "rubric": RUBRIC_VERSION},
            "metrics": metrics,
        }
        return cls(base, tensors, about)

    @classmethod
    def load(cls, directory: Path, encoder_id: str | None = None, *, base: Base | None = None) -> Causal:
        """With the base that it was tuned on, found where it was then unless it is given; it reads texts, so
        `encoder_id` is the base's digest or None. Raises ArtifactError, also for another base, and EncoderError."""
        manifest, tensors = artifacts.read(directory, router=cls.name, encoder_id=encoder_id)
        where = directory / artifacts.MANIFEST
        chosen = manifest.hyperparameters
        if chosen.get("rubric") != RUBRIC_VERSION:
            raise artifacts.ArtifactError(
                f"{where}: was tuned to rubric {chosen.get('rubric')}, this version has {RUBRIC_VERSION}; train again"
            )
        if base is None:
            _same_base(where, manifest.encoder_id, chosen["base"], bases.digest(bases.find(chosen["base"])))
            base = bases.load(chosen["base"])
        _same_base(where, manifest.encoder_id, base.source, base.digest)
        _check(directory / artifacts.TENSORS, base, manifest, tensors)
        about = ("version", "encoder_id", "data", "hyperparameters", "metrics", "parent")
        return cls(base, tensors, {name: getattr(manifest, name) for name in about})


def _tune(
    base: Base, graded: Graded, chosen: Hyperparameters, reading: Reading, told: Told
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Tensors and metrics of a fit: adapters on the topmost layers and the labels' rows, stopped early on held-out
    prompts, of which the best epoch is kept. What the layers below make of a prompt is computed once."""
    import torch

    torch.manual_seed(chosen.seed)
    generator = np.random.default_rng(chosen.seed)
    layers = _cut(base.trunk, chosen.depth)
    upper = layers[-chosen.tuned :]
    precision = torch.autocast("cpu", torch.bfloat16, enabled=chosen.halved)
    with precision:
        beneath, prompts = _beneath(base, graded.texts, layers[: -chosen.tuned], chosen, generator, reading)
    lengths = np.array([len(hidden) for hidden in prompts])
    parts = tuning.split(len(prompts), chosen.holdout, generator)
    factors = adapters.attach(base.trunk, upper, chosen.targets, chosen.rank, chosen.alpha)
    rows = torch.nn.Parameter(torch.zeros(SCORES, beneath.shape[-1]))
    optimiser = torch.optim.AdamW(
        [{"params": list(factors.values()), "lr": chosen.learning_rate}, {"params": [rows], "lr": chosen.rows_rate}],
        weight_decay=chosen.decay,
    )

    def logits(batch: NDArray[np.int64]) -> torch.Tensor:
        hidden = torch.nn.utils.rnn.pad_sequence([prompts[i] for i in batch], batch_first=True).float()
        with precision:
            _, ahead = prefill.read_prefix(base.trunk, upper, beneath)
            read = prefill.read(base.trunk, upper, hidden, ahead)
        last = read[torch.arange(len(batch)), lengths[batch] - 1].float()
        found: torch.Tensor = base.trunk.norm(last) @ rows.T
        return found

    def kept() -> tuning.Tensors:
        tuned = {name: factor.detach().numpy().astype(np.float16) for name, factor in factors.items()}
        return tuned | {_ROWS: rows.detach().numpy().copy()}

    labels = Labels(graded.shares, graded.weight, lengths)
    try:
        return tuning.tune(
            base.trunk,
            logits,
            labels,
            parts,
            chosen,
            generator,
            optimiser=optimiser,
            step=optimiser.step,
            kept=kept,
            told=told,
        )
    finally:
        adapters.detach(base.trunk, factors)


def _beneath(
    base: Base,
    texts: Sequence[str],
    layers: range,
    chosen: Hyperparameters,
    generator: np.random.Generator,
    reading: Reading,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """What the untuned layers make of the prefix (1, tokens, d) and of each prompt (tokens, d), those in float16."""
    import torch

    before, after = base.frame(RUBRIC)
    tokens = [[*base.tokens(text, chosen.cut), *after] for text in texts]
    lengths = np.array([len(ids) for ids in tokens])
    made: dict[int, torch.Tensor] = {}
    with torch.no_grad():
        beneath, prefix = prefill.read_prefix(base.trunk, layers, prefill.embed(base.trunk, [before]))
        for batch in tuning.batches(np.arange(len(tokens)), lengths, chosen.batch, generator):
            hidden = prefill.embed(base.trunk, [tokens[i] for i in batch])
            for i, row in zip(batch.tolist(), prefill.read(base.trunk, layers, hidden, prefix), strict=True):
                made[i] = row[: lengths[i]].half()
            reading(len(made), len(tokens))
    return beneath, [made[i] for i in range(len(tokens))]


def _cut(trunk: Any, depth: int) -> range:
    """Leaves out the layers from `depth` on; returns those that are left."""
    trunk.layers = trunk.layers[:depth]
    return range(len(trunk.layers))


def _same_base(where: Path, tuned_on: str, source: str, digest: str) -> None:
    if tuned_on != digest:
        raise artifacts.ArtifactError(
            f"{where}: was tuned on a base with weights {tuned_on[:12]}, those of {source} are {digest[:12]}; "
            f"give that base or train again{bases.alternative(source)}"
        )


def _check(where: Path, base: Base, manifest: artifacts.Manifest, tensors: Mapping[str, NDArray[Any]]) -> None:
    width = base.trunk.norm.weight.shape[0]
    if _ROWS not in tensors or tensors[_ROWS].shape != (SCORES, width):
        raise artifacts.ArtifactError(f"{where}: expected a tensor {_ROWS!r} of shape ({SCORES}, {width})")
    tuning.check_sample(where, manifest, tensors)
    adapters.check(where, base.trunk, tensors, (_ROWS, SAMPLE))
