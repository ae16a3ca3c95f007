"""The grammar of virtual model names: what a client may ask for instead of a model.

router                    the configured router and threshold
router-<router>           that router, the configured threshold
router-<router>-<t>       that router, raw win-rate threshold t in [0, 1]      router-mf-0.116
router-<router>-p<share>  that router, about <share> % of traffic to the strongest  router-mf-p30
"""

import re
from typing import NamedTuple

ROUTERS = ("random", "sw", "mf", "bert", "causal", "boosted")

MARK = "x-routerd-call"  # a header of the calls that routerd itself makes: they name a model, never a virtual one

_UPSTREAM = {"sw_ranking": "sw", "causal_llm": "causal"}
_PREFIX = "router"
_NUMBER = re.compile(r"\d{1,3}(\.\d{1,12})?|\.\d{1,12}", re.ASCII)
ACCEPTED = (
    "accepted: router, router-<router>, router-<router>-<threshold 0..1>, router-<router>-p<percent 0..100>, "
    f"where <router> is one of {', '.join(ROUTERS)}"
)


class BadName(ValueError):
    """A name that begins like a virtual model's and is none; the message says what is accepted."""

    def __init__(self, model: str, fault: str) -> None:
        super().__init__(f"model {model[:100]!r}: {fault}; {ACCEPTED}")


class VirtualModel(NamedTuple):
    """What a virtual name asks for; None means the daemon's default."""

    router: str | None = None
    threshold: float | None = None
    share: float | None = None  # of traffic to the strongest model, in [0, 1]


def is_virtual(model: object) -> bool:
    """Whether the name is ours to answer, well-formed or not."""
    return isinstance(model, str) and (model == _PREFIX or model.startswith(_PREFIX + "-"))


def parse(model: str) -> VirtualModel:
    """Raises BadName unless the name follows the grammar."""
    if not is_virtual(model):
        raise BadName(model, "not a virtual model")
    _, *parts = model.split("-", 2)
    if not parts:
        return VirtualModel()
    router = _UPSTREAM.get(parts[0], parts[0])
    if router not in ROUTERS:
        raise BadName(model, f"no router {parts[0][:40]!r}")
    if len(parts) == 1:
        return VirtualModel(router)
    if parts[1].startswith("p"):
        return VirtualModel(router, share=_number(model, parts[1][1:], "share", 100) / 100)
    return VirtualModel(router, threshold=_number(model, parts[1], "threshold", 1))


def _number(model: str, text: str, what: str, most: int) -> float:
    if not _NUMBER.fullmatch(text) or float(text) > most:
        raise BadName(model, f"{what} {text[:40]!r} is not a number from 0 to {most}")
    return float(text)
