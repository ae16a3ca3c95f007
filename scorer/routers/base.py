"""What a router is: encoded prompts in, scores for every model of a ladder out."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]

_CLIP = 4.0


@dataclass(frozen=True)
class Prompts:
    """Encoded prompts: n texts, their unit embeddings (n, d) and raw features (n, f), float32 both."""

    texts: Sequence[str]
    embeddings: NDArray[np.float32]
    features: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, rows: slice) -> Prompts:
        return Prompts(self.texts[rows], self.embeddings[rows], self.features[rows])


@dataclass(frozen=True)
class Scores:
    """Scores of n prompts for the m models of a ladder, strongest first, all in [0, 1].

    win_rates (n, m): P(the strongest model's answer beats model m's), ties counted half. Column 0, the strongest
    against itself, is never compared with a threshold: 1/2 by that definition, 0 from routers that `spread`.
    quality (n, m): P(model m's answer beats the bar), from routers that know it.
    """

    win_rates: NDArray[np.float64]
    quality: NDArray[np.float64] | None = None


def spread(win_rate: NDArray[np.float64], models: int) -> NDArray[np.float64]:
    """(n, models) win rates of a binary router: `win_rate` (n,) for the cheapest, falling evenly to 0 up the ladder.

    The model in place i of m gets win_rate * i / (m - 1).
    """
    return win_rate[:, None] * (np.arange(models) / max(models - 1, 1))


def standardised(features: Features, mean: Features, scale: Features) -> Features:
    """(n, f) features in standard deviations, within four of them: one absurd prompt must not leave the range that was
    seen in training."""
    scaled: Features = np.clip((features - mean) / scale, -_CLIP, _CLIP)
    return scaled


class Encodes(Protocol):
    """What turns texts into Prompts. A text's encoding does not depend on what it was batched with."""

    @property
    def name(self) -> str:
        """Under which artifacts ship that go with it."""
        ...

    @property
    def id(self) -> str:
        """SHA-256 over everything that determines the embeddings."""
        ...

    def encode(self, texts: Sequence[str]) -> Prompts:
        """Embeddings and raw features, in the texts' order."""
        ...


class UnknownModel(ValueError):
    """The ladder names no model that the router can score; the message suggests some that it can."""

    def __init__(self, router: str, ladder: Sequence[str], known: Sequence[str]) -> None:
        closest = [difflib.get_close_matches(model, known, 3, 0.3) for model in ladder]
        suggested = list(dict.fromkeys(name for names in closest for name in names)) or list(known)
        super().__init__(
            f"router {router} knows no model of the ladder ({', '.join(ladder)}); "
            f"set `like:` to one it knows, such as {', '.join(suggested[:8])}"
        )


class Unscorable(Exception):
    """Some prompts cannot be scored now, since what the router needs for them is away; one line that says what."""

    def __init__(self, message: str, rows: Collection[int]) -> None:
        """rows: of those prompts, at least one; the others can be scored."""
        super().__init__(message)
        self.rows = frozenset(rows)


class Router(Protocol):
    """Scores and nothing else: no thresholds, prices or draws. Scoring is thread-safe and never mutates."""

    name: str
    version: str

    def knows(self, model: str) -> bool:
        """Whether the router can score a model by this name, rather than by its neighbours on the ladder."""
        ...

    def score(self, prompts: Prompts, ladder: Sequence[str]) -> Scores:
        """Scores for `ladder`, the models' known names from the strongest to the cheapest. Raises UnknownModel,
        and Unscorable if the router depends on what can be away."""
        ...


def known_as(router: Router, models: Sequence[str], like: Mapping[str, str]) -> tuple[str, ...]:
    """The names that the router knows the models by: their own once it has learned them, else their stand-ins'."""
    return tuple(model if router.knows(model) else like.get(model, model) for model in models)


@runtime_checkable
class ReadsText(Protocol):
    """A router that reads the texts themselves, so that a sample's vectors do not do to calibrate it.

    sample: a sample's name and the win rates (n,) that it gives the cheapest model on it, which the artifact holds; or
    None, and then it is calibrated by command.
    """

    sample: tuple[str, NDArray[np.float32]] | None
