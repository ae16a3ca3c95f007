"""One request to one decision: name, prompt and candidates in; scored, weighed, drawn and recorded."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, NamedTuple

import msgspec

from gateway_plugin import ids, names, prompt
from scorer import policy, sampler
from scorer.batching import Batcher, QueueFull
from scorer.config import Config
from scorer.decisions import Decision, KeptPrompt, kept
from scorer.routers.base import Unscorable
from scorer.scoring import Hosted, Job, Scored, uncalibrated
from scorer.web import Problem

_FRESH_SECONDS = 10.0  # a retry of an id younger than this is remembered here, or drawn again alike elsewhere
_REMEMBERED = 10_000  # decisions that a retry finds without asking the database

Label = Annotated[str, msgspec.Meta(max_length=512, pattern=r"^[^\x00]*$")]


class RouteRequest(msgspec.Struct, frozen=True):
    """The body of `POST /v1/route`: one of `messages`, `prompt` and `input` as the gateway received it."""

    model: str = "router"
    decision_id: str | None = None
    messages: list[Any] | None = None
    prompt: str | list[Any] | None = None
    input: str | list[Any] | None = None
    candidates: list[Label] | None = None  # what the caller's key may use; None: the whole ladder
    session_id: Label | None = None
    user: Label | None = None
    call_id: Label | None = None
    needs: dict[Label, bool | Annotated[int, msgspec.Meta(ge=0, le=2**53)]] | None = None


class Ask(NamedTuple):
    """What a virtual name asks for, defaults filled in: a router, and a threshold or a share of strong calls."""

    router: str
    threshold: float | None
    share: float | None

    def threshold_for(self, hosted: Hosted) -> float:
        """Raises Problem 400 for a share of a router that is not calibrated."""
        if self.threshold is not None:
            return self.threshold
        assert self.share is not None
        if hosted.calibration is None:
            fault = f"{uncalibrated(self.router)}, or ask for a threshold such as router-{self.router}-0.5"
            raise Problem(400, "not_calibrated", fault, "model")
        return hosted.calibration.threshold(self.share)


class Routing:
    """Decides. `batchers` by router, so that one that is slow keeps no other waiting; `log` records a decision without
    waiting; `find` looks an older one up."""

    def __init__(
        self,
        config: Config,
        encoder_id: str,
        batchers: Mapping[str, Batcher[Job, Scored | Unscorable]],
        log: Callable[[Decision], None],
        find: Callable[[str], Awaitable[Decision | None]],
    ) -> None:
        self._config = config
        self._encoder_id = encoder_id
        self._batchers = batchers
        self._log = log
        self._find = find
        self._recent: OrderedDict[str, Decision] = OrderedDict()

    async def decide(self, request: RouteRequest) -> Decision:
        """The decision for a request; the same one again for the same decision id. Raises Problem."""
        decision_id = request.decision_id or ids.mint()
        known = await self._recall(decision_id)
        if known:
            return known
        ask = self.ask(request.model)
        asked = _extract(request)
        candidates = self._candidates(request.candidates)
        scored = await self.score(Job(ask.router, asked.text))
        decision = self._weigh(request, decision_id, ask, asked, candidates, scored)
        self._remember(decision)
        self._log(decision)
        return decision

    async def score(self, job: Job) -> Scored:
        """Scored beside whatever else waits for that router. Raises Problem 503 when too much does, and when what the
        router needs is away."""
        try:
            scored = await self._batchers[job.router].submit(job)
        except QueueFull:
            raise Problem(
                503, "busy", "too many requests are waiting to be scored", headers={"retry-after": "1"}
            ) from None
        if isinstance(scored, Unscorable):
            raise Problem(503, "unscorable", f"{job.router}: {scored}", headers={"retry-after": "1"})
        return scored

    async def keep(self, text: str) -> KeptPrompt:
        """What is kept of a prompt that was not routed here. Raises Problem 503."""
        text = prompt.extract({"prompt": text}).text
        router = self.ask(self._config.default).router
        return self._kept(text, await self.score(Job(router, text)))

    def ask(self, model: str) -> Ask:
        """What the name asks for. Raises Problem 400 for a bad name or a router that this daemon does not host."""
        try:
            named = names.parse(model)
        except names.BadName as error:
            raise Problem(400, "bad_name", str(error), "model") from None
        default = names.parse(self._config.default)
        router = named.router or default.router
        assert router is not None  # the configuration's default names one
        if router not in self._config.routers:
            hosted = ", ".join(self._config.routers)
            raise Problem(400, "unknown_router", f"model {model!r}: this daemon hosts {hosted}", "model")
        if named.threshold is not None or named.share is not None:
            return Ask(router, named.threshold, named.share)
        if default.share is None and router != default.router:
            fault = f"model {model!r}: say a threshold or share, since the default's fits {default.router} alone"
            raise Problem(400, "bad_name", fault, "model")
        return Ask(router, default.threshold, default.share)

    def _candidates(self, allowed: list[str] | None) -> tuple[str, ...]:
        """The ladder's models that are allowed, strongest first."""
        ladder = self._config.models
        candidates = ladder if allowed is None else tuple(model for model in ladder if model in allowed)
        if not candidates:
            fault = f"candidates: none of them is on the ladder ({', '.join(ladder)})"
            raise Problem(400, "no_candidates", fault, "candidates")
        return candidates

    def _weigh(
        self,
        request: RouteRequest,
        decision_id: str,
        ask: Ask,
        asked: prompt.Prompt,
        candidates: tuple[str, ...],
        scored: Scored,
    ) -> Decision:
        """Threshold rule, exploration and draw, with everything that they rest on."""
        config = self._config
        threshold = ask.threshold_for(scored.hosted)
        win_rates = dict(zip(config.models, scored.win_rates, strict=True))
        blank = not asked.text.strip()
        choice = candidates[0] if blank else policy.greedy(win_rates, candidates, threshold)
        probabilities = policy.probabilities(choice, candidates, 0.0 if blank else config.exploration)
        unit = request.session_id or decision_id
        model = sampler.draw(probabilities, unit)
        return Decision(
            decision_id=decision_id,
            created_at=time.time(),
            requested=request.model,
            router=ask.router,
            version=scored.hosted.router.version,
            mode=config.mode,
            threshold=threshold,
            win_rates=win_rates,
            quality=dict(zip(config.models, scored.quality, strict=True)) if scored.quality else None,
            probabilities=probabilities,
            model=model,
            propensity=probabilities[model],
            explored=model != choice,
            reason=_reason(model, choice, candidates, win_rates, threshold, blank),
            unit=unit,
            session_id=request.session_id,
            user=request.user,
            call_id=request.call_id,
            needs={**asked.needs, **(request.needs or {})},
            **self._kept(asked.text, scored)._asdict(),
        )

    def _kept(self, text: str, scored: Scored) -> KeptPrompt:
        return kept(self._config.keep, text, self._encoder_id, scored.embedding, scored.features)

    async def _recall(self, decision_id: str) -> Decision | None:
        try:
            age = time.time() - ids.minted_at(decision_id)
        except ValueError:
            raise Problem(400, "bad_request", "decision_id: expected a UUIDv7", "decision_id") from None
        if decision_id in self._recent:
            return self._recent[decision_id]
        return await self._find(decision_id) if age > _FRESH_SECONDS else None

    def _remember(self, decision: Decision) -> None:
        self._recent[decision.decision_id] = decision
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)


def _extract(request: RouteRequest) -> prompt.Prompt:
    body = {field: value for field in ("messages", "prompt", "input") if (value := getattr(request, field)) is not None}
    if len(body) != 1:
        fault = f"messages, prompt, input: expected exactly one of them, got {' and '.join(body) or 'none'}"
        raise Problem(400, "bad_request", fault, "messages")
    try:
        return prompt.extract(body)
    except prompt.BadPrompt as error:
        raise Problem(400, "bad_request", str(error), error.field) from None


def _reason(
    model: str,
    choice: str,
    candidates: tuple[str, ...],
    win_rates: dict[str, float],
    threshold: float,
    blank: bool,
) -> str:
    """Why this model, in one line."""
    if blank:
        return "no text to score: the strongest candidate"
    if len(candidates) == 1:
        return "the only candidate"
    if model != choice:
        return f"explored; the rule says {choice}"
    if model == candidates[0]:
        return f"no cheaper candidate's win rate is below {threshold:.3f}"
    return f"win rate {win_rates[model]:.3f} is below {threshold:.3f}"
