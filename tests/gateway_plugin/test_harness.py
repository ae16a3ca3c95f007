from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_plugin import harness


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<system-reminder>Use the\ntodo tool.</system-reminder>\nAdd a test.", "Add a test."),
        ("<task>\nAdd a test.\n</task>\n<environment_details>\nfiles: a.py\n</environment_details>", "Add a test."),
        ("<environment_context><cwd>/x</cwd></environment_context>", ""),
        ("<user_instructions>\n# AGENTS.md\nBe brief.\n</user_instructions>", ""),
        ("<user_info>\nOS: linux\n</user_info>\n<user_query>\nAdd a test.\n</user_query>", "Add a test."),
        ("<additional_data>x</additional_data>Add<additional_data>y</additional_data> it.", "Add it."),
        ("What does <task> mean in <task>?", "What does <task> mean in <task>?"),
        ("<system-reminder>never closed", "<system-reminder>never closed"),
        ("  plain  ", "plain"),
        ("a < b", "a < b"),
    ],
)
def test_the_humans_words_are_what_harnesses_leave(text: str, words: str) -> None:
    assert harness.human(text) == words


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("[read_file for 'a.py'] Result:\nprint(1)", True),
        ("[attempt_completion] Result:", True),
        ("Observation: a.py b.py", True),
        ("OBSERVATION:\na.py", True),
        ("[1] Result: why?", True),
        ("My observation: it is slow", False),
        ("Explain [this] Result: x", False),
        ("", False),
    ],
)
def test_results_in_plain_text_are_told_by_their_beginning(text: str, result: bool) -> None:
    assert harness.is_result(text) is result


def test_unclosed_blocks_take_linear_time() -> None:
    started = time.perf_counter()
    for block in ("system-reminder", "environment_details"):
        harness.human(f"<{block}>" * 100_000)
    harness.is_result("[x for " * 100_000)
    assert time.perf_counter() - started < 1


@given(st.text())
def test_without_a_tag_only_the_margins_go(text: str) -> None:
    assert harness.human(text.replace("<", "")) == text.replace("<", "").strip()
