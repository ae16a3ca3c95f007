"""Guards: which models can answer a request at all. They come before budgets, rules and routers, and are never passed.

What a caller may not have (a model its key may not use, or without a tag that it needs) it does not get, whatever
happens. What a model cannot do leaves it out, too, unless that leaves nobody: then the strongest may try.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from scorer.models import Model, Size
from scorer.requests import Asked

_ABILITIES = {"images": "no images", "audio": "no audio", "tools": "no tools", "json": "no structured output"}


class Guarded(NamedTuple):
    """The models that are left, strongest first; why others are not; whether the strongest allowed is there although
    a guard speaks against it, since nobody else was left."""

    candidates: tuple[str, ...]
    left_out: dict[str, str]
    forced: bool = False


def narrow(
    models: Mapping[str, Model], asked: Asked, allowed: Collection[str] | None, cooldown: Collection[str]
) -> Guarded | None:
    """None: the caller may have none of them. `allowed` None: all of them."""
    forbidden = {name: why for name, model in models.items() if (why := _forbidden(model, asked.tags, allowed))}
    unable = {
        name: why
        for name, model in models.items()
        if name not in forbidden and (why := ", ".join(_faults(model, asked, cooldown)))
    }
    able = tuple(name for name in models if name not in forbidden and name not in unable)
    if able:
        return Guarded(able, forbidden | unable)
    return Guarded((next(iter(unable)),), forbidden | unable, forced=True) if unable else None


def _forbidden(model: Model, tags: Mapping[str, str], allowed: Collection[str] | None) -> str:
    if allowed is not None and model.name not in allowed:
        return "not allowed"
    return ", ".join(f"not {tag}: {value}" for tag, value in tags.items() if model.tags.get(tag) != value)


def _faults(model: Model, asked: Asked, cooldown: Collection[str]) -> Iterator[str]:
    for ability, lacking in _ABILITIES.items():
        if asked.needs.get(ability) is True and getattr(model, ability) is False:
            yield lacking
    if model.window is not None and (needed := _room(asked.size, model)) > model.window:
        yield f"about {needed:.0f} tokens, its window holds {model.window}"
    if model.name in cooldown:
        yield "in cooldown"


def _room(size: Size, model: Model) -> float:
    """Tokens of the prompt, with room for the answer."""
    return size.tokens_in + (size.most_out or model.answer_tokens)
