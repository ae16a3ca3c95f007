"""What only LiteLLM's proxy knows: the models it serves, and which of them a key may use.

Its Router changes between releases, so each question here is one public call.
"""

import logging
import re
from collections.abc import Iterable
from typing import Any

logger = logging.getLogger(__name__)

_STORED = re.compile(r"response_id:([^;]+)")


def served(models: Iterable[str]) -> list[str]:
    """Those of the models that some deployment, alias or wildcard of the proxy answers."""
    return [model for model in models if _deployments(model)]


async def resting(models: Iterable[str]) -> list[str]:
    """Those of the models all of whose deployments LiteLLM gives a rest, since they have failed."""
    router = _router()
    if router is None:
        return []
    try:
        from litellm.router_utils.cooldown_handlers import async_get_cooldown_deployments as cooled_down

        cooling = set(await cooled_down(litellm_router_instance=router, parent_otel_span=None))
    except Exception as error:  # of a release that keeps this in another way: LiteLLM passes them over by itself
        logger.info("routerd: LiteLLM did not say which models rest: %s", error)
        return []
    return [model for model in models if cooling and (own := _ids(model)) and own <= cooling]


async def allowed(models: Iterable[str], key: Any) -> list[str]:
    """Those of the models that the key may use by LiteLLM's own rules."""
    try:
        from litellm.proxy.auth.fallback_model_access import is_model_authorized_for_token as may_use
    except ImportError:
        logger.warning(
            "routerd: this LiteLLM can't tell which models a key may use: `authorize: virtual_only` is in force"
        )
        return list(models)
    router = _router()
    return [model for model in models if await may_use(model=model, valid_token=key, llm_router=router)]


def has_fallbacks(model: str, data: dict[str, Any]) -> bool:
    """Whether the configuration, or the key's or team's settings, say what comes after the model."""
    override = data.get("router_settings_override")
    if isinstance(override, dict) and override.get("fallbacks"):
        return True
    try:
        from litellm.proxy.auth.model_checks import get_all_fallbacks
    except ImportError:
        return False
    return bool(get_all_fallbacks(model=model, llm_router=_router()))


def holder(response_id: object, models: Iterable[str]) -> str | None:
    """The one of the models whose provider keeps an earlier response, as LiteLLM has written into its id."""
    return owner(_keeper(response_id), models) if isinstance(response_id, str) else None


def owner(deployment: object, models: Iterable[str]) -> str | None:
    """The one of the models that has the deployment of this id."""
    return next((model for model in models if deployment and deployment in _ids(model)), None)


def classified() -> frozenset[str]:
    """The groups that LiteLLM's own complexity router answers."""
    router = _router()
    groups = (router.get_model_list() if router else None) or []
    marker = "auto_router/complexity_router"
    return frozenset(
        group["model_name"] for group in groups if str((group.get("litellm_params") or {}).get("model")) == marker
    )


def tiers(group: object) -> dict[str, str]:
    """The models that a complexity router chooses from, each with its tier."""
    found: dict[str, str] = {}
    for deployment in _deployments(group) if isinstance(group, str) else ():
        configured = (deployment.get("litellm_params") or {}).get("complexity_router_config") or {}
        for tier, models in (configured.get("tiers") or {}).items():
            for model in [models] if isinstance(models, str) else models:
                found.setdefault(model, tier)
    return found


def twin(group: str, models: Iterable[str]) -> str | None:
    """The first of the models that the group is a second name of: both lead to the same place."""
    wanted = _targets(group)
    return next((model for model in models if wanted & _targets(model)), None)


def filters_tags() -> bool:
    """Whether tags choose deployments, so that an unknown tag could leave a request without any."""
    return bool(getattr(_router(), "enable_tag_filtering", False))


def _keeper(response_id: str) -> str | None:
    """The deployment named in a response's id, which LiteLLM encrypts for its clients."""
    try:
        from litellm.proxy.common_utils.encrypt_decrypt_utils import decrypt_value_helper
        from litellm.responses.utils import ResponsesAPIRequestUtils

        hidden = response_id.removeprefix("resp_")
        shown = decrypt_value_helper(value=hidden, key="response_id", return_original_value=True) or ""
        found = _STORED.search(shown)
        name: object = ResponsesAPIRequestUtils.get_model_id_from_response_id(found[1] if found else response_id)
    except Exception as error:  # of a release that writes ids in another way: the request is routed as any other
        logger.info("routerd: a response's id could not be read: %s", error)
        return None
    return name if isinstance(name, str) else None


def _router() -> Any:
    from litellm.proxy import proxy_server

    return proxy_server.llm_router


def _deployments(model: str) -> list[dict[str, Any]]:
    router = _router()
    return (router.get_model_list(model_name=model) if router else None) or []


def _ids(model: str) -> set[object]:
    """Of the model's deployments."""
    return {(each.get("model_info") or {}).get("id") for each in _deployments(model)}


def _targets(group: str) -> set[tuple[object, object]]:
    parameters = (deployment.get("litellm_params") or {} for deployment in _deployments(group))
    return {(each.get("model"), each.get("api_base")) for each in parameters}
