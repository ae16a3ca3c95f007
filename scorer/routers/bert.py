"""BERT: an encoder reads the prompt and tells whether the strong model's answer wins, ties or loses.

    P(strong wins), P(tie), P(weak wins) = softmax(head(encoder(prompt))),    win rate = P(strong wins) + P(tie) / 2

RouteLLM's form (arXiv 2406.18665, section 4.2) with ties counted half, where upstream gives them to the weak model.
Any Hugging Face encoder with a classification head. Its top layers are tuned by low-rank adapters (arXiv 2106.09685);
the artifact holds those and the head, and names the base that they belong to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from scorer import artifacts, export
from scorer.artifacts import ArtifactError
from scorer.battles import Battles
from scorer.pairing import ThreeWay, peers, three_way
from scorer.routers import adapters, tuning
from scorer.routers.base import Prompts, Scores, spread
from scorer.routers.classifier import Classifier
from scorer.routers.tuning import LEAST_PROMPTS, SAMPLE, Labels, Reading, Told, Tuned
from scorer.tables import DataError

Floats = NDArray[np.float64]
Whole: TypeAlias = Annotated[int, Meta(ge=1)]
Positive: TypeAlias = Annotated[float, Meta(gt=0)]


class Hyperparameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of the model and its fit; the defaults were chosen on held-out training prompts (pretrained/bert/CARD.md)."""

    source: str = export.SOURCE  # a directory, an installed package or a name on the Hugging Face hub
    window: Annotated[int, Meta(ge=16, multiple_of=2)] = 128  # tokens: of a longer text the first and the last half
    layers: Whole = 2  # the topmost, which get adapters; so does what follows them
    rank: Whole = 8
    alpha: Whole = 16  # an adapter adds alpha / rank * B A
    learning_rate: Positive = 5e-4  # at first; it falls evenly, to nothing after the last epoch
    decay: Annotated[float, Meta(ge=0)] = 1e-2  # AdamW's
    batch: Whole = 32  # prompts
    epochs: Whole = 6  # at most
    patience: Whole = 3  # epochs without a better loss on held-out prompts
    holdout: Annotated[float, Meta(gt=0, lt=1)] = 0.1  # of the prompts
    seed: int = 0


_DEFAULTS = Hyperparameters()


