from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_plugin import prompt
from gateway_plugin.prompt import LIMIT, BadPrompt, extract
from tests.gateway_plugin.processes import ROOT


def _user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def _assistant(content: object, **more: object) -> dict[str, object]:
    return {"role": "assistant", "content": content, **more}


def _text(*messages: object) -> str:
    return extract({"messages": list(messages)}).text


def test_the_last_user_message_is_scored() -> None:
    assert _text({"role": "system", "content": "Be brief."}, _user("First?"), _assistant("1"), _user(" Second? ")) == (
        "Second?"
    )


def test_text_parts_are_joined_and_others_are_not_text() -> None:
    parts = [
        {"type": "text", "text": "What is"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "text", "text": "this?"},
        {"type": "file", "file": {"file_id": "f"}},
    ]
    asked = extract({"messages": [_user(parts)]})
    assert asked.text == "What is\nthis?"
    assert asked.needs["images"] is True
    assert asked.needs["chars"] == len("What is") + len("this?")


@pytest.mark.parametrize(
    ("part", "need"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x/y.png"}}, "images"),
        ({"type": "input_image", "image_url": "https://x/y.png"}, "images"),
        ({"type": "image", "source": {"type": "base64"}}, "images"),
        ({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}, "audio"),
        ({"type": "audio", "audio": {}}, "audio"),
        ({"type": "tool_use", "id": "t", "name": "ls", "input": {}}, "tools"),
        ({"type": "tool_result", "tool_use_id": "t", "content": "x"}, "tools"),
    ],
)
def test_a_part_tells_a_need(part: dict[str, object], need: str) -> None:
    needs = extract({"messages": [_user([part])]}).needs
    assert {name for name in ("images", "audio", "tools", "json") if needs[name]} == {need}


def test_an_image_in_a_tool_result_is_an_image() -> None:
    result = {"type": "tool_result", "content": [{"type": "image", "source": {}}, {"type": "text", "text": "abc"}]}
    needs = extract({"messages": [_user([result])]}).needs
    assert (needs["images"], needs["tools"], needs["chars"]) == (True, True, 3)


@pytest.mark.parametrize("field", ["tools", "functions"])
def test_offered_tools_are_a_need(field: str) -> None:
    assert extract({"messages": [], field: [{"type": "function"}]}).needs["tools"] is True
    assert extract({"messages": [], field: []}).needs["tools"] is False


@pytest.mark.parametrize(
    ("wanted", "json"),
    [
        ({"response_format": {"type": "json_object"}}, True),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, True),
        ({"response_format": {"type": "text"}}, False),
        ({"response_format": None}, False),
        ({"text": {"format": {"type": "json_schema"}}}, True),
        ({"text": {"format": {"type": "text"}}}, False),
        ({"text": {"verbosity": "low"}}, False),
        ({}, False),
    ],
)
def test_structured_output_is_a_need(wanted: dict[str, object], json: bool) -> None:
    assert extract({"input": "hi"} | wanted).needs["json"] is json


def test_chars_count_the_whole_conversation() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "ls", "arguments": "12345"}}
    messages = [
        {"role": "system", "content": "1234567890"},
        _user("123"),
        _assistant(None, tool_calls=[call]),
        {"role": "tool", "tool_call_id": "c", "content": "1234567"},
        _assistant([{"type": "text", "text": "12"}], tool_calls=None),
    ]
    assert extract({"messages": messages}).needs["chars"] == 10 + 3 + 5 + 7 + 2
    anthropic = {"system": [{"type": "text", "text": "1234"}], "messages": [_user("12")]}
    assert extract(anthropic).needs["chars"] == 6
    assert extract({"instructions": "1234", "input": "12"}).needs["chars"] == 6


def test_an_openai_tool_loop_is_scored_by_the_humans_question() -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "ls", "arguments": "{}"}}]
    loop = [_assistant(None, tool_calls=calls), {"role": "tool", "tool_call_id": "c", "content": "a.py b.py"}] * 20
    assert _text({"role": "system", "content": "Agent."}, _user("Fix the tests"), *loop) == "Fix the tests"


