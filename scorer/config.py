"""config.yaml to frozen structures. The only module that reads settings or the environment's."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
import yaml

from gateway_plugin import names

_ENVIRONMENT = "os.environ/"  # LiteLLM's way to write "from the environment"

ENCODERS = ("minilm", "static")

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Weight = Annotated[float, msgspec.Meta(ge=0, le=1)]
Key = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]+$")]
Dollars = Annotated[float, msgspec.Meta(ge=0)]


class ConfigError(Exception):
    """What is wrong in the configuration, where, and what is accepted: one line."""


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every part of the configuration: immutable, and strict about its keys."""


class Rung(_Section, frozen=True):
    """One model of the ladder."""

    model: Name  # a LiteLLM model group
    like: Name | None = None  # the model that the routers know, where this one's name is new to them


def _check_url(url: str) -> None:
    """Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:  # or ValueError: no port
        raise ValueError(f"{url!r} is no http:// or https:// address")


class EmbeddingsConfig(_Section, frozen=True):
    """An OpenAI-compatible endpoint, for RouteLLM checkpoints that read prompts through one (docs/routellm.md)."""

    url: str = "https://api.openai.com/v1"  # /embeddings is appended
    model: Name = "text-embedding-3-small"
    key: Key | None = None
    timeout_ms: Annotated[int, msgspec.Meta(ge=10, le=600_000)] = 250  # of a call with its retries; below the plugin's

    def __post_init__(self) -> None:
        _check_url(self.url)


class RouterConfig(_Section, frozen=True):
    """Where a router's artifact lies: `pretrained` (shipped with the package) or a directory."""

    artifact: str = "pretrained"
    embeddings: EmbeddingsConfig | None = None  # for RouteLLM's mf and sw
    tokenizer: Path | None = None  # the directory of RouteLLM's causal LLM's, which is not published with it


class EncoderConfig(_Section, frozen=True):
    """What prompts are read through; its name alone will do. Without a directory: `static` as it ships, and of the
    exported sentence encoders in the cache the one that the routers were fitted with."""

    name: str = "minilm"
    directory: Path | None = None
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)] | None = None


class Limits(_Section, frozen=True):
    """What protects the daemon from its callers."""

    body_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 16 * 2**20
    queue: Annotated[int, msgspec.Meta(ge=1)] = 1024  # requests waiting for one router; beyond it 503
    batch: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 32
    unwritten: Annotated[int, msgspec.Meta(ge=1)] = 10_000  # decisions waiting to be written


class Signals(_Section, frozen=True):
    """What an implicit signal against an answer weighs, beside a person's rating, which weighs 1; 0: it is ignored."""

    regenerated: Weight = 0.3  # the same was asked again within a minute of the answer
    disconnected: Weight = 0.1  # the client left before the end
    length: Weight = 0.1  # the answer was cut at the token limit
    error: Weight = 0.2  # the provider failed


class Retrain(_Section, frozen=True):
    """When routers are refitted from what was logged, and how ratings count."""

    cron: str | None = "0 3 * * *"  # minute hour day month weekday; null: by `routerd retrain` alone
    timezone: str = "UTC"
    held_out: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.2  # of the ratings, the newest, to compare versions on
    half_life_days: Annotated[float, msgspec.Meta(gt=0)] | None = None  # a rating this old counts half
    most_per_user: Annotated[float, msgspec.Meta(gt=0)] | None = None  # what all ratings of one user count together
    sources: dict[str, Weight] = {}  # what a rating from this source counts; 1 unless told


class JudgeConfig(_Section, frozen=True):
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


class Config(_Section, frozen=True):
    """The daemon's whole configuration."""

    ladder: Annotated[tuple[Rung, ...], msgspec.Meta(min_length=2)]  # strongest first
    listen: str = "127.0.0.1:4141"
    token: Annotated[str, msgspec.Meta(min_length=8)] | None = None
    data_dir: Path = Path("routerd-data")
    database: str | None = None  # SQLAlchemy URL; SQLite in data_dir by default
    mode: Literal["route", "observe"] = "route"
    default: str = "router-mf-p40"
    exploration: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.05
    keep: Literal["text", "embedding", "hash"] = "embedding"
    outcome_minutes: Annotated[float, msgspec.Meta(gt=0)] = 60  # a decision without an outcome expires after these
    routers: dict[str, RouterConfig] = msgspec.field(
        default_factory=lambda: {"mf": RouterConfig(), "random": RouterConfig()}
    )
    encoder: EncoderConfig = EncoderConfig()
    limits: Limits = Limits()
    signals: Signals = Signals()
    retrain: Retrain = Retrain()
    judge: JudgeConfig | None = None

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.data_dir / 'routerd.sqlite'}"

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    @property
    def models(self) -> tuple[str, ...]:
        """The ladder's models, strongest first."""
        return tuple(rung.model for rung in self.ladder)

    @property
    def like(self) -> dict[str, str]:
        """The stand-ins of the models that have one."""
        return {rung.model: rung.like for rung in self.ladder if rung.like}


