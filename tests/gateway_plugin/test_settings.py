from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway_plugin.settings import Settings, read


def test_without_configuration_the_defaults_hold() -> None:
    settings = read(None, {})
    assert settings == Settings()
    assert (settings.url, settings.timeout_ms, settings.authorize) == ("http://127.0.0.1:4141", 300, "candidates")
    assert (settings.token, settings.fallback) == (None, None)
    assert (settings.score, settings.failover) == ("last_user", "ladder")


def test_the_config_is_read_and_the_environment_wins() -> None:
    configured = {"url": "http://daemon:4141/", "timeout_ms": 250, "fallback": "gpt-4o", "queue": 5}
    settings = read(configured, {"ROUTERD_TIMEOUT_MS": "500", "ROUTERD_TOKEN": "secret", "ROUTERD_FALLBACK": ""})
    assert settings == Settings("http://daemon:4141", "secret", 500, "gpt-4o", queue=5)


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("url", "127.0.0.1:4141", "a URL such as http://127.0.0.1:4141"),
        ("url", "http://host:port", "a URL such as http://127.0.0.1:4141"),
        ("timeout_ms", "soon", "a whole number from 1 to 60000"),
        ("timeout_ms", 0, "a whole number from 1 to 60000"),
        ("timeout_ms", True, "a whole number from 1 to 60000"),
        ("score", "everything", "last_user or conversation"),
        ("failover", "yes", "ladder or none"),
        ("authorize", "everything", "candidates or virtual_only"),
        ("queue", [], "a whole number from 1 to 1000000"),
        ("breaker_failures", 1.5, "a whole number from 1 to 1000"),
        ("breaker_pause_s", "nan", "a number from 0.1 to 3600"),
        ("fallback", "two\nlines", "a model's name"),
    ],
)
def test_a_bad_value_is_one_line_and_the_default_is_used(
    name: str, value: object, accepted: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert read({name: value}, {}) == Settings()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    message = caplog.records[0].getMessage()
    assert message.startswith(f"callback_settings.routerd.{name}: {value!r} is not {accepted}; ")
    assert len(message.splitlines()) == 1


def test_a_bad_variable_is_named_itself(caplog: pytest.LogCaptureFixture) -> None:
    assert read({"queue": 7}, {"ROUTERD_QUEUE": "-1"}).queue == Settings().queue
    assert caplog.records[0].getMessage().startswith("ROUTERD_QUEUE: '-1' is not a whole number")


def test_a_bad_token_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    assert read({"token": "sécret"}, {}).token is None
    assert "sécret" not in caplog.text
    assert "callback_settings.routerd.token: (hidden) is not printable ASCII" in caplog.text


def test_unknown_keys_are_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert read({"urll": "x", "speed": 3, "queue": 7}, {}) == Settings(queue=7)
    assert [record.getMessage() for record in caplog.records] == [
        "callback_settings.routerd: unknown speed, urll; accepted: "
        "url, token, timeout_ms, fallback, score, failover, authorize, queue, breaker_failures, breaker_pause_s, "
        "ca, certificate"
    ]


def test_settings_that_are_no_mapping_are_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert read("http://127.0.0.1", {}) == Settings()
    assert len(caplog.records) == 1


_NAMES = st.sampled_from(Settings._fields)
_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@hypothesis_settings(deadline=None)
@given(_VALUES | st.dictionaries(_NAMES | st.text(), _VALUES), st.dictionaries(_NAMES, st.text()))
def test_anything_is_read_without_an_error(configured: object, variables: dict[str, str]) -> None:
    settings = read(configured, {f"ROUTERD_{name.upper()}": value for name, value in variables.items()})
    assert settings.authorize in ("candidates", "virtual_only")
    assert 1 <= settings.timeout_ms <= 60_000
    assert settings.url.startswith("http")
