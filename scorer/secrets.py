"""What the configuration names and does not hold: values in the environment, and secrets in files."""

from __future__ import annotations

import os
from pathlib import Path

_ENVIRONMENT = "os.environ/"  # LiteLLM's way to write "from the environment"
_SECRETS = ("token", "tokens", "key", "keys", "key_password", "database")  # that {file: PATH} may stand for


class Missing(Exception):
    """What is not where it should be: one line."""


def resolve(content: object) -> object:
    """`os.environ/NAME` replaced by the variable's value, wherever it stands, and `{file: PATH}` by the file's content
    where a secret is expected. Raises Missing."""
    _check_tokens(content)
    return _resolve(content, secret=False)


def _check_tokens(content: object) -> None:
    """A token of a scope is kept outside of the file, which is copied and committed."""
    tokens = content.get("tokens") if isinstance(content, dict) else None
    for scope, given in tokens.items() if isinstance(tokens, dict) else ():
        for place, one in enumerate(given if isinstance(given, list) else ()):
            if isinstance(one, str) and not one.startswith(_ENVIRONMENT):
                raise Missing(f"tokens.{scope}[{place}]: expected os.environ/NAME or {{file: PATH}}, not a token")


def _resolve(value: object, secret: bool) -> object:
    if secret and isinstance(value, dict) and list(value) == ["file"]:
        return _read(Path(str(value["file"])).expanduser())
    if isinstance(value, dict):
        return {key: _resolve(item, secret or key in _SECRETS) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, secret) for item in value]
    if isinstance(value, str) and value.startswith(_ENVIRONMENT):
        name = value.removeprefix(_ENVIRONMENT)
        if name not in os.environ:
            raise Missing(f"{value}: the environment has no {name}")
        return os.environ[name]
    return value


def _read(path: Path) -> str:
    """Without the line's end."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Missing(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Missing(f"{path}: not a UTF-8 text file") from None
    if not text:
        raise Missing(f"{path}: is empty; expected a secret")
    return text
