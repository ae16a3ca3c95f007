"""Grounds: what a router's score of one prompt rests on, as parts that sum to it.

In nats, where a score is a sum: sigmoid(total) is the score, total = sum of the parts + sum of the neighbours' values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from scorer.routers.base import Prompts

CONSTANT, EMBEDDING = "constant", "embedding"  # parts beside those that are features' names
GLOBAL, OTHERS = "ranking of all battles", "other prompts"  # parts beside neighbours

Score: TypeAlias = Literal["quality", "win rate"]


class Part(NamedTuple):
    """What something named adds to a total, in nats."""

    name: str
    value: float


@dataclass(frozen=True)
class Neighbour:
    """A prompt with known battles. similarity: its cosine; share: of the weight of all of them, in (0, 1]; value: what
    it adds to the total, in nats; won: by model, the share that it won of its battles there; source: where the first of
    them is from; text_hash: the prompt's SHA-256. The last two are '' where the artifact does not say."""

    similarity: float
    share: float
    value: float
    won: Mapping[str, float]
    source: str = ""
    text_hash: str = ""


@dataclass(frozen=True)
class Grounds:
    """Of one model's score, by the name that the router knows it by. `of`: which of its scores. neighbours: those with
    the most weight, first."""

    model: str
    of: Score
    total: float
    parts: tuple[Part, ...]
    neighbours: tuple[Neighbour, ...] = ()


@runtime_checkable
class Explains(Protocol):
    """A router that can say what its scores rest on."""

    def explain(self, prompt: Prompts, ladder: Sequence[str]) -> list[Grounds]:
        """Of one prompt, strongest model first; none of a model whose score is made of its neighbours' on the ladder.
        Raises UnknownModel."""
        ...


def shortened(grounds: Sequence[Grounds], most: int) -> list[Grounds]:
    """With the same `most` parts at most in each: those that set the models furthest apart, the rest as one. The
    parts of all must have the same names."""
    if not grounds or len(grounds[0].parts) <= most:
        return list(grounds)
    columns = {parts[0].name: [part.value for part in parts] for parts in zip(*(g.parts for g in grounds), strict=True)}
    order = sorted(columns, key=lambda name: -_apart(columns[name]))
    return [_shortened(one, order[: most - 1]) for one in grounds]


def _apart(values: Sequence[float]) -> float:
    return max(values) - min(values) if len(values) > 1 else abs(values[0])


def _shortened(grounds: Grounds, names: Sequence[str]) -> Grounds:
    by_name = dict(grounds.parts)
    rest = sum(value for name, value in grounds.parts if name not in names)
    others = Part(f"{len(by_name) - len(names)} others", rest)
    return replace(grounds, parts=(*(Part(name, by_name[name]) for name in names), others))
