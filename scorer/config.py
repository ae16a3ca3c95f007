"""config.yaml to frozen structures: with scorer/secrets.py all that reads settings or the environment's."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml
from msgspec import inspect

from gateway_plugin import names
from scorer import secrets
from scorer.sections import (
    ENCODERS,
    SCOPES,
    BrowserRatings,
    Canary,
    DriftConfig,
    EmbeddingsConfig,
    EncoderConfig,
    GatewayConfig,
    JudgeConfig,
    Limits,
    PolicyConfig,
    Retention,
    Retrain,
    Rollback,
    RouterConfig,
    RuleConfig,
    Rung,
    Section,
    Sessions,
    Signals,
    TLSConfig,
    TokensConfig,
)


class ConfigError(Exception):
    """What is wrong in the configuration, where, and what is accepted: one line."""


class Config(Section, frozen=True):
    """The daemon's whole configuration."""

    ladder: Annotated[tuple[Rung, ...], msgspec.Meta(min_length=2)]  # strongest first
    listen: str = "127.0.0.1:4141"  # host:port; what other machines can reach needs a token
    token: Annotated[str, msgspec.Meta(min_length=8)] | None = None  # for everything
    tokens: TokensConfig = TokensConfig()
    browser_ratings: BrowserRatings | None = None
    tls: TLSConfig | None = None
    data_dir: Path = Path("routerd-data")  # the database, unless it is elsewhere, and versions that were fitted
    database: str | None = None  # SQLAlchemy URL; SQLite in data_dir by default
    artifacts: Annotated[str, msgspec.Meta(min_length=1)] | None = None  # where versions lie; data_dir's by default
    mode: Literal["route", "observe"] = "route"  # observe: every request is scored and logged, and none changed
    default: str = "router-mf-p40"  # what `router` means: a router, and a share of strong calls or a threshold
    exploration: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.05  # the share that goes to a model at random
    keep: Literal["text", "embedding", "hash"] = "embedding"  # what is kept of a prompt; of a hash nothing is learned
    outcome_minutes: Annotated[float, msgspec.Meta(gt=0)] = 60  # a decision without an outcome expires after these
    routers: dict[str, RouterConfig] = msgspec.field(
        default_factory=lambda: {"mf": RouterConfig(), "random": RouterConfig()}
    )
    encoder: EncoderConfig = EncoderConfig()
    limits: Limits = Limits()
    signals: Signals = Signals()
    retrain: Retrain = Retrain()
    rollback: Rollback = Rollback()
    retention: Retention = Retention()
    canary: Canary | None = None
    judge: JudgeConfig | None = None
    gateway: GatewayConfig | None = None
    drift: DriftConfig | None = DriftConfig()  # null: nothing is compared
    log: Literal["text", "json"] = "text"  # json: one object a line, and one line a decision
    telemetry: bool = False  # traces, to where OTEL_* variables say
    policy: PolicyConfig | None = None  # without one, the default's threshold or share
    rules: tuple[RuleConfig, ...] = ()  # the first that matches counts
    sessions: Sessions | None = Sessions()  # null: every request is decided by itself

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
    def granted(self) -> dict[str, set[str]]:
        """What each token may do; without any, everybody may do everything."""
        granted: dict[str, set[str]] = {self.token: set(SCOPES)} if self.token else {}
        for scope in SCOPES:
            for token in getattr(self.tokens, scope):
                granted.setdefault(token, set()).add(scope)
        return granted

    @property
    def admins(self) -> list[str] | None:
        """The tokens that open the dashboard; None: it is open."""
        return [token for token, scopes in self.granted.items() if "admin" in scopes] if self.granted else None

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
        config = msgspec.convert(_expand(secrets.resolve(content)), Config, dec_hook=_path)
        _check(config)
    except (msgspec.ValidationError, secrets.Missing, ConfigError) as error:
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
    """Those accepted in the section at msgspec's path, such as `ladder[0]` or `routers[...].embeddings`."""
    section = inspect.type_info(Config)
    for step in re.findall(r"\.\.\.|[^.\[\]]+", path):
        section = _within(section, step)
    assert isinstance(section, inspect.StructType)
    return tuple(field.encode_name for field in section.fields)


