"""LiteLLM's request data: who sent it, in which session, what the daemon is asked, and where a routing is kept."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gateway_plugin import names, needs, routing
from gateway_plugin.prompt import Prompt
from gateway_plugin.routing import Routing

_LONGEST_ID = 256
_MOST_ENTRIES, _LONGEST_NAME, _LONGEST_VALUE = 16, 64, 512  # OpenAI's bounds of metadata
_STAMPED = ("used_client_oauth_token",)  # by LiteLLM, before it puts aside what the client sent
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
    found.user = identifier(getattr(key, "end_user_id", None)) or _hashed(getattr(key, "api_key", None))


def question(
    found: Routing,
    asked: Prompt,
    candidates: Sequence[str],
    data: dict[str, Any],
    key: Any,
    cooldown: Sequence[str] = (),
) -> dict[str, object]:
    """The body of POST /v1/route; cooldown: those of the candidates that the proxy gives a rest."""
    body = {
        "decision_id": found.decision_id,
        "model": found.requested,
        "prompt": asked.text,
        "needs": {**asked.needs, **found.tags},
        "candidates": candidates,
        "session_id": found.session_id or derived(asked.opening),
        "user": found.user,
        "call_id": found.call_id,
        "metadata": flat(_sent(data)) or None,
        "key": identifier(getattr(key, "key_alias", None)) or _hashed(getattr(key, "api_key", None)),
        "team": identifier(getattr(key, "team_alias", None)) or identifier(getattr(key, "team_id", None)),
        "continuation": asked.continuation or None,
        "cooldown": cooldown or None,
    }
    return {name: value for name, value in body.items() if value is not None}


def is_ours(data: dict[str, Any]) -> bool:
    """Whether routerd itself makes the call. Anybody may set the header, so it must never be of use to them."""
    return names.MARK in _headers(data)


def tags(data: dict[str, Any], key: Any) -> dict[str, str]:
    """What the request needs, as its key says, else its team, else its header, else its metadata. Raises BadNeeds."""
    holders = (getattr(key, "team_metadata", None), getattr(key, "metadata", None))
    said = (holder.get(needs.METADATA) for holder in holders if isinstance(holder, dict))
    return needs.read(_sent(data).get(needs.METADATA), _headers(data).get(needs.HEADER), *said)


def call_id(data: dict[str, Any]) -> str | None:
    """LiteLLM's id of the call, which the client may have chosen."""
    return identifier(data.get("litellm_call_id"))


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
    return identifier(data.get("litellm_session_id")) or identifier(kept.get("session_id")) or identifier(in_body)


def derived(opening: tuple[str, str] | None) -> str | None:
    """A session id for who names none: every turn of a conversation has the same beginning, the first one, too.

    The daemon tells users apart itself.
    """
    if opening is None:
        return None
    digest = hashlib.sha256("\0".join(opening).encode())
    return f"auto:{digest.hexdigest()}"


def flat(given: Mapping[str, object]) -> dict[str, str]:
    """Metadata of a client's, as far as it is plain: what rules see of it."""
    plain = ((identifier(name), _plain(value)) for name, value in given.items() if name not in _STAMPED)
    entries = [(name, value) for name, value in plain if name and value and len(name) <= _LONGEST_NAME]
    return dict(entries[:_MOST_ENTRIES])


def _sent(data: dict[str, Any]) -> Mapping[str, object]:
    """The client's own metadata; LiteLLM keeps it aside of its own."""
    given = bucket(data).get("requester_metadata")
    return given if isinstance(given, dict) else {}


def _headers(data: dict[str, Any]) -> dict[str, object]:
    """The client's, by their names in lower case."""
    sent = data.get("proxy_server_request")
    headers = sent.get("headers") if isinstance(sent, dict) else None
    return {str(name).lower(): value for name, value in headers.items()} if isinstance(headers, dict) else {}


def _plain(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return identifier(value, _LONGEST_VALUE)


def identifier(value: object, longest: int = _LONGEST_ID) -> str | None:
    """A client's identifier, made fit for JSON and a database."""
    if not isinstance(value, str):
        return None
    return value[:longest].replace("\0", "").encode("utf-8", "replace").decode() or None


def _hashed(key: object) -> str | None:
    """LiteLLM has hashed the key already, unless it comes from a custom_auth and does not begin with sk-."""
    if not isinstance(key, str) or not key:
        return None
    return key if _HASH.fullmatch(key) else hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
