"""The daemon as the classifier of LiteLLM's own complexity router (docs/litellm-classifier.yaml).

    model: auto_router/complexity_router
    complexity_router_config: {classifier_type: custom, classifier_plugin: gateway_plugin.classifier.instance}

LiteLLM wants the name of a tier, so each model is to have one of its own. With gateway_plugin.hook.instance among the
callbacks the answer has headers and the daemon gets an outcome. Whatever goes wrong here, LiteLLM falls back by its
own rules.
"""

from typing import Any

from gateway_plugin import hook, ids, prompt, proxy, request, routing, traces
from gateway_plugin.client import Unavailable
from gateway_plugin.routing import Routing

_DEFAULT = "router"  # what is asked of the daemon: its configured router and threshold


class Classifier:
    """Answers LiteLLM's `classify`."""

    async def classify(self, context: Any) -> str | None:
        """The tier of the model that the daemon chose; None while it only observes. Raises Unavailable, Refused and
        BadPrompt."""
        metadata: dict[str, Any] = dict(context.metadata)
        found = routing.find(metadata) or Routing(ids.mint(), _DEFAULT)
        now, deadline = hook.instance.now(), hook.instance.now().deadline()
        tiers = proxy.tiers(metadata.get("model_group"))
        ladder = await now.learned.get(deadline)
        candidates = [model for model in proxy.served(ladder.models) if model in tiers]
        candidates = [model for model in candidates if ladder.has(model, found.tags)]
        if (key := metadata.get("user_api_key_auth")) is not None:
            candidates = await now.allowed(candidates, key)
        if not candidates:
            raise Unavailable("no model that is both on the ladder and in a tier can be had")
        asked = prompt.extract({"messages": list(context.structured_messages)}, now.settings.score)
        resting = await now.resting(candidates, deadline)
        question = request.question(found, asked, candidates, {"metadata": metadata}, key, resting)
        question["model"] = _DEFAULT
        answer = await now.client.route(question, deadline, traces.context({}, key))
        model = answer.get("model")
        if model not in candidates:
            raise Unavailable("bad answer: not a candidate")
        found.decide(answer, str(model), candidates)
        return None if found.status == "observe" else tiers[str(model)]


instance = Classifier()
