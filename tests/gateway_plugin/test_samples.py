from __future__ import annotations

import json
from typing import Any

import litellm
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_plugin import samples

HI = {"role": "user", "content": "hi"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:"}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"messages": [HI]}, [HI]),
        ({"prompt": "hi"}, [HI]),
        ({"input": "hi"}, [HI]),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]}, [HI]),
        ({"system": "short", "messages": [HI]}, [{"role": "system", "content": "short"}, HI]),
        ({"system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "messages": [HI]}, "a\nb"),
        ({"instructions": "short", "input": "hi"}, [{"role": "system", "content": "short"}, HI]),
        ({"messages": [{"role": "developer", "content": "short"}, HI]}, [{"role": "system", "content": "short"}, HI]),
        (
            {"messages": [HI, {"role": "assistant", "content": "yes?"}, HI]},
            [HI, {"role": "assistant", "content": "yes?"}, HI],
        ),
    ],
)
def test_a_conversation_is_its_turns_as_plain_text(body: dict[str, Any], expected: Any) -> None:
    found = samples.conversation(body)
    assert found is not None
    assert (found[0]["content"] if isinstance(expected, str) else found) == expected


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {"messages": [{"role": "user", "content": "  "}]},
        {"messages": [HI, {"role": "assistant", "content": "a prefill"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "look"}, PICTURE]}]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}, HI]},
        {"messages": [{"role": "tool", "content": "4"}, HI]},
        {"messages": [{"role": "user", "content": "x" * 60_001}]},
        {"messages": [3]},
        {"prompt": ["one", "two"]},
        {"prompt": [[1, 2]]},
        {"input": [{"type": "function_call_output", "output": "4"}, HI]},
        {"system": {"text": "x"}, "messages": [HI]},
    ],
)
def test_what_another_model_could_not_answer_alike_is_not_sent(body: dict[str, Any]) -> None:
    assert samples.conversation(body) is None


@pytest.mark.parametrize(
    ("response", "said"),
    [
        ({"choices": [{"message": {"content": " yes "}}]}, "yes"),
        (litellm.ModelResponse(choices=[{"message": {"role": "assistant", "content": "yes"}}]), "yes"),
        ({"choices": [{"text": "yes"}]}, "yes"),
        ({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "yes"}]}, "yes"),
        (
            {
                "output": [
                    {"type": "reasoning"},
                    {"type": "message", "content": [{"type": "output_text", "text": "yes"}]},
                ]
            },
            "yes",
        ),
        (
            {"response": {"output": [{"type": "message", "content": [{"type": "output_text", "text": "yes"}]}]}},
            "yes",
        ),
        ({"choices": [{"message": {"content": "yes", "tool_calls": [{"id": "1"}]}}]}, None),
        ({"output": [{"type": "function_call"}, {"type": "message", "content": []}]}, None),
        ({"content": [{"type": "text", "text": "yes"}, {"type": "tool_use"}]}, None),
        ({"choices": [{"message": {"content": ""}}]}, None),
        ({"choices": [{"message": {"content": None}}]}, None),
        ({"choices": [{"message": {"content": "redacted-by-litellm"}}]}, None),
        ({"choices": [{"message": {"content": "x" * 60_001}}]}, None),
        ({"choices": []}, None),
        ("text", None),
        (None, None),
    ],
)
def test_an_answer_is_the_text_of_any_endpoint(response: object, said: str | None) -> None:
    assert samples.answer(response) == said


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec=None), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["messages", "role", "content", "text", "type", "input", "choices", "message", "output"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_json)
def test_whatever_comes_nothing_breaks_and_what_is_sent_encodes(value: object) -> None:
    for body in (value, {"messages": value}, {"messages": [{"role": "user", "content": value}]}):
        if isinstance(body, dict):
            json.dumps(samples.conversation(body), ensure_ascii=False).encode()
    said = samples.answer(value)
    assert said is None or said.encode()