def test_an_anthropic_tool_loop_is_scored_by_the_humans_question() -> None:
    use = _assistant(
        [{"type": "text", "text": "Let me see."}, {"type": "tool_use", "id": "t", "name": "ls", "input": {}}]
    )
    result = _user([{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "a.py"}]}])
    assert _text(_user("Fix the tests"), use, result, use, result) == "Fix the tests"


def test_what_the_human_says_beside_a_tool_result_counts() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": "a.py"}
    assert _text(_user("Fix"), _user([result, {"type": "text", "text": "Only a.py, please"}])) == "Only a.py, please"


def test_a_responses_conversation_is_scored_by_the_humans_question() -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "Fix the tests"}]},
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "c", "name": "ls", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "a.py"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Done."}]},
    ]
    asked = extract({"input": items})
    assert asked.text == "Fix the tests"
    assert asked.needs["tools"] is True
    assert asked.needs["chars"] == len("Fix the tests") + len("{}") + len("a.py") + len("Done.")


def test_an_agent_that_calls_tools_in_the_text_is_scored_by_the_humans_question() -> None:
    details = "<environment_details>\n# Files\na.py\n</environment_details>"
    system = "You are an engineer. " * 500
    messages = [
        {"role": "system", "content": system},
        _user([{"type": "text", "text": "<task>\nFix the tests\n</task>"}, {"type": "text", "text": details}]),
        _assistant("<read_file><path>a.py</path></read_file>"),
        _user([{"type": "text", "text": "[read_file for 'a.py'] Result:"}, {"type": "text", "text": "x = 1"}]),
    ]
    asked = extract({"messages": messages})
    assert (asked.text, asked.continuation, asked.needs["tools"]) == ("Fix the tests", True, True)
    assert asked.opening == (system, "Fix the tests")
    again = extract({"messages": [*messages, _assistant("Done."), _user("Now add one.")]})
    assert (again.text, again.continuation, again.opening) == ("Now add one.", False, asked.opening)


def test_a_coding_agents_context_comes_before_the_humans_question() -> None:
    items = [
        _user([{"type": "input_text", "text": "<user_instructions>\nBe brief.\n</user_instructions>"}]),
        _user([{"type": "input_text", "text": "<environment_context><cwd>/x</cwd></environment_context>"}]),
        _user([{"type": "input_text", "text": "Fix the tests"}]),
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "c", "name": "shell", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "ok"},
    ]
    asked = extract({"instructions": "You are a coding agent.", "input": items})
    assert (asked.text, asked.continuation) == ("Fix the tests", True)
    assert asked.opening == ("You are a coding agent.", "Fix the tests")


def test_the_first_turn_is_a_question_whatever_it_begins_with() -> None:
    assert _text(_user("Observation: the sky is blue. Why?")) == "Observation: the sky is blue. Why?"


@pytest.mark.parametrize(
    ("last", "continuation"),
    [
        ({"role": "tool", "tool_call_id": "c", "content": "x"}, True),
        ({"role": "function", "name": "ls", "content": "x"}, True),
        (_user([{"type": "tool_result", "tool_use_id": "c", "content": "x"}, {"type": "text", "text": "stop"}]), True),
        (_user("Observation: x"), True),
        (_user("Thanks, and now?"), False),
        (_assistant("a prefill"), False),
    ],
)
def test_a_tool_loop_is_told_by_its_last_message(last: dict[str, object], continuation: bool) -> None:
    use = _assistant(None, tool_calls=[{"id": "c", "function": {"name": "ls", "arguments": "{}"}}])
    assert extract({"messages": [_user("Fix it"), use, last]}).continuation is continuation


