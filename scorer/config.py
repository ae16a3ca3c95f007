"""config.yaml to frozen structures. The only module that reads settings or the environment's."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml

from gateway_plugin import names

_ENVIRONMENT = "os.environ/"  # LiteLLM's way to write "from the environment"

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class ConfigError(Exception):
    """What is wrong in the configuration, where, and what is accepted: one line."""


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every part of the configuration: immutable, and strict about its keys."""


class Rung(_Section, frozen=True):
    """One model of the ladder."""

    model: Name  # a LiteLLM model group
    like: Name | None = None  # the model that the routers know, where this one's name is new to them

    @property
    def known_as(self) -> str:
        return self.like or self.model


class RouterConfig(_Section, frozen=True):
    """Where a router's artifact lies: `pretrained` (shipped with the package) or a directory."""

    artifact: str = "pretrained"


class EncoderConfig(_Section, frozen=True):
    """The exported encoder; without a directory, the cached one that the routers were fitted with."""

    directory: Path | None = None
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)] | None = None


class Limits(_Section, frozen=True):
    """What protects the daemon from its callers."""

    body_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 16 * 2**20
    queue: Annotated[int, msgspec.Meta(ge=1)] = 1024  # requests waiting to be scored; beyond it 503
    batch: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 32
    unwritten: Annotated[int, msgspec.Meta(ge=1)] = 10_000  # decisions waiting to be written


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
    def known_as(self) -> tuple[str, ...]:
        """The names the routers know them by, in the same order."""
        return tuple(rung.known_as for rung in self.ladder)


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
        config = msgspec.convert(_resolve(content), Config, dec_hook=_path)
        _check(config)
    except (msgspec.ValidationError, ConfigError) as error:
        raise ConfigError(f"{path}: {_located(str(error))}") from None
    return config


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
    section = {"ladder": Rung, "routers": RouterConfig, "encoder": EncoderConfig, "limits": Limits}
    return section.get(path.split(".")[0].split("[")[0], Config).__struct_fields__


def _check(config: Config) -> None:
    """What types cannot say."""
    models = config.models
    for model in models:
        if models.count(model) > 1:
            raise ConfigError(f"ladder: {model!r} appears twice")
        if names.is_virtual(model):
            raise ConfigError(f"ladder: {model!r} is a virtual model; name what it should be routed to")
    for router in config.routers:
        if router not in names.ROUTERS:
            raise ConfigError(f"routers.{router}: no such router; accepted: {', '.join(names.ROUTERS)}")
    _check_default(config)
    _check_listen(config)


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
