"""How the daemon is served: TLS over real sockets, and clients that are slow, silent or endless."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway_plugin.client import Client, Unavailable
from gateway_plugin.settings import Settings, read
from scorer import connections, serving
from scorer.config import Config, ConfigError
from scorer.sections import TLSConfig
from scorer.web import JSON, Problem, answer_problem, read_body
from tests.certificates import Authority
from tests.conftest import free_port, served
from tests.demo.stack import ROOT
from tests.scorer.conftest import TWO


async def hello(request: Request) -> Response:
    body = await read_body(request, 2**20, 0.5)
    return JSON({"read": len(body), "scheme": request.url.scheme})


APP = Starlette(routes=[Route("/v1/route", hello, methods=["POST"])], exception_handlers={Problem: answer_problem})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secured(authority: Authority) -> TLSConfig:
    return TLSConfig(*authority.issue("daemon"))


def options(tls: TLSConfig | None = None) -> dict[str, Any]:
    return serving.options(Config(TWO, tls=tls))


# TLS


def test_it_speaks_tls_and_nothing_else(secured: TLSConfig, authority: Authority) -> None:
    with served(APP, **options(secured)) as url:
        trusting = ssl.create_default_context(cafile=str(authority.ca))
        answer = httpx.post(f"{url}/v1/route", content=b"why?", verify=trusting)
        assert answer.json() == {"read": 4, "scheme": "https"}  # so that the dashboard's cookie is Secure
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.post(f"{url}/v1/route")
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.post(f"{url}/v1/route".replace("https", "http"))


def test_old_versions_of_tls_are_refused(secured: TLSConfig) -> None:
    with served(APP, **options(secured)) as url:
        old = ssl.create_default_context()
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(httpx.ConnectError):
            httpx.post(f"{url}/v1/route", verify=old)


def test_with_a_client_authority_only_its_clients_are_answered(
    authority: Authority, secured: TLSConfig, tmp_path: Path
) -> None:
    def asked(url: str, certificate: tuple[Path, Path] | None) -> int:
        trusting = ssl.create_default_context(cafile=str(authority.ca))
        if certificate:
            trusting.load_cert_chain(*certificate)
        return httpx.post(f"{url}/v1/route", verify=trusting).status_code

    strict = TLSConfig(secured.certificate, secured.key, client_ca=authority.ca)
    with served(APP, **options(strict)) as url:
        assert asked(url, authority.issue("plugin")) == 200
        for certificate in (None, Authority(tmp_path).issue("stranger")):
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError, httpx.ConnectError, httpx.WriteError)):
                asked(url, certificate)


async def test_the_plugin_asks_over_tls(authority: Authority, secured: TLSConfig, tmp_path: Path) -> None:
    strict = TLSConfig(secured.certificate, secured.key, client_ca=authority.ca)
    both = tmp_path / "plugin.pem"
    both.write_text("".join(path.read_text() for path in authority.issue("plugin")))
    told = {"ca": str(authority.ca), "certificate": str(both)}

    async def ask(url: str, **configured: str) -> object:
        client = Client(read({"url": url, **configured}, {}))
        try:
            return (await client.route({}, asyncio.get_running_loop().time() + 5))["scheme"]
        except Unavailable as error:
            return str(error)
        finally:
            await client.close()

    with served(APP, **options(strict)) as url:
        assert await ask(url, **told) == "https"
        assert await ask(url, ca=told["ca"]) == "unreachable"
        assert await ask(url) == "unreachable"
        assert await ask(url, **told | {"ca": str(both)}) == "unreachable"


def test_the_plugin_names_a_file_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    assert read({"ca": "/nowhere/ca.pem"}, {}) == Settings()
    assert "callback_settings.routerd.ca: '/nowhere/ca.pem' is not a file that can be read" in caplog.text


def test_a_key_may_be_locked(authority: Authority) -> None:
    certificate, key = authority.issue("locked", password="open sesame")
    trusting = ssl.create_default_context(cafile=str(authority.ca))
    with served(APP, **options(TLSConfig(certificate, key, "open sesame"))) as url:
        assert httpx.post(f"{url}/v1/route", verify=trusting).status_code == 200


def test_the_command_serves_as_configured(authority: Authority, secured: TLSConfig, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a-token-in-a-file\n")
    port = free_port()
    config = {
        "ladder": [{"model": rung.model, "like": rung.like} for rung in TWO],
        "encoder": "static",
        "data_dir": str(tmp_path / "data"),
        "listen": f"127.0.0.1:{port}",
        "tls": {"certificate": str(secured.certificate), "key": str(secured.key)},
        "tokens": {"route": [{"file": str(tmp_path / "secret")}]},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "scorer", "serve", "--config", str(tmp_path / "config.yaml")]
    trusting = ssl.create_default_context(cafile=str(authority.ca))
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert f"on https://127.0.0.1:{port} (" in process.stdout.readline()  # it listens; who connects waits
        with httpx.Client(base_url=f"https://localhost:{port}", verify=trusting, timeout=30) as client:
            told = [
                client.get("/v1/routers", headers={"authorization": f"Bearer {token}"}).status_code
                for token in ("a-token-in-a-file", "another")
            ]
        process.terminate()
        assert process.wait(timeout=20) in (0, -signal.SIGTERM)
    assert told == [200, 401]


Change = Callable[[TLSConfig, Authority, Path], TLSConfig]
FAULTS: dict[str, tuple[Change, str]] = {
    "missing": (lambda tls, _, path: TLSConfig(path / "gone", tls.key), "tls.certificate: .*gone: No such file"),
    "key of another": (lambda tls, by, _: TLSConfig(tls.certificate, by.issue("other")[1]), "key values mismatch"),
    "no PEM": (lambda tls, _, __: TLSConfig(tls.certificate, Path(__file__)), "tls: certificates and key do not load"),
    "locked": (lambda _, by, __: TLSConfig(*by.issue("shut", "open sesame")), "tls: certificates and key do not"),
    "wrong password": (lambda _, by, __: TLSConfig(*by.issue("shut", "open sesame"), "no"), "or another password"),
    "no client CA": (lambda tls, _, path: TLSConfig(tls.certificate, tls.key, None, path / "x"), "tls.client_ca: "),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_certificates_that_cannot_be_used_are_one_line(
    secured: TLSConfig, authority: Authority, tmp_path: Path, fault: str
) -> None:
    change, said = FAULTS[fault]
    with pytest.raises(ConfigError, match=said) as raised:
        options(change(secured, authority, tmp_path))
    assert "\n" not in str(raised.value)


# Slow clients


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    with served(APP, **options()) as url:
        yield url


@contextmanager
def connection(url: str) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10) as opened:
        yield opened


def closed_after(opened: socket.socket) -> float:
    """Seconds until the other side closes; what it says is thrown away."""
    began = time.monotonic()
    try:
        while opened.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - began


POST = b"POST /v1/route HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /v1", POST, POST + b"x-more: " + b"a" * 1000, b"\r\n"],
    ids=["nothing", "half a line", "half a head", "half a header", "an empty line"],
)
def test_a_head_that_does_not_arrive_is_not_waited_for(impatient: str, sent: bytes) -> None:
    with connection(impatient) as opened:
        opened.sendall(sent)
        assert 0.2 < closed_after(opened) < 3


def test_neither_is_a_second_one(impatient: str) -> None:
    with connection(impatient) as opened:
        opened.sendall(POST + b"content-length: 2\r\n\r\n{}")
        assert opened.recv(65536).startswith(b"HTTP/1.1 200")
        opened.sendall(POST)
        assert 0.2 < closed_after(opened) < 3


def sent_until_closed(opened: socket.socket, part: bytes, most: int, pause: float = 0.0) -> int:
    """How often the part could be sent."""
    for count in range(most):
        try:
            opened.sendall(part)
        except OSError:  # a broken pipe, or a reset
            return count
        time.sleep(pause)
    return most


def test_neither_is_one_that_comes_a_byte_at_a_time(impatient: str) -> None:
    with connection(impatient) as opened:
        opened.sendall(b"POST /")
        assert 5 < sent_until_closed(opened, b"A", 200, pause=0.02) < 150


def test_a_body_that_does_not_arrive_is_a_408_and_then_the_end(impatient: str) -> None:
    with connection(impatient) as opened:
        opened.sendall(POST + b"content-length: 100\r\n\r\n{")
        said = opened.recv(65536)
        assert said.startswith(b"HTTP/1.1 408")
        for _ in range(3):
            opened.sendall(b" ")  # which must not keep it open
            time.sleep(0.02)
        assert closed_after(opened) < 3


def test_an_endless_head_is_cut_off_long_before_its_time_is_up() -> None:
    with served(APP, **options()) as url, connection(url) as opened:
        began = time.monotonic()
        opened.sendall(POST)
        assert sent_until_closed(opened, b"x-more: " + b"a" * 8000 + b"\r\n", most=8000) < 2000
        assert time.monotonic() - began < connections.HEAD_SECONDS / 2


def test_idle_connections_and_slow_answers_are_left_alone(impatient: str) -> None:
    """The next request may come later than a head may take; 75 seconds are for it."""
    with connection(impatient) as opened:
        for _ in range(3):
            opened.sendall(POST + b"content-length: 2\r\n\r\n")
            time.sleep(0.4)  # a body has longer
            opened.sendall(b"{}")
            assert opened.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(0.4)


def test_many_that_say_nothing_keep_nobody_waiting(impatient: str) -> None:
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connection(impatient)).sendall(POST)
        began = time.monotonic()
        assert httpx.post(f"{impatient}/v1/route", content=b"{}").status_code == 200
        assert time.monotonic() - began < 2