def test_a_conversation_is_scored_newest_first_so_that_boiler_plate_comes_last() -> None:
    boiler = "You are an agent. " * 2_000
    body = {"messages": [{"role": "system", "content": boiler}, _user("First?"), _assistant("1"), _user("Second?")]}
    assert extract(body).text == "Second?"
    text = extract(body, "conversation").text
    assert text.startswith("Second?\nFirst?\nYou are an agent.")
    assert len(text) == LIMIT
    carried = {"messages": [_user("First?"), _user("Prove it."), _user("go on")]}
    assert extract(carried, "conversation").text == "Prove it.\ngo on\nFirst?"


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"prompt": "x" * 300}, 66),
        ({"prompt": "日" * 100}, 140),
        ({"prompt": "x"}, 1),
        ({"messages": []}, 0),
        ({"instructions": "x" * 50, "input": "y" * 50}, 22),
        ({"messages": [_user([{"type": "image_url", "image_url": {"url": "data:"}}] * 2)]}, 2_004),
        ({"messages": [_user("hi")] * 100}, 444),
        ({"prompt": "", "tools": [{"name": "x" * 16}]}, 14),  # as JSON: 20 letters, 9 signs, a space
    ],
)
def test_tokens_are_estimated_for_all_that_is_sent(body: dict[str, object], tokens: int) -> None:
    assert extract(body).needs["tokens"] == tokens


def test_the_estimate_is_seldom_below_what_a_tokenizer_counts() -> None:
    from litellm.litellm_core_utils.default_encoding import encoding

    text = (ROOT / "gateway_plugin" / "prompt.py").read_text() + (ROOT / "README.md").read_text()
    counted = len(encoding.encode(text, disallowed_special=()))
    assert counted < extract({"prompt": text}).needs["tokens"] < 1.6 * counted


@pytest.mark.parametrize("most", [0, -1, True, "9", None, 2**60])
def test_a_limit_that_is_none_is_left_out(most: object) -> None:
    assert "max_tokens" not in extract({"prompt": "hi", "max_tokens": most}).needs


def test_reminders_of_the_harness_are_not_the_humans_words() -> None:
    text = "<system-reminder>Use the\ntodo tool.</system-reminder>\nAdd a test.<system-reminder>x</system-reminder>"
    assert _text(_user(text)) == "Add a test."
    assert _text(_user("Add a test."), _user("<system-reminder>context is low</system-reminder>")) == "Add a test."
    assert _text(_user("What does <system-reminder> do?")) == "What does <system-reminder> do?"


@pytest.mark.parametrize(
    "word",
    [
        "yes",
        "Yes, go on.",
        "continue",
        "OK",
        "ok thanks!",
        "Thank you",
        "go ahead please",
        "y",
        "👍",
        "...",
        "Let’s go",
    ],
)
def test_a_bare_continuation_is_scored_with_its_question(word: str) -> None:
    assert _text(_user("Prove it."), _assistant("Shall I?"), _user(word)) == f"Prove it.\n{word}"


def test_continuations_of_continuations_lead_back_to_the_question() -> None:
    assert _text(_user("Prove it."), _user("ok"), _assistant("..."), _user("continue")) == "Prove it.\ncontinue"


@pytest.mark.parametrize("text", ["yes, but why?", "continue the story in French", "no, use Rust", "now add tests"])
def test_more_than_a_continuation_is_a_question_of_its_own(text: str) -> None:
    assert _text(_user("Tell a story."), _user(text)) == text


def test_a_continuation_of_nothing_is_scored_alone() -> None:
    assert _text(_user("thanks")) == "thanks"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"messages": []}, ""),
        ({"messages": [{"role": "system", "content": "x"}]}, ""),
        ({"messages": [_user(None)]}, ""),
        ({"messages": [_user([])]}, ""),
        ({"prompt": "Once upon"}, "Once upon"),
        ({"prompt": ["Once", "upon"]}, "Once\nupon"),
        ({"prompt": [1, 2, 3]}, ""),
        ({"prompt": [[1, 2], [3]]}, ""),
        ({"input": "hi"}, "hi"),
        ({"input": ["a", "b"]}, "b"),
        ({"messages": None, "prompt": "p"}, "p"),
        ({"input": "i", "prompt": {"id": "pmpt_1"}}, "i"),  # the Responses API's prompt templates
    ],
)
def test_every_shape_has_its_text(body: dict[str, object], text: str) -> None:
    assert extract(body).text == text


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [_user("a"), {"content": "b"}]}, "messages[1].role"),
        ({"messages": [{"role": 5, "content": "b"}]}, "messages[0].role"),
        ({"messages": [_user("a"), _user("b"), _user("c"), _user(5)]}, "messages[3].content"),
        ({"messages": [_user({"type": "text"})]}, "messages[0].content"),
        ({"messages": [_user([5])]}, "messages[0].content[0]"),
        ({"messages": [_user(["ok", {"type": "text"}])]}, "messages[0].content[1].text"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": ["a", {}]}, "prompt[1]"),
        ({"input": {}}, "input"),
        ({"input": [{"content": "x"}]}, "input[0].role"),
    ],
)
def test_a_wrong_shape_names_its_field(body: dict[str, object], field: str) -> None:
    with pytest.raises(BadPrompt) as raised:
        extract(body)
    assert raised.value.field == field
    assert str(raised.value) == f"{field}: {raised.value.message}"


