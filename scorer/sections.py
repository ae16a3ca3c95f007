"""The sections of config.yaml, each a frozen structure; a fault that types cannot say is a ValueError of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

ENCODERS = ("minilm", "static")

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Weight = Annotated[float, msgspec.Meta(ge=0, le=1)]
Key = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]+$")]
Dollars = Annotated[float, msgspec.Meta(ge=0)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every part of the configuration: immutable, and strict about its keys."""


class Rung(Section, frozen=True):
    """One model of the ladder."""

    model: Name  # a LiteLLM model group
    like: Name | None = None  # the model that the routers know, where this one's name is new to them


def _check_url(url: str) -> None:
    """Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:  # or ValueError: no port
        raise ValueError(f"{url!r} is no http:// or https:// address")


class EmbeddingsConfig(Section, frozen=True):
    """An OpenAI-compatible endpoint, for RouteLLM checkpoints that read prompts through one (docs/routellm.md)."""

    url: str = "https://api.openai.com/v1"  # /embeddings is appended
    model: Name = "text-embedding-3-small"
    key: Key | None = None
    timeout_ms: Annotated[int, msgspec.Meta(ge=10, le=600_000)] = 250  # of a call with its retries; below the plugin's

    def __post_init__(self) -> None:
        _check_url(self.url)


class RouterConfig(Section, frozen=True):
    """Where a router's artifact lies: `pretrained` (shipped with the package) or a directory."""

    artifact: str = "pretrained"
    embeddings: EmbeddingsConfig | None = None  # for RouteLLM's mf and sw
    tokenizer: Path | None = None  # the directory of RouteLLM's causal LLM's, which is not published with it


class EncoderConfig(Section, frozen=True):
    """What prompts are read through; its name alone will do. Without a directory: `static` as it ships, and of the
    exported sentence encoders in the cache the one that the routers were fitted with."""

    name: str = "minilm"
    directory: Path | None = None
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)] | None = None


class Limits(Section, frozen=True):
    """What protects the daemon from its callers."""

    body_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 16 * 2**20
    queue: Annotated[int, msgspec.Meta(ge=1)] = 1024  # requests waiting for one router; beyond it 503
    batch: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 32
    unwritten: Annotated[int, msgspec.Meta(ge=1)] = 10_000  # decisions waiting to be written


class Signals(Section, frozen=True):
    """What an implicit signal against an answer weighs, beside a person's rating, which weighs 1; 0: it is ignored."""

    regenerated: Weight = 0.3  # the same was asked again within a minute of the answer
    disconnected: Weight = 0.1  # the client left before the end
    length: Weight = 0.1  # the answer was cut at the token limit
    error: Weight = 0.2  # the provider failed


class Retrain(Section, frozen=True):
    """When routers are refitted from what was logged, and how ratings count."""

    cron: str | None = "0 3 * * *"  # minute hour day month weekday; null: by `routerd retrain` alone
    timezone: str = "UTC"
    held_out: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.2  # of the ratings, the newest, to compare versions on
    half_life_days: Annotated[float, msgspec.Meta(gt=0)] | None = None  # a rating this old counts half
    most_per_user: Annotated[float, msgspec.Meta(gt=0)] | None = None  # what all ratings of one user count together
    sources: dict[str, Weight] = {}  # what a rating from this source counts; 1 unless told


class JudgeConfig(Section, frozen=True):
    """Who judges a share of the traffic, and for how much (docs/judge.md)."""

    model: Name  # a model group of the endpoint
    daily_dollars: Dollars  # at most, from midnight to midnight UTC
    prices: dict[str, tuple[Dollars, Dollars]]  # dollars a million tokens in and out: the judge's, and the ladder's
    share: Weight = 0.01  # of the traffic
    url: str = "http://127.0.0.1:4000/v1"  # /chat/completions is appended: the proxy's own
    key: Key | None = None
    answer_tokens: Annotated[int, msgspec.Meta(ge=1)] = 2048  # most of the second answer
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 120  # of one call

    def __post_init__(self) -> None:
        _check_url(self.url)
