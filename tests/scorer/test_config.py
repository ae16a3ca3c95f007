"""Configuration: what is accepted, and one clear line for what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from scorer import config, sections
from tests.demo.stack import ROOT

LADDER = "ladder:\n  - {model: big, like: gpt-4-1106-preview}\n  - {model: small}\n"


def load(tmp_path: Path, text: str) -> config.Config:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return config.load(path)


def fault(tmp_path: Path, text: str) -> str:
    with pytest.raises(config.ConfigError) as raised:
        load(tmp_path, text)
    line = str(raised.value)
    assert "\n" not in line
    assert line.startswith(f"{tmp_path / 'config.yaml'}:")
    return line


def test_ladder_alone_is_a_configuration(tmp_path: Path) -> None:
    loaded = load(tmp_path, LADDER)
    assert loaded.models == ("big", "small")
    assert loaded.like == {"big": "gpt-4-1106-preview"}
    assert (loaded.host, loaded.port) == ("127.0.0.1", 4141)
    assert loaded.database_url == "sqlite:///routerd-data/routerd.sqlite"
    assert set(loaded.routers) == {"mf", "random"}


def test_environment_fills_in_where_the_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "a-long-secret")
    loaded = load(tmp_path, LADDER + "token: os.environ/MY_TOKEN\nlisten: 0.0.0.0:80\ndata_dir: /srv/data")
    assert loaded.token == "a-long-secret"
    assert loaded.database_url == "sqlite:////srv/data/routerd.sqlite"


def test_tokens_come_from_the_environment_and_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "a-long-secret-of-the-plugin")
    (tmp_path / "next").write_text("the-one-that-follows\n")
    (tmp_path / "key").write_text("of-the-judge")
    text = f"tokens: {{route: [os.environ/MY_TOKEN, {{file: {tmp_path / 'next'}}}], admin: [os.environ/MY_TOKEN]}}\n"
    text += "judge: {model: j, daily_dollars: 1, prices: {j: [1, 1], big: [1, 1], small: [1, 1]}, "
    text += f"key: {{file: {tmp_path / 'key'}}}}}\nlisten: 0.0.0.0:80\ntoken: the-old-one"
    loaded = load(tmp_path, LADDER + text)
    assert loaded.granted == {
        "the-old-one": {"route", "feedback", "admin", "metrics"},
        "a-long-secret-of-the-plugin": {"route", "admin"},
        "the-one-that-follows": {"route"},
    }
    assert loaded.admins == ["the-old-one", "a-long-secret-of-the-plugin"]
    assert loaded.judge is not None
    assert loaded.judge.key == "of-the-judge"
    assert load(tmp_path, LADDER).admins is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "secret: No such file or directory"),
        (b" \n", "secret: is empty; expected a secret"),
        (b"\xff\xfe", "secret: not a UTF-8 text file"),
        (b"short", "tokens.admin[0]: expected `str` of length >= 16"),
        (b"with a blank in its middle", "tokens.admin[0]: expected `str` matching regex"),
    ],
)
def test_file_that_holds_no_token_is_named_and_not_quoted(tmp_path: Path, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    line = fault(tmp_path, LADDER + f"tokens: {{admin: [{{file: {tmp_path / 'secret'}}}]}}")
    assert says in line
    assert "blank" not in line


def test_token_in_the_file_itself_is_refused_and_not_quoted(tmp_path: Path) -> None:
    line = fault(tmp_path, LADDER + "tokens: {route: [os.environ/HOME, a-long-enough-secret]}")
    assert line.endswith("tokens.route[1]: expected os.environ/NAME or {file: PATH}, not a token")


def test_file_is_a_word_like_any_other_where_no_secret_is_meant(tmp_path: Path) -> None:
    rule = "rules: [{name: r, model: big, metadata: {file: a.pdf}}]"
    assert load(tmp_path, LADDER + rule).rules[0].metadata == {"file": "a.pdf"}


def test_example_configuration_is_accepted() -> None:
    assert config.load(ROOT / "config.example.yaml").models == ("gpt-4o", "gpt-4o-mini")


def test_ipv6_address_is_taken_out_of_its_brackets(tmp_path: Path) -> None:
    loaded = load(tmp_path, LADDER + "listen: '[::1]:4141'")
    assert (loaded.host, loaded.port) == ("::1", 4141)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected `object`, got `null`"),
        ("ladder: [{model: a}]", "ladder: expected `array` of length >= 2"),
        (
            "ladder: [{modle: a}, {model: b}]",
            "ladder[0]: object contains unknown field `modle`; accepted: model, like",
        ),
        ("ladder: [{model: a}, {model: a}]", "ladder: 'a' appears twice"),
        ("ladder: [{model: router-mf}, {model: b}]", "'router-mf' is a virtual model"),
        ("ladder: [", "line 1, column 10"),
        (LADDER + "exploration: 2", "exploration: expected `float` <= 1.0"),
        (LADDER + "data_dir: 3", "3 is not a path"),
        (LADDER + "limits: {queue: many}", "limits.queue: expected `int`, got `str`"),
        (LADDER + "routers: {mff: {}}", "routers.mff: no such router; accepted: random, sw, mf"),
        (LADDER + "default: router-mf", "name both a router and a threshold or share"),
        (LADDER + "default: gpt-4", "not a virtual model"),
        (LADDER + "default: router-bert-p10", "which `routers` does not list"),
        (LADDER + "listen: 4141", "listen: expected `str`, got `int`"),
        (LADDER + "listen: localhost", "not host:port"),
        (
            LADDER + "listen: 10.0.0.5:80",
            "10.0.0.5 can be reached from other machines, so `token` must be set",
        ),
        (LADDER + "token: os.environ/ROUTERD_TEST_UNSET", "the environment has no ROUTERD_TEST_UNSET"),
        (LADDER + "encoder: bert", "encoder: no encoder 'bert'; accepted: minilm, static"),
        (LADDER + "encoder: {nam: static}", "unknown field `nam`; accepted: name, directory, threads"),
        (LADDER + "encoder: 3", "encoder: expected `object`, got `int`"),
        (LADDER + "tokn: x", "unknown field `tokn`; accepted: ladder, listen, token"),
        (
            LADDER + "tokens: {rout: []}",
            "tokens: object contains unknown field `rout`; accepted: route, feedback, admin",
        ),
        (LADDER + "tokens: {route: x}", "tokens.route: expected `array`, got `str`"),
        (LADDER + "tls: {certificate: x}", "tls: object missing required field `key`"),
        (LADDER + "limits: {rate: {per_second: 0, most_at_once: 1}}", "limits.rate.per_second: expected `float` > 0"),
        (LADDER + f"browser_ratings: {{keys: [{'k' * 32}], origins: ['*']}}", "browser_ratings.origins[0]: expected"),
        (LADDER + f"browser_ratings: {{keys: [{'k' * 31}], origins: []}}", "browser_ratings.keys[0]: expected `str`"),
        (
            LADDER + f"browser_ratings: {{keys: [{'k' * 32}], origins: []}}",
            "browser_ratings: anybody may rate anything anyway; set `token` or `tokens`",
        ),
    ],
)
def test_mistake_is_named_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    assert says.lower() in fault(tmp_path, text).lower()


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match=r"nowhere\.yaml: No such file"):
        config.load(tmp_path / "nowhere.yaml")


def test_encoder_is_named_alone_or_with_where_it_lies(tmp_path: Path) -> None:
    assert load(tmp_path, LADDER).encoder == sections.EncoderConfig("minilm")
    assert load(tmp_path, LADDER + "encoder: static").encoder == sections.EncoderConfig("static")
    whole = load(tmp_path, LADDER + "encoder: {name: static, directory: /srv/mine}").encoder
    assert whole == sections.EncoderConfig("static", Path("/srv/mine"))
    assert load(tmp_path, LADDER + "encoder: {threads: 2}").encoder == sections.EncoderConfig(threads=2)


def test_default_with_a_threshold_of_zero_is_complete(tmp_path: Path) -> None:
    assert load(tmp_path, LADDER + "default: router-mf-0").default == "router-mf-0"
