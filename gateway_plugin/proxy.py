"""What only LiteLLM's proxy knows: the models it serves, and which of them a key may use.

Its Router changes between releases, so each question here is one public call.
"""

import logging
from collections.abc import Iterable
from typing import Any

logger = logging.getLogger(__name__)


def served(models: Iterable[str]) -> list[str]:
    """Those of the models that some deployment, alias or wildcard of the proxy answers."""
    return [model for model in models if _deployments(model)]


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


def twin(group: str, models: Iterable[str]) -> str | None:
    """The first of the models that the group is a second name of: both lead to the same place."""
    wanted = _targets(group)
    return next((model for model in models if wanted & _targets(model)), None)


def filters_tags() -> bool:
    """Whether tags choose deployments, so that an unknown tag could leave a request without any."""
    return bool(getattr(_router(), "enable_tag_filtering", False))


def _router() -> Any:
    from litellm.proxy import proxy_server

    return proxy_server.llm_router


def _deployments(model: str) -> list[dict[str, Any]]:
    router = _router()
    return (router.get_model_list(model_name=model) if router else None) or []


def _targets(group: str) -> set[tuple[object, object]]:
    parameters = (deployment.get("litellm_params") or {} for deployment in _deployments(group))
    return {(each.get("model"), each.get("api_base")) for each in parameters}
