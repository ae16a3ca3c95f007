"""What `POST /v1/route` is asked: its body, the text to score, what the request needs, what the name stands for."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec

from gateway_plugin import names, prompt, tokens
from scorer import arms
from scorer.config import Config
from scorer.models import Size
from scorer.scoring import Hosted, uncalibrated
from scorer.web import Problem

Label = Annotated[str, msgspec.Meta(max_length=512, pattern=r"^[^\x00]*$")]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]

DERIVED = "auto:"  # how a session id begins that the gateway made of the conversation's beginning

_TOKENS_A_CHARACTER = 0.5  # of a text that is not there
_NEEDS = {"images", "audio", "tools", "json", "chars", "tokens", "max_tokens"}  # what is no tag


class RouteRequest(msgspec.Struct, frozen=True):
    """The body of `POST /v1/route`: one of `messages`, `prompt` and `input` as the gateway received it."""

    model: str = "router"
    decision_id: str | None = None
    messages: list[Any] | None = None
    prompt: str | list[Any] | None = None
    input: str | list[Any] | None = None
    candidates: list[Label] | None = None  # what the caller's key may use; None: the whole ladder
    session_id: Label | None = None  # of the conversation; `auto:` and a hash where the gateway derived it
    user: Label | None = None
    call_id: Label | None = None
    # What the answering model must be able to do; size in chars or tokens, max_tokens; a text is a tag it must have.
    needs: dict[Label, bool | Count | Label] | None = None
    metadata: Annotated[dict[Label, Label], msgspec.Meta(max_length=64)] = {}  # for rules, as the two below
    key: Label | None = None
    team: Label | None = None
    continuation: bool = False  # the middle of a tool loop: the model that began it goes on
    cooldown: list[Label] = []  # models that the gateway gives a rest
    cached_tokens: Count | None = None  # of the prompt, in the provider's cache, where that is known

    @property
    def session(self) -> str | None:
        """What the conversation is known by. Beginnings alike, of several people, are several conversations."""
        if self.session_id and self.session_id.startswith(DERIVED):
            return f"{self.session_id} {self.user or ''}"
        return self.session_id or None

    @property
    def named_session(self) -> str | None:
        """The session that the client named, if it did."""
        return None if self.session != self.session_id else self.session_id


class Asked(NamedTuple):
    """What is scored, what the answering model must be able to do, and the tags that it must have."""

    text: str
    needs: dict[str, bool | int]
    tags: dict[str, str]

    @property
    def blank(self) -> bool:
        return not self.text.strip()

    @property
    def size(self) -> Size:
        """In tokens; where only characters are known, as many for each as the text has."""
        most_out = self._number("max_tokens")
        if counted := self._number("tokens"):
            return Size(counted, most_out=most_out)
        chars = self._number("chars") or len(self.text)
        of_each = tokens.estimate(self.text) / len(self.text) if self.text else _TOKENS_A_CHARACTER
        return Size(chars * of_each, most_out=most_out)

    def _number(self, need: str) -> int | None:
        value = self.needs.get(need)
        return None if isinstance(value, bool) else value or None


class Ask(NamedTuple):
    """What a virtual name asks for, defaults filled in: a router, and a threshold or a share of strong calls. `open`:
    the name left both to the configuration, whose policy then counts."""

    router: str
    threshold: float | None
    share: float | None
    open: bool = False

    def threshold_for(self, hosted: Hosted) -> float:
        """Raises Problem 400 for a share of a router that is not calibrated."""
        if self.threshold is not None:
            return self.threshold
        assert self.share is not None
        if hosted.calibration is None:
            fault = f"{uncalibrated(self.router)}, or ask for a threshold such as router-{self.router}-0.5"
            raise Problem(400, "not_calibrated", fault, "model")
        return hosted.calibration.threshold(self.share)


def ask(config: Config, model: str) -> Ask:
    """What the name asks for. Raises Problem 400 for a bad name or a router that this daemon does not host."""
    try:
        named = names.parse(model)
    except names.BadName as error:
        raise Problem(400, "bad_name", str(error), "model") from None
    default = names.parse(config.default)
    router = named.router or default.router
    assert router is not None  # the configuration's default names one
    if router not in config.routers:
        hosted = ", ".join(config.routers)
        raise Problem(400, "unknown_router", f"model {model!r}: this daemon hosts {hosted}", "model")
    if named.threshold is not None or named.share is not None:
        return Ask(router, named.threshold, named.share)
    if default.share is None and router != default.router:
        fault = f"model {model!r}: say a threshold or share, since the default's fits {default.router} alone"
        raise Problem(400, "bad_name", fault, "model")
    return Ask(router, default.threshold, default.share, open=router == default.router)


def to_canary(config: Config, model: str, asked: Ask, unit: str) -> Ask:
    """What is asked for, of the canary where the unit is its own and the name leaves the router open."""
    canary = config.canary
    if canary is None or names.parse(model).router or not arms.canary(unit, canary.share):
        return asked
    return asked._replace(router=canary.hosted_as)


def extract(request: RouteRequest) -> Asked:
    """Raises Problem 400."""
    body = {field: value for field in ("messages", "prompt", "input") if (value := getattr(request, field)) is not None}
    if len(body) != 1:
        fault = f"messages, prompt, input: expected exactly one of them, got {' and '.join(body) or 'none'}"
        raise Problem(400, "bad_request", fault, "messages")
    try:
        found = prompt.extract(body)
    except prompt.BadPrompt as error:
        raise Problem(400, "bad_request", str(error), error.field) from None
    given = request.needs or {}
    needs = {need: value for need, value in given.items() if not isinstance(value, str)}
    tags = {need: value for need, value in given.items() if isinstance(value, str)}
    for need in _NEEDS & tags.keys():
        raise Problem(400, "bad_request", f"needs.{need}: expected true, false or a count", f"needs.{need}")
    if "chars" in needs and "tokens" not in needs:  # the caller has more of it than he sends
        del found.needs["tokens"]
    return Asked(found.text, {**found.needs, **needs}, tags)
