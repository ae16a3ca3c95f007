"""Whatever a client sends, what the plugin makes of it is a body that the daemon reads."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway_plugin import ids, prompt, request
from gateway_plugin.prompt import BadPrompt, Score
from gateway_plugin.routing import Routing
from scorer import requests
from scorer.requests import RouteRequest
from scorer.web import decode
from tests.gateway_plugin.test_prompt import _any, _body, _json

_named = st.dictionaries(st.text(_any, max_size=8), _json, max_size=3)
_sent = st.fixed_dictionaries(
    {},
    optional={
        "litellm_call_id": _json,
        "litellm_session_id": _json,
        "metadata": _json | st.fixed_dictionaries({"requester_metadata": _named}, optional={"session_id": _json}),
        "max_tokens": _json,
    },
)
_key = st.builds(SimpleNamespace, end_user_id=_json, api_key=_json, key_alias=_json, team_alias=_json, team_id=_json)
_asking = _body.map(lambda body: {**body, "messages": [{"role": "user", "content": "Why?"}]})  # most others are refused
_scores: st.SearchStrategy[Score] = st.sampled_from(("last_user", "conversation"))


@settings(max_examples=60, deadline=None)
@given(body=_body | _asking, sent=_sent, key=_key, score=_scores)
def test_any_request_becomes_a_question_that_the_daemon_reads(
    body: dict[str, Any], sent: dict[str, Any], key: SimpleNamespace, score: Score
) -> None:
    data = {**body, **sent}
    try:
        asked = prompt.extract(data, score)
    except BadPrompt:
        assume(False)
    found = Routing(ids.mint(), "router")
    request.identify(found, data, key)
    question = json.dumps(request.question(found, asked, ["gpt-4o"], data, key)).encode()
    read = decode(question, RouteRequest)
    assert read.decision_id == found.decision_id
    assert requests.extract(read).text == prompt.extract({"prompt": asked.text}).text