def _within(section: inspect.Type, step: str) -> inspect.Type:
    """The section that a step of a path leads to."""
    if isinstance(section, inspect.StructType):
        found = next(field.type for field in section.fields if field.encode_name == step)
    elif isinstance(section, inspect.DictType):
        found = section.value_type
    else:
        assert isinstance(section, inspect.VarTupleType)
        found = section.item_type
    if isinstance(found, inspect.UnionType):
        found = next(kind for kind in found.types if not isinstance(kind, inspect.NoneType))
    return found


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
    if config.gateway:
        _check_gateway(config, config.gateway)
    _check_rules(config)
    _check_default(config)
    if config.canary:
        _check_canary(config, config.canary)
    _check_retention(config)
    _check_listen(config)


def _check_judge(config: Config, judge: JudgeConfig) -> None:
    if names.is_virtual(judge.model):
        raise ConfigError(f"judge.model: {judge.model!r} is a virtual model, and routed; name a model")
    for model in (judge.model, *config.models):
        if model not in judge.prices:
            raise ConfigError(f"judge.prices: no price of {model!r}; the daily cap needs it: [dollars in, dollars out]")


def _check_gateway(config: Config, gateway: GatewayConfig) -> None:
    for model in (*gateway.models, *([gateway.fallback] if gateway.fallback else [])):
        if model not in config.models:
            raise ConfigError(f"gateway: {model!r} is not on the ladder ({', '.join(config.models)})")


def _check_rules(config: Config) -> None:
    for place, rule in enumerate(config.rules):
        if rule.model is not None and rule.model not in config.models:
            raise ConfigError(f"rules[{place}]: {rule.model!r} is not on the ladder ({', '.join(config.models)})")
        if rule.router is not None:
            try:
                router = names.parse(rule.router).router
            except names.BadName as error:
                raise ConfigError(f"rules[{place}]: {error}") from None
            if router not in (None, *config.routers):
                raise ConfigError(f"rules[{place}]: {rule.router!r} asks for a router that `routers` does not list")


def _check_default(config: Config) -> None:
    try:
        default = names.parse(config.default)
    except names.BadName as error:
        raise ConfigError(f"default: {error}") from None
    if default.router is None or default.threshold is default.share:
        raise ConfigError("default: name both a router and a threshold or share, e.g. router-mf-p50")
    if default.router not in config.routers:
        raise ConfigError(f"default: {config.default!r} asks for {default.router!r}, which `routers` does not list")


def _check_retention(config: Config) -> None:
    days, watched = config.retention.days, config.rollback
    if days is not None and watched.holdback and days < watched.days:
        raise ConfigError(f"retention.days: {days:g} is less than rollback.days, {watched.days:g}, whose ratings count")


def _check_canary(config: Config, canary: Canary) -> None:
    default = names.parse(config.default)
    if canary.router not in names.ROUTERS:
        raise ConfigError(f"canary.router: no router {canary.router!r}; accepted: {', '.join(names.ROUTERS)}")
    if canary.artifact is None and canary.router not in config.routers:
        raise ConfigError(f"canary.router: {canary.router!r} is not hosted; list it in `routers`, or say its artifact")
    if canary.artifact is None and canary.router == default.router:
        raise ConfigError(f"canary.router: {canary.router!r} is the default already; name another version's artifact")
    if canary.router != default.router and default.share is None:
        raise ConfigError(f"canary: {config.default!r} is a threshold, {default.router}'s alone; it takes a share")


def _check_listen(config: Config) -> None:
    host, colon, port = config.listen.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"listen: {config.listen!r} is not host:port, e.g. 127.0.0.1:4141")
    if not _is_loopback(config.host) and not config.granted:
        fault = "can be reached from other machines, so `token` must be set, or `tokens`"
        raise ConfigError(f"listen: {config.host} {fault}")
    if config.browser_ratings and not config.granted:
        raise ConfigError("browser_ratings: anybody may rate anything anyway; set `token` or `tokens`")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
