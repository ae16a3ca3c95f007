"""One request to one decision: rules and guards, then scores, then probabilities, then the draw; recorded."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from gateway_plugin import ids, prompt
from scorer import guards, models, requests, rules, sampler, sessions, telemetry, weighing
from scorer.batching import Batcher, QueueFull
from scorer.budget import Steering
from scorer.config import Config
from scorer.conversations import Away, Conversations
from scorer.decisions import Decision, KeptPrompt, kept
from scorer.guards import Guarded
from scorer.policy import BUDGET, Facts, Policy, Priced, Target, Threshold
from scorer.requests import Ask, Asked, RouteRequest
from scorer.routers.base import Unscorable
from scorer.rules import Rule
from scorer.scoring import Job, Scored
from scorer.sections import Sessions
from scorer.sessions import Pin
from scorer.web import Problem
from scorer.weighing import Circumstances

_FRESH_SECONDS = 10.0  # a retry of an id younger than this is remembered here, or drawn again alike elsewhere
_REMEMBERED = 10_000  # decisions that a retry finds without asking the database


class Routing:
    """Decides. `batchers` by router, so that one that is slow keeps no other waiting; `log` records a decision without
    waiting; `find` looks an older one up; `conversations` keeps pins, `steering` a budget's threshold."""

    def __init__(
        self,
        config: Config,
        encoder_id: str,
        batchers: Mapping[str, Batcher[Job, Scored | Unscorable]],
        log: Callable[[Decision], None],
        find: Callable[[str], Awaitable[Decision | None]],
        conversations: Conversations,
        steering: Steering,
    ) -> None:
        self._config = config
        self._encoder_id = encoder_id
        self._batchers = batchers
        self._log = log
        self._find = find
        self._conversations = conversations
        self._steering = steering
        self._models = models.known(config.ladder)
        self._rules = rules.prepare(config.rules)
        self._recent: OrderedDict[str, Decision] = OrderedDict()

    async def decide(self, request: RouteRequest) -> Decision:
        """The decision for a request; the same one again for the same decision id. Raises Problem."""
        decision_id = request.decision_id or ids.mint()
        known = await self._recall(decision_id)
        if known:
            return known
        asked = requests.extract(request)
        guarded = self._guard(request, asked)
        rule = rules.first(self._rules, request, asked.text, guarded.candidates)
        unit = request.session or decision_id
        name = (rule and rule.router) or request.model
        ask = requests.to_canary(self._config, name, self.ask(name), unit)
        job = Job(ask.router, asked.text, unit=unit)
        scored, (pin, away) = await asyncio.gather(self.score(job), self._pinned(request))
        case = _Case(request, decision_id, unit, asked, ask, guarded, rule, scored, time.time())
        with telemetry.stage("decide"):
            decision = await self._settle(case, pin, away)
        self._remember(decision)
        with telemetry.stage("log"):
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
        telemetry.note(*scored.stages)
        return scored

    async def keep(self, text: str) -> KeptPrompt:
        """What is kept of a prompt that was not routed here. Raises Problem 503."""
        text = prompt.extract({"prompt": text}).text
        router = self.ask(self._config.default).router
        return self._kept(text, await self.score(Job(router, text)))

    def ask(self, model: str) -> Ask:
        """What the name asks for. Raises Problem 400 for a bad name or a router that this daemon does not host."""
        return requests.ask(self._config, model)

    def _guard(self, request: RouteRequest, asked: Asked) -> Guarded:
        """Raises Problem 403 where the caller may have no model."""
        guarded = guards.narrow(self._models, asked, request.candidates, request.cooldown)
        if guarded is None:
            tagged = "".join(f", with {tag}: {value}" for tag, value in asked.tags.items())
            fault = f"candidates: none of them is on the ladder ({', '.join(self._models)}){tagged}"
            raise Problem(403, "not_allowed", fault, "candidates")
        return guarded

    async def _pinned(self, request: RouteRequest) -> tuple[Pin | None, bool]:
        """The conversation's pin, if there is one, and whether the database did not say."""
        if self._config.sessions is None or request.session is None:
            return None, False
        try:
            return await self._conversations.find(request.session, request.model), False
        except Away:
            return None, True

    async def _settle(self, case: _Case, pin: Pin | None, away: bool) -> Decision:
        """The decision, once its pin is written: by another replica's pin if that came first."""
        decision = self._weigh(case, pin, away)
        session = case.request.session
        if self._config.sessions is None or session is None or away:
            return decision
        version, tokens = decision.version, case.asked.size.tokens_in
        new = sessions.renewed(pin, session, case.request.model, decision.model, version, case.now, tokens)
        if new is None:
            return decision
        try:
            counts = await self._conversations.keep(new, pin)
        except Away:
            return self._weigh(case, pin, away=True)
        return decision if counts.model == new.model else self._weigh(case, counts, away)

    def _weigh(self, case: _Case, pin: Pin | None, away: bool) -> Decision:
        """Probabilities and draw, with everything that they rest on."""
        config, request, asked, scored = self._config, case.request, case.asked, case.scored
        settings = config.sessions or Sessions()
        if pin is not None and sessions.expired(pin, case.now, settings) and not request.continuation:
            pin = None
        size = sessions.in_cache(pin, asked.size, case.now, settings, request.cached_tokens)
        facts = Facts(
            candidates=case.guarded.candidates,
            win_rates=dict(zip(config.models, scored.win_rates, strict=True)),
            quality=dict(zip(config.models, scored.quality, strict=True)) if scored.quality else None,
            costs=models.costs(self._models, asked.size),
        )
        warm_costs = models.costs(self._models, size, cache_of=pin.model if pin else None)
        policy = self._policy(case.ask, scored, facts)
        under = Circumstances(
            guarded=case.guarded,
            rule=case.rule,
            pin=pin,
            continuation=request.continuation,
            blank=asked.blank,
            exploration=0.0 if policy.spent else config.exploration,
            sessions=settings,
            warm_costs=warm_costs,
            away=away,
        )
        weighed = weighing.weigh(facts, policy, under)
        model = sampler.draw(weighed.probabilities, case.unit)
        return Decision(
            decision_id=case.decision_id,
            created_at=case.now,
            requested=request.model,
            router=scored.hosted.router.name,
            version=scored.hosted.router.version,
            mode=config.mode,
            threshold=weighed.choice.threshold,
            win_rates=dict(facts.win_rates),
            quality=dict(facts.quality) if facts.quality else None,
            probabilities=weighed.probabilities,
            model=model,
            propensity=weighed.probabilities[model],
            explored=weighed.pinned is None and model != weighed.choice.model,
            reason=weighing.reason(weighed, model, under),
            unit=case.unit,
            session_id=request.named_session,
            user=request.user,
            call_id=request.call_id,
            needs=asked.needs,
            policy=policy.name,
            pinned=weighed.pinned,
            rule=case.rule.name if case.rule else None,
            guards=case.guarded.left_out or None,
            costs=dict(facts.costs) if facts.costs else None,
            expected_cost=warm_costs[model] if warm_costs else None,
            **self._kept(asked.text, scored)._asdict(),
        )

    def _policy(self, ask: Ask, scored: Scored, facts: Facts) -> Policy:
        """The configured one where the name leaves it open, else the name's threshold. Without what it needs to know,
        the default's threshold stands in."""
        configured = self._config.policy if ask.open else None
        if configured and configured.quality_per_dollar is not None and facts.costs is not None:
            return Priced(configured.quality_per_dollar)
        if configured and configured.quality_target is not None and facts.quality is not None:
            return Target(configured.quality_target)
        steered = self._steering.threshold(scored.hosted.router.version) if configured and configured.budget else None
        if steered is not None:
            return Threshold(steered, BUDGET)
        return Threshold(ask.threshold_for(scored.hosted))

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


class _Case(NamedTuple):
    """A request with all that is known before it is weighed."""

    request: RouteRequest
    decision_id: str
    unit: str
    asked: Asked
    ask: Ask
    guarded: Guarded
    rule: Rule | None
    scored: Scored
    now: float
