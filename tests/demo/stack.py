"""The whole stack as real processes on free ports: stand-in providers, scoring daemon, LiteLLM proxy."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 90.0
KEY = "sk-demo"  # the proxy's master key; the demo has no other
NIGHT = {"golden": 0.4}  # of few ratings more must be kept from learning, for the gate to tell anything


class StackError(Exception):
    """A process that did not come up; the message ends with what it said last."""


@dataclass
class Service:
    """One process, started and stopped as often as one likes; its output goes to a file."""

    name: str
    command: Sequence[str]
    ready: str  # a URL that answers once the process serves
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = ROOT
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that Ctrl-C reaches us alone, and we stop things in order
            )
        self._wait()

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = None

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(self.ready):
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = self.log.read_text(errors="replace").strip().splitlines()[-5:]
                raise StackError(f"{self.name} did not start; it said:\n" + "\n".join(said))
            time.sleep(0.05)


@dataclass(frozen=True)
class Stack:
    """The running stack."""

    proxy: str  # URLs
    daemon: str
    services: Mapping[str, Service]


@contextlib.contextmanager
def running(folder: Path, config: Path, proxy_config: Path, latencies: Mapping[str, float]) -> Iterator[Stack]:
    """Everything up; the daemon runs on a copy of `config` with its own port and data folder.

    `latencies` (seconds) has one stand-in provider for each environment variable prefix that the proxy's config
    reads its api_base from, e.g. STRONG for STRONG_API_BASE.
    """
    ports = {name: free_port() for name in (*latencies, "daemon", "proxy")}
    services = {name: _provider(name, ports[name], latency, folder) for name, latency in latencies.items()}
    services["daemon"] = _daemon(folder, config, ports["daemon"])
    bases = {f"{name}_API_BASE": f"http://127.0.0.1:{ports[name]}/v1" for name in latencies}
    keys = {f"{name}_API_KEY": "no-key-needed" for name in latencies}
    daemon = f"http://127.0.0.1:{ports['daemon']}"
    services["proxy"] = _proxy(folder, proxy_config, ports["proxy"], {**bases, **keys, "ROUTERD_URL": daemon})
    try:
        for service in services.values():
            service.start()
        yield Stack(f"http://127.0.0.1:{ports['proxy']}", daemon, services)
    finally:
        for service in reversed(services.values()):
            service.stop()


def _provider(name: str, port: int, latency: float, folder: Path) -> Service:
    command = [sys.executable, "-m", "tests.demo.provider", "--port", str(port), "--latency", str(latency)]
    return Service(f"the {name} provider", command, f"http://127.0.0.1:{port}/calls", folder / f"{name}.log")


def _daemon(folder: Path, config: Path, port: int) -> Service:
    settings = yaml.safe_load(config.read_text())
    settings |= {"listen": f"127.0.0.1:{port}", "data_dir": str(folder / "routerd-data"), "retrain": NIGHT}
    own = folder / "config.yaml"
    own.write_text(yaml.safe_dump(settings, sort_keys=False))
    command = [sys.executable, "-m", "scorer", "serve", "--config", str(own)]
    return Service("the scoring daemon", command, f"http://127.0.0.1:{port}/readyz", folder / "daemon.log")


def _proxy(folder: Path, config: Path, port: int, environment: Mapping[str, str]) -> Service:
    command = [str(Path(sys.executable).with_name("litellm")), "--config", str(config), "--port", str(port)]
    command += ["--host", "127.0.0.1", "--telemetry", "False"]
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MASTER_KEY": KEY}
    log = folder / "proxy.log"
    return Service(
        "the LiteLLM proxy",
        command,
        f"http://127.0.0.1:{port}/health/liveliness",
        log,
        {**quiet, **environment},
        folder,
    )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
