"""Tags that a request needs of the model which answers it, such as `region=eu`: what lacks one does not get it.

They come from the request, and from the key or team that it is made with, whose word counts more.
"""

import re
from collections.abc import Mapping

HEADER = "x-routerd-needs"  # region=eu, tier=gold
METADATA = "routerd_needs"  # in metadata, as that or as {"region": "eu"}

_TAKEN = ("images", "audio", "tools", "json", "chars", "tokens", "max_tokens")  # what is no tag
_NAME, _VALUE = re.compile(r"[\w.:/-]{1,64}"), re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,256}")
_MOST = 16


class BadNeeds(ValueError):
    """What was given says no tags; a request must not go where it must not for that."""

    def __init__(self, fault: str) -> None:
        super().__init__(f"{METADATA}: {fault}; expected tags such as region=eu, {_MOST} at most")


def read(*given: object) -> dict[str, str]:
    """The tags in all that is given, None or empty where there are none; of the same name the later one. Raises
    BadNeeds."""
    tags: dict[str, str] = {}
    for source in given:
        tags |= _tags(source) if source else {}
    if len(tags) > _MOST:
        raise BadNeeds(f"{len(tags)} tags")
    return tags


def _tags(source: object) -> dict[str, str]:
    pairs = source.items() if isinstance(source, Mapping) else _pairs(source)
    tags = {}
    for name, value in pairs:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _TAKEN:
            raise BadNeeds(f"{str(name)[:64]!r} is no name of a tag")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise BadNeeds(f"{name} has no value")
        tags[name] = value
    return tags


def _pairs(source: object) -> list[tuple[str, str]]:
    if not isinstance(source, str):
        raise BadNeeds(f"{type(source).__name__} is no text")
    parts = [part.partition("=") for part in source.split(",") if part.strip()]
    return [(name.strip(), value.strip()) for name, _, value in parts]
