"""The plugin's settings: `callback_settings.routerd` in the proxy's config; ROUTERD_* variables win."""

import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from gateway_plugin.prompt import Score

logger = logging.getLogger(__name__)


class Settings(NamedTuple):
    url: str = "http://127.0.0.1:4141"  # of the daemon
    token: str | None = None  # the daemon's bearer token
    timeout_ms: int = 300  # all that routing may add to a request
    fallback: str | None = None  # the model while the daemon can't be asked; None: the strongest known
    score: Score = "last_user"  # or conversation: the system prompt and the earlier turns, too
    failover: str = "ladder"  # what follows a provider's failure: the ladder's other models; or none
    authorize: str = "candidates"  # or virtual_only: a key that may use the virtual name may use the ladder
    queue: int = 10_000  # outcomes kept while the daemon is away
    breaker_failures: int = 5  # consecutive ones that open the circuit breaker
    breaker_pause_s: float = 5.0  # before the daemon is tried again
    ca: str | None = None  # the file of who vouches for the daemon's certificate; None: whom the system trusts
    certificate: str | None = None  # the file of one's own and its key, for a daemon that wants to see it


class _Option(NamedTuple):
    parse: Callable[[str], object]  # raises ValueError
    accepted: str


def read(configured: object, environment: Mapping[str, str]) -> Settings:
    """A value that is not accepted is logged in one line, and its default is used."""
    if configured is None:
        configured = {}
    if not isinstance(configured, Mapping):
        logger.warning("callback_settings.routerd: %r is not a mapping; the defaults are used", configured)
        configured = {}
    unknown = sorted(str(key) for key in configured if key not in _OPTIONS)
    if unknown:
        logger.warning("callback_settings.routerd: unknown %s; accepted: %s", ", ".join(unknown), ", ".join(_OPTIONS))
    chosen = {}
    for name, option in _OPTIONS.items():
        variable = f"ROUTERD_{name.upper()}"
        where, value = f"callback_settings.routerd.{name}", configured.get(name)
        if environment.get(variable):
            where, value = variable, environment[variable]
        if value is None or value == "":
            continue
        try:
            chosen[name] = option.parse(str(value).strip())
        except ValueError:
            shown = "(hidden)" if name == "token" else repr(value)
            default = Settings._field_defaults[name]
            logger.warning("%s: %s is not %s; %r is used", where, shown, option.accepted, default)
    return Settings(**chosen)  # type: ignore[arg-type]


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError
    _ = parts.port  # raises ValueError when it is no port
    return text.rstrip("/")


def _line(text: str) -> str:
    if not text.isprintable():
        raise ValueError
    return text


def _ascii(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        raise ValueError
    return text


def _file(text: str) -> str:
    try:
        with open(text, "rb"):
            return text
    except OSError:
        raise ValueError from None


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError
        return text

    return parse


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise ValueError
        return number

    return parse


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:
        raise ValueError
    return seconds


_OPTIONS = {
    "url": _Option(_url, "a URL such as http://127.0.0.1:4141"),
    "token": _Option(_ascii, "printable ASCII"),
    "timeout_ms": _Option(_whole(1, 60_000), "a whole number from 1 to 60000"),
    "fallback": _Option(_line, "a model's name"),
    "score": _Option(_choice("last_user", "conversation"), "last_user or conversation"),
    "failover": _Option(_choice("ladder", "none"), "ladder or none"),
    "authorize": _Option(_choice("candidates", "virtual_only"), "candidates or virtual_only"),
    "queue": _Option(_whole(1, 1_000_000), "a whole number from 1 to 1000000"),
    "breaker_failures": _Option(_whole(1, 1000), "a whole number from 1 to 1000"),
    "breaker_pause_s": _Option(_seconds, "a number from 0.1 to 3600"),
    "ca": _Option(_file, "a file that can be read"),
    "certificate": _Option(_file, "a file that can be read"),
}
