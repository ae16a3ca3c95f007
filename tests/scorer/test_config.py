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
