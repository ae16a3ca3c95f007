"""The sections of config.yaml, each a frozen structure; a fault that types cannot say is a ValueError of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

ENCODERS = ("minilm", "static")

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Weight = Annotated[float, msgspec.Meta(ge=0, le=1)]
Key = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]+$")]
Secret = Annotated[str, msgspec.Meta(min_length=16, pattern=r"^[\x21-\x7e]+$")]
SigningKey = Annotated[str, msgspec.Meta(min_length=32)]
Origin = Annotated[str, msgspec.Meta(pattern=r"^https?://[^/\s*]+$")]
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
    images: bool | None = None  # whether it takes them
    audio: bool | None = None  # whether it takes it
    tools: bool | None = None  # whether it calls them
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
    model: Name = "text-embedding-3-small"  # that the checkpoint was made with
    key: Key | None = None  # the bearer token
    timeout_ms: Annotated[int, msgspec.Meta(ge=10, le=600_000)] = 250  # of a call with its retries; below the plugin's

    def __post_init__(self) -> None:
        _check_url(self.url)


class RouterConfig(Section, frozen=True):
    """Where a router's artifact lies: `pretrained` (shipped with the package) or a directory."""

    artifact: str = "pretrained"  # what ships, or the directory of a version or of a RouteLLM checkpoint
    embeddings: EmbeddingsConfig | None = None  # for RouteLLM's mf and sw
    tokenizer: Path | None = None  # the directory of RouteLLM's causal LLM's, which is not published with it


class EncoderConfig(Section, frozen=True):
    """What prompts are read through; its name alone will do. Without a directory: `static` as it ships, and of the
    exported sentence encoders in the cache the one that the routers were fitted with."""

    name: str = "minilm"  # or static: token vectors that ship, quicker and somewhat less good
    directory: Path | None = None  # of an encoder that lies elsewhere
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)] | None = None  # on one prompt; null: as many as cores


class Rate(Section, frozen=True):
    """How much one token, or one address where there is none, may ask for."""

    per_second: Annotated[float, msgspec.Meta(gt=0)]  # requests, in the long run
    most_at_once: Annotated[int, msgspec.Meta(ge=1)]  # after a pause


class Limits(Section, frozen=True):
    """What protects the daemon from its callers."""

    body_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 16 * 2**20  # of a request; beyond it 413
    queue: Annotated[int, msgspec.Meta(ge=1)] = 1024  # requests waiting for one router; beyond it 503
    batch: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 32  # requests that are scored together at most
    unwritten: Annotated[int, msgspec.Meta(ge=1)] = 10_000  # decisions waiting to be written
    rate: Rate | None = None  # null: as many as come


class TokensConfig(Section, frozen=True):
    """What callers may do, each by tokens of its own; several, so that one can follow another (docs/SECURITY.md)."""

    route: tuple[Secret, ...] = ()  # decide, score, report outcomes: the gateway plugin's
    feedback: tuple[Secret, ...] = ()  # rate and compare
    admin: tuple[Secret, ...] = ()  # the dashboard with its buttons, decisions, reports
    metrics: tuple[Secret, ...] = ()  # /metrics; without one it is open


SCOPES = TokensConfig.__struct_fields__


class TLSConfig(Section, frozen=True):
    """PEM files; without this section the daemon speaks plain HTTP."""

    certificate: Path  # with those between it and its authority
    key: Path  # of the certificate
    key_password: Key | None = None  # where the key is encrypted
    client_ca: Path | None = None  # whoever has no certificate of its is not answered


class BrowserRatings(Section, frozen=True):
    """End users rate answers of their own from web pages, by a token that comes with each (docs/feedback.md)."""

    keys: Annotated[tuple[SigningKey, ...], msgspec.Meta(min_length=1)]  # the first one signs, all are accepted
    origins: tuple[Origin, ...]  # of those pages
    hours: Annotated[float, msgspec.Meta(gt=0, le=24 * 90)] = 24  # that a token is good for


class Signals(Section, frozen=True):
    """What an implicit signal against an answer weighs, beside a person's rating, which weighs 1; 0: it is ignored."""

    regenerated: Weight = 0.3  # the same was asked again within a minute of the answer
    disconnected: Weight = 0.1  # the client left before the end
    length: Weight = 0.1  # the answer was cut at the token limit
    error: Weight = 0.2  # the provider failed


