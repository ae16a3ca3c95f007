"""LiteLLM's request data: who sent it, in which session, and where a routing is kept until it ends."""

import hashlib
import re
from typing import Any

from gateway_plugin import routing
from gateway_plugin.routing import Routing

_LONGEST_ID = 256
_HASH = re.compile(r"[0-9a-f]{64}")


def bucket(data: dict[str, Any]) -> dict[str, Any]:
    """LiteLLM's own metadata of the request; where both exist, `metadata` goes to the provider."""
    for name in ("litellm_metadata", "metadata"):
        kept = data.get(name)
        if isinstance(kept, dict):
            return kept
    created: dict[str, Any] = {}
    data["metadata"] = created
    return created


def identify(found: Routing, data: dict[str, Any], key: Any) -> None:
    """Notes the call, the session and the user: LiteLLM's end user if there is one, else the key's hash."""
    found.call_id = call_id(data)
    found.session_id = _session(data)
    found.user = _id(getattr(key, "end_user_id", None)) or _hashed(getattr(key, "api_key", None))


def call_id(data: dict[str, Any]) -> str | None:
    """LiteLLM's id of the call, which the client may have chosen."""
    return _id(data.get("litellm_call_id"))


def keep(data: dict[str, Any], found: Routing, tag: bool) -> None:
    """Puts the routing where the later hooks find it, and the decision id where other loggers do."""
    kept = bucket(data)
    kept[routing.KEY] = found
    if tag:
        tags = kept.get("tags")
        kept["tags"] = [*(tags if isinstance(tags, list) else ()), f"route:{found.decision_id}"]


def _session(data: dict[str, Any]) -> str | None:
    """LiteLLM's session id, which may come from a header or the body, unless LiteLLM made it up."""
    kept, sent = bucket(data), data.get("metadata")
    if kept.get("litellm_session_id_generated"):
        return None
    in_body = sent.get("session_id") if isinstance(sent, dict) else None
    return _id(data.get("litellm_session_id")) or _id(kept.get("session_id")) or _id(in_body)


def _id(value: object) -> str | None:
    """A client's identifier, made fit for JSON and a database."""
    if not isinstance(value, str):
        return None
    return value[:_LONGEST_ID].replace("\0", "").encode("utf-8", "replace").decode() or None


def _hashed(key: object) -> str | None:
    """LiteLLM has hashed the key already, unless it comes from a custom_auth and does not begin with sk-."""
    if not isinstance(key, str) or not key:
        return None
    return key if _HASH.fullmatch(key) else hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