def load(path: Path) -> Config:
    """The configuration in a YAML file. Raises ConfigError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a UTF-8 text file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}:{where} {getattr(error, 'problem', None) or 'not YAML'}") from None
    try:
        config = msgspec.convert(_expand(_resolve(content)), Config, dec_hook=_path)
        _check(config)
    except (msgspec.ValidationError, ConfigError) as error:
        raise ConfigError(f"{path}: {_located(str(error))}") from None
    return config


def embeddings_of_environment() -> EmbeddingsConfig | None:
    """What OPENAI_BASE_URL and OPENAI_API_KEY name, with time enough for many prompts at once. Raises ConfigError."""
    named = {"url": os.environ.get("OPENAI_BASE_URL"), "key": os.environ.get("OPENAI_API_KEY")}
    given = {field: value for field, value in named.items() if value}
    try:
        return msgspec.convert({**given, "timeout_ms": 60_000}, EmbeddingsConfig) if given else None
    except msgspec.ValidationError as error:
        raise ConfigError(f"OPENAI_BASE_URL, OPENAI_API_KEY: {_located(str(error))}") from None


def unhurried(config: Config) -> Config:
    """With a minute for a call to an embeddings endpoint: for commands, which no request waits for."""
    routers = {
        name: msgspec.structs.replace(router, embeddings=msgspec.structs.replace(router.embeddings, timeout_ms=60_000))
        if router.embeddings
        else router
        for name, router in config.routers.items()
    }
    return msgspec.structs.replace(config, routers=routers)


def _resolve(value: object) -> object:
    """`os.environ/NAME` strings replaced by the variable's value, wherever they stand."""
    if isinstance(value, dict):
        return {key: _resolve(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item) for item in value]
    if isinstance(value, str) and value.startswith(_ENVIRONMENT):
        name = value.removeprefix(_ENVIRONMENT)
        if name not in os.environ:
            raise ConfigError(f"{value}: the environment has no {name}")
        return os.environ[name]
    return value


def _expand(content: object) -> object:
    """`encoder: static` in full."""
    if isinstance(content, dict) and isinstance(name := content.get("encoder"), str):
        return {**content, "encoder": {"name": name}}
    return content


def _path(kind: type, value: object) -> object:
    """The one type of ours that YAML lacks."""
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    raise ConfigError(f"{value!r} is not a path")


def _located(message: str) -> str:
    """msgspec's `Expected ... - at `$.a.b`` as `a.b: expected ...`; an unknown key with those accepted there."""
    text, found, path = message.partition(" - at `$")
    path = path.rstrip("`").lstrip(".") if found else ""
    if "unknown field" in text:
        text += f"; accepted: {', '.join(_keys(path))}"
    return f"{path}: {text[:1].lower() + text[1:]}" if path else text


def _keys(path: str) -> tuple[str, ...]:
    if path.endswith("embeddings"):
        return EmbeddingsConfig.__struct_fields__
    section = {
        "ladder": Rung,
        "routers": RouterConfig,
        "encoder": EncoderConfig,
        "limits": Limits,
        "signals": Signals,
        "retrain": Retrain,
        "judge": JudgeConfig,
    }
    return section.get(path.split(".")[0].split("[")[0], Config).__struct_fields__


def _check(config: Config) -> None:
    """What types cannot say."""
    models = config.models
    for model in models:
        if models.count(model) > 1:
            raise ConfigError(f"ladder: {model!r} appears twice")
        if names.is_virtual(model):
            raise ConfigError(f"ladder: {model!r} is a virtual model; name what it should be routed to")
    if config.encoder.name not in ENCODERS:
        raise ConfigError(f"encoder: no encoder {config.encoder.name!r}; accepted: {', '.join(ENCODERS)}")
    for router in config.routers:
        if router not in names.ROUTERS:
            raise ConfigError(f"routers.{router}: no such router; accepted: {', '.join(names.ROUTERS)}")
    if config.judge:
        _check_judge(config, config.judge)
    _check_default(config)
    _check_listen(config)


def _check_judge(config: Config, judge: JudgeConfig) -> None:
    if names.is_virtual(judge.model):
        raise ConfigError(f"judge.model: {judge.model!r} is a virtual model, and routed; name a model")
    for model in (judge.model, *config.models):
        if model not in judge.prices:
            raise ConfigError(f"judge.prices: no price of {model!r}; the daily cap needs it: [dollars in, dollars out]")


def _check_default(config: Config) -> None:
    try:
        default = names.parse(config.default)
    except names.BadName as error:
        raise ConfigError(f"default: {error}") from None
    if default.router is None or default.threshold is default.share:
        raise ConfigError("default: name both a router and a threshold or share, e.g. router-mf-p50")
    if default.router not in config.routers:
        raise ConfigError(f"default: {config.default!r} asks for {default.router!r}, which `routers` does not list")


def _check_listen(config: Config) -> None:
    host, colon, port = config.listen.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"listen: {config.listen!r} is not host:port, e.g. 127.0.0.1:4141")
    if not _is_loopback(config.host) and not config.token:
        raise ConfigError(f"listen: {config.host} can be reached from other machines, so `token` must be set")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