class Retrain(Section, frozen=True):
    """When routers are refitted from what was logged, and how ratings count."""

    cron: str | None = "0 3 * * *"  # minute hour day month weekday; null: by `routerd retrain` alone
    timezone: str = "UTC"  # of the cron line, such as Europe/Berlin
    held_out: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.2  # of the ratings, the newest, which have a veto
    golden: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.25  # of the sessions, to compare versions on, not to learn
    golden_most: Annotated[int, msgspec.Meta(ge=100)] = 4000  # ratings of them, the oldest, that it takes
    effect: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.01  # squared error by which a version may be worse
    error_rate: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.05  # P(ever publishing one that is worse by more)
    least_raters: Annotated[float, msgspec.Meta(ge=1)] = 5.0  # people to learn from, after `most_per_user`
    half_life_days: Annotated[float, msgspec.Meta(gt=0)] | None = None  # a rating this old counts half
    most_per_user: Annotated[float, msgspec.Meta(ge=1)] | None = 5.0  # what one counts at most, in equal shares
    sources: dict[str, Weight] = {}  # what a rating from this source counts; 1 unless told
    most_hours: Annotated[float, msgspec.Meta(gt=0)] = 6.0  # that a night's run may take
    keep_versions: Annotated[int, msgspec.Meta(ge=1)] = 30  # of each router, the newest


class Rollback(Section, frozen=True):
    """How a published version is watched, and goes back by itself (docs/rollback.md)."""

    holdback: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.05  # of units, for the version before; 0: none
    days: Annotated[float, msgspec.Meta(gt=0)] = 14  # that the holdback lasts
    error_rate: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.05  # P(ever rolling back a version that is not worse)


class Retention(Section, frozen=True):
    """For how long what was logged is kept (docs/retention.md); null: for good."""

    days: Annotated[float, msgspec.Meta(ge=7)] | None = None  # requests and all about them; budgets need a week
    prompt_days: Annotated[float, msgspec.Meta(ge=1)] | None = None  # of them texts, embeddings and features
    cron: str = "30 4 * * *"  # when what is older is deleted: minute hour day month weekday
    timezone: str = "UTC"  # of the cron line, such as Europe/Berlin

    def __post_init__(self) -> None:
        if self.days is not None and self.prompt_days is not None and self.prompt_days > self.days:
            raise ValueError(f"prompt_days: {self.prompt_days:g} is more than days; prompts go with their requests")


class Canary(Section, frozen=True):
    """Another router, or a version by its artifact's directory, that takes a share of the units which ask for `router`,
    the default."""

    share: Annotated[float, msgspec.Meta(gt=0, lt=1)]  # of the units
    router: Name  # that takes them
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
    key: Key | None = None  # the bearer token
    answer_tokens: Annotated[int, msgspec.Meta(ge=1)] = 2048  # most of the second answer
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 120  # of one call

    def __post_init__(self) -> None:
        _check_url(self.url)


class Provider(Section, frozen=True):
    """Where a model of the ladder is called, in LiteLLM's words."""

    litellm: Name | None = None  # such as anthropic/claude-sonnet-4-5; else the ladder's `litellm`, or its own name
    url: str | None = None  # the provider's own without one; LiteLLM's api_base
    key: Key | None = None  # from the variable that LiteLLM knows for the provider, without one; LiteLLM's api_key

    def __post_init__(self) -> None:
        if self.url is not None:
            _check_url(self.url)


class GatewayConfig(Section, frozen=True):
    """The daemon's own /v1/chat/completions, for who has no LiteLLM proxy (docs/endpoints.md)."""

    models: dict[str, Provider] = {}  # of the ladder
    fallback: Name | None = None  # the model where there is no decision; None: the strongest
    score: Literal["last_user", "conversation"] = "last_user"  # what is scored of a conversation
    decide_ms: Annotated[int, msgspec.Meta(ge=1, le=60_000)] = 300  # all that routing may add to a request
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 600  # of one call to a provider


class Budget(Section, frozen=True):
    """What a threshold is steered by: dollars from midnight to midnight UTC, or a share of calls to the strongest."""

    daily_dollars: Annotated[float, msgspec.Meta(gt=0)] | None = None  # that calls may cost together
    strong_share: Weight | None = None  # of the calls

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

    name: Name  # that decisions are logged with
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
