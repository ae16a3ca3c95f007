"""The sections of config.yaml, each a frozen structure; a fault that types cannot say is a ValueError of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

ENCODERS = ("minilm", "static")

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Weight = Annotated[float, msgspec.Meta(ge=0, le=1)]
Key = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]+$")]
Dollars = Annotated[float, msgspec.Meta(ge=0)]
Tokens = Annotated[int, msgspec.Meta(ge=1)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every part of the configuration: immutable, and strict about its keys."""


class Rung(Section, frozen=True):
    """One model of the ladder, and what is known of it; what is not said is looked up in LiteLLM's price map."""

    model: Name  # a LiteLLM model group
    like: Name | None = None  # the model that the routers know, where this one's name is new to them
    litellm: Name | None = None  # its name in LiteLLM's price map, where the group has another
    price: tuple[Dollars, Dollars] | None = None  # dollars a million tokens, in and out
    cached_price: Dollars | None = None  # of input that the provider has in its cache
    window: Tokens | None = None  # prompt and answer together
    images: bool | None = None  # whether it takes them, as the three below
    audio: bool | None = None
    tools: bool | None = None
    json: bool | None = None  # structured output
    tags: dict[Name, Name] = {}  # such as region: eu, for requests that need it
    answer_tokens: Tokens = 300  # of an ordinary answer


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
    held_out: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.2  # of the ratings, the newest, which have a veto
    golden: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.25  # of the sessions, to compare versions on, not to learn
    golden_most: Annotated[int, msgspec.Meta(ge=100)] = 4000  # ratings of them, the oldest, that it takes
    effect: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.01  # squared error by which a version may be worse
    error_rate: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.05  # P(ever publishing one that is worse by more)
    least_raters: Annotated[float, msgspec.Meta(ge=1)] = 5.0  # people to learn from, after `most_per_user`
    half_life_days: Annotated[float, msgspec.Meta(gt=0)] | None = None  # a rating this old counts half
    most_per_user: Annotated[float, msgspec.Meta(ge=1)] | None = 5.0  # what one counts at most, in equal shares
    sources: dict[str, Weight] = {}  # what a rating from this source counts; 1 unless told
    keep_versions: Annotated[int, msgspec.Meta(ge=1)] = 30  # of each router, the newest


class Rollback(Section, frozen=True):
    """How a published version is watched, and goes back by itself (docs/rollback.md)."""

    holdback: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.05  # of units, for the version before; 0: none
    days: Annotated[float, msgspec.Meta(gt=0)] = 14  # that the holdback lasts
    error_rate: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.05  # P(ever rolling back a version that is not worse)


class Canary(Section, frozen=True):
    """Another router, or a version by its artifact's directory, that takes a share of the units which ask for `router`,
    the default."""

    share: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    router: Name
    artifact: Name | None = None  # without one: the router as it is hosted

    @property
    def hosted_as(self) -> str:
        """Beside the routers, where it has an artifact of its own."""
        return "canary" if self.artifact else self.router


class DriftConfig(Section, frozen=True):
    """How traffic is compared with what it was (docs/operating.md), once a day."""

    days: Annotated[int, msgspec.Meta(ge=1, le=28)] = 1  # compared; 7 evens out weekdays, and sees a drift later
    false_alarms_per_year: Annotated[float, msgspec.Meta(ge=0.1, le=100)] = 1.0  # in the mean, of all checks together
    recalibrate: bool = False  # a router whose scores or strong share have drifted, on that traffic


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


class Budget(Section, frozen=True):
    """What a threshold is steered by: dollars from midnight to midnight UTC, or a share of calls to the strongest."""

    daily_dollars: Annotated[float, msgspec.Meta(gt=0)] | None = None
    strong_share: Weight | None = None

    def __post_init__(self) -> None:
        if (self.daily_dollars is None) is (self.strong_share is None):
            raise ValueError("say either daily_dollars or strong_share")


class PolicyConfig(Section, frozen=True, rename={"quality_per_dollar": "lambda"}):
    """How the default router's scores choose, in place of the default's threshold or share: one of the three."""

    quality_per_dollar: Annotated[float, msgspec.Meta(ge=0)] | None = None  # quality that a dollar must buy
    quality_target: Weight | None = None  # the cheapest model of at least this quality
    budget: Budget | None = None

    def __post_init__(self) -> None:
        if (self.quality_per_dollar, self.quality_target, self.budget).count(None) != 2:
            raise ValueError("say one of lambda, quality_target and budget")


class RuleConfig(Section, frozen=True):
    """A plain need, before any router: where all that is said holds, the request goes to a model or to a router."""

    name: Name
    model: Name | None = None  # of the ladder
    router: Name | None = None  # a virtual name, such as router-mf-p80
    regex: str | None = None  # found anywhere in what is scored
    keywords: tuple[Name, ...] = ()  # any of them, as whole words, in any case
    metadata: dict[str, str] = {}  # all of them
    keys: tuple[Name, ...] = ()  # any of them
    teams: tuple[Name, ...] = ()  # any of them

    def __post_init__(self) -> None:
        if (self.model is None) is (self.router is None):
            raise ValueError(f"rule {self.name!r}: say either a model or a router")
        if self.regex is not None:
            try:
                re.compile(self.regex)
            except re.error as error:
                raise ValueError(f"rule {self.name!r}: regex: {error}") from None
        if not (self.regex or self.keywords or self.metadata or self.keys or self.teams):
            raise ValueError(f"rule {self.name!r}: say what it matches: regex, keywords, metadata, keys or teams")


class Sessions(Section, frozen=True):
    """How firmly a conversation stays on its model."""

    margin: Weight = 0.05  # it moves up where the win rate exceeds the threshold by as much
    idle_minutes: Annotated[float, msgspec.Meta(gt=0)] = 60  # after which it may begin anew
    cache_minutes: Annotated[float, msgspec.Meta(ge=0)] = 5  # that a provider keeps what it has read