def test_a_long_text_keeps_its_beginning_and_end() -> None:
    text = extract({"prompt": "a" * LIMIT + "b" * LIMIT}).text
    assert len(text) == LIMIT
    assert text == "a" * 16_000 + "\n" + "b" * 15_999
    assert extract({"prompt": "a" * LIMIT}).text == "a" * LIMIT


def test_surrogates_do_not_survive() -> None:
    assert extract({"prompt": "a\ud800b"}).text == "a\ufffdb"
    assert extract({"prompt": "\ud83d\ude00"}).text == "😀"


def test_ten_thousand_messages_take_milliseconds() -> None:
    call = [{"id": "c", "type": "function", "function": {"name": "ls", "arguments": "{}"}}]
    turn = [_user("x" * 50), _assistant(None, tool_calls=call), {"role": "tool", "content": "y"}, _assistant("z")]
    messages = turn * 2_500
    started = time.perf_counter()
    asked = extract({"messages": messages})
    assert time.perf_counter() - started < 0.25  # 15 ms on an idle core
    assert asked.needs["chars"] == 2_500 * (50 + 2 + 1 + 1)


def test_unclosed_reminders_take_linear_time() -> None:
    started = time.perf_counter()
    extract({"prompt": "<system-reminder>" * 100_000})
    assert time.perf_counter() - started < 1


_any = st.characters(exclude_categories=())  # surrogates, too
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(_any, max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)
_kinds = st.sampled_from(
    ["text", "input_text", "image_url", "tool_result", "tool_use", "function_call", "input_audio", "message"]
)
_part = _json | st.fixed_dictionaries(
    {}, optional={"type": _kinds | _json, "text": st.text() | _json, "content": _json, "output": _json}
)
_message = _json | st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "system", "tool"]) | _json,
        "content": st.text(_any) | st.lists(_part, max_size=4) | _json,
        "tool_calls": st.lists(_part, max_size=2) | _json,
        "type": _kinds | _json,
    },
)
_body = st.fixed_dictionaries(
    {},
    optional={
        "messages": st.lists(_message, max_size=5) | _json,
        "prompt": _json,
        "input": st.lists(_message, max_size=5) | _json,
        "tools": _json,
        "system": _json,
        "response_format": _json,
        "text": _json,
    },
)


@settings(max_examples=300, deadline=None)
@given(_body)
def test_any_body_is_read_or_refused_with_its_field(body: dict[str, Any]) -> None:
    asked, field = None, "messages"
    try:
        asked = extract(body)
    except BadPrompt as error:
        field = error.field
    assert field.split("[")[0] in ("messages", "prompt", "input")
    if asked is not None:
        asked.text.encode()
        assert len(asked.text) <= LIMIT
        assert set(asked.needs) - {"max_tokens"} == {"images", "audio", "tools", "json", "chars", "tokens"}
        assert asked.needs["chars"] >= 0


@given(st.text(_any, max_size=50), st.integers(1, 2_000))
@settings(deadline=None, max_examples=50)
def test_any_text_is_bounded_and_encodable(text: str, times: int) -> None:
    asked = extract({"messages": [_user("Question? " * 5_000), _user(text * times)]})
    asked.text.encode()
    assert len(asked.text) <= LIMIT
    assert extract({"prompt": asked.text.strip()}).text == asked.text.strip()


def test_the_limit_is_the_contracts() -> None:
    assert prompt.LIMIT == 32_000