class Bert(Tuned):
    """The BERT router. It knows a strong and a weak side and no models. Needs torch and transformers."""

    name = "bert"

    def __init__(self, base: Classifier, tensors: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
        """Makes the base its own: merges the adapters into its weights and gives it the head.

        tensors: the adapters' factors, the head's parameters and perhaps the `sample`'s win rates.
        """
        import torch

        super().__init__(tensors, about)
        self._base = base
        self._window: int = about["hyperparameters"]["window"]
        adapters.merge(base.network, tensors, about["hyperparameters"]["alpha"])
        for name in base.head:
            base.network.get_parameter(name).data = torch.from_numpy(tensors[name])

    def score(self, prompts: Prompts, ladder: Sequence[str]) -> Scores:
        """The win rate for the cheapest model, spread over the ladder.

        Each prompt is a forward pass of its own, so its score is the same to the last bit whatever comes with it.
        """
        win = np.array([self.win_rate(text) for text in prompts.texts], np.float64)
        return Scores(spread(win, len(ladder)))

    def shares(self, text: str) -> Floats:
        """(3,) P(strong wins), P(tie), P(weak wins)."""
        import torch

        with torch.inference_mode():
            logits = self._base.network(torch.tensor([self._base.tokens(text, self._window)])).logits[0]
            shares: Floats = torch.softmax(logits.double(), dim=0).numpy()
        return shares

    def win_rate(self, text: str) -> float:
        """P(strong wins) + P(tie) / 2."""
        strong, tie, _ = self.shares(text)
        return float(strong + tie / 2)

    @classmethod
    def fit(
        cls,
        battles: Battles,
        *,
        strong: str,
        weak: str,
        chosen: Hyperparameters = _DEFAULTS,
        data: Mapping[str, Any] | None = None,
        reading: Reading = lambda done, total: None,
        told: Told = lambda epoch, held_out: None,
    ) -> Bert:
        """Learns what the battles tell of the peers of `strong` against those of `weak`. `data` is recorded in the
        artifact. Needs peft.

        The same input and seed give the same router on the same machine. Raises DataError and EncoderError.
        """
        sides = peers(battles, strong, weak)
        pairing = three_way(battles, *sides)
        if len(pairing.prompt) < LEAST_PROMPTS:
            raise DataError(
                f"{len(pairing.prompt)} prompts tell of {strong} and its peers against {weak} and its; "
                f"fitting takes at least {LEAST_PROMPTS}"
            )
        base = Classifier.load(chosen.source, chosen.seed)
        tokens = [base.tokens(battles.prompts[i], chosen.window) for i in pairing.prompt]
        tensors, metrics = _tune(base, tokens, pairing, chosen, reading, told)
        about = {
            "version": artifacts.new_version(tensors),
            "encoder_id": base.digest,
            "models": (strong, weak),
            "data": dict(data or {"fingerprint": battles.fingerprint})
            | {"strong": list(sides[0]), "weak": list(sides[1]), "compared": len(tokens)},
            "hyperparameters": msgspec.to_builtins(chosen),
            "metrics": metrics,
        }
        return cls(Classifier.load(chosen.source), tensors, about)

    @classmethod
    def load(cls, directory: Path, encoder_id: str | None = None) -> Bert:
        """With the base that it was tuned on, found where it was then; it reads texts, so `encoder_id` is the base's
        digest or None. Raises ArtifactError, also for another base, and EncoderError."""
        manifest, tensors = artifacts.read(directory, router=cls.name, encoder_id=encoder_id)
        where = directory / artifacts.MANIFEST
        try:
            chosen = msgspec.convert(manifest.hyperparameters, Hyperparameters)
        except msgspec.ValidationError as error:
            raise ArtifactError(f"{where}: hyperparameters: {error}") from None
        base = Classifier.load(chosen.source)
        if base.digest != manifest.encoder_id:
            raise ArtifactError(
                f"{where}: was fitted on base {manifest.encoder_id[:12]}, the one found at {chosen.source} is "
                f"{base.digest[:12]}; give that base or train again"
            )
        _check(directory, base, manifest, tensors)
        about = ("version", "encoder_id", "models", "data", "hyperparameters", "metrics", "parent")
        return cls(base, tensors, {name: getattr(manifest, name) for name in about})


def _tune(
    base: Classifier,
    tokens: Sequence[list[int]],
    pairing: ThreeWay,
    chosen: Hyperparameters,
    reading: Reading,
    told: Told,
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The tensors and the metrics of a fit: data, parameters, loss, steps; stopped early on held-out prompts, of which
    the best epoch is kept. Uses the network up."""
    import torch

    torch.manual_seed(chosen.seed)
    generator = np.random.default_rng(chosen.seed)
    rows = tuning.split(len(tokens), chosen.holdout, generator)
    top = _Top(base, tokens, chosen.layers, reading)
    tuned = _parameters(base, chosen)
    optimiser = torch.optim.AdamW(tuned.values(), lr=chosen.learning_rate, weight_decay=chosen.decay)
    steps = chosen.epochs * -(-len(rows[1]) // chosen.batch)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps)

    def step() -> None:
        optimiser.step()
        schedule.step()

    return tuning.tune(
        base.network,
        top.logits,
        Labels(pairing.shares, pairing.weight, np.array([len(ids) for ids in tokens])),
        rows,
        chosen,
        generator,
        optimiser=optimiser,
        step=step,
        kept=lambda: {name: parameter.detach().numpy().copy() for name, parameter in tuned.items()},
        told=told,
    )


class _Top:
    """The network from its topmost layers on. What those below make of each text never changes, so it is made once."""

    def __init__(self, base: Classifier, tokens: Sequence[list[int]], layers: int, reading: Reading) -> None:
        import torch

        class Skipped(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
            def forward(self, hidden: Any, *_: Any, **__: Any) -> Any:
                return hidden

        self._network = base.network
        self._below: list[Any] = []  # (tokens, d) each, in half precision
        stack = base.layers
        cut = max(len(stack) - layers, 0)
        hook = stack[cut].register_forward_pre_hook(lambda _, inputs: self._below.append(inputs[0][0].half()))
        with torch.no_grad():
            for row, ids in enumerate(tokens):
                self._network(torch.tensor([ids]))
                reading(row + 1, len(tokens))
        hook.remove()
        for i in range(cut):
            stack[i] = Skipped()
        stack[cut].register_forward_pre_hook(lambda _, inputs: (self._entering, *inputs[1:]))

    def logits(self, batch: NDArray[np.int64]) -> Any:
        """(batch, 3)."""
        from torch.nn.utils.rnn import pad_sequence

        below = [self._below[i] for i in batch]
        self._entering = pad_sequence(below, batch_first=True).float()
        mask = pad_sequence([hidden.new_ones(len(hidden)).long() for hidden in below], batch_first=True)
        return self._network(input_ids=mask, attention_mask=mask).logits  # any ids will do


def _parameters(base: Classifier, chosen: Hyperparameters) -> dict[str, Any]:
    """What is tuned: the head, and adapters, put in place here, to all other linear maps from the topmost layers on."""
    from peft import LoraConfig, inject_adapter_in_model
    from torch.nn import Linear

    first, names, reached = base.layers[-chosen.layers :][0], [], False
    for name, module in base.network.named_modules():
        reached = reached or module is first
        if reached and isinstance(module, Linear) and f"{name}.weight" not in base.head:
            names.append(name)
    config = LoraConfig(r=chosen.rank, lora_alpha=chosen.alpha, target_modules=names)
    inject_adapter_in_model(config, base.network)
    tuned = {name: base.network.get_parameter(name).requires_grad_() for name in base.head}
    for name in names:
        adapter = base.network.get_submodule(name)
        tuned[name + adapters.A] = adapter.lora_A["default"].weight
        tuned[name + adapters.B] = adapter.lora_B["default"].weight
    return tuned


def _check(
    directory: Path, base: Classifier, manifest: artifacts.Manifest, tensors: Mapping[str, NDArray[Any]]
) -> None:
    """What artifacts.read cannot know: that the tensors fit the base."""
    where = directory / artifacts.TENSORS
    for name in base.head:
        shape = tuple(base.network.get_parameter(name).shape)
        if name not in tensors or tensors[name].shape != shape:
            raise ArtifactError(f"{where}: expected a tensor {name!r} of shape {shape}")
    tuning.check_sample(where, manifest, tensors)
    adapters.check(where, base.network, tensors, (*base.head, SAMPLE))
