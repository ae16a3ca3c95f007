"""How many decisions a second, and how long each takes: every router and encoder, beside what bounds them.

    python -m tests.benchmarks.capacity [--seconds 4] [--out capacity.json] [--only static,echo]

POST /v1/route of real daemons, each with its own database, at 1, 8, 32 and 128 requests at once, beside

    echo        Starlette behind the same uvicorn, which answers with the body that it got
    encoder     the encoder alone, one prompt after the other, in a process of its own
    routellm    RouteLLM's sw as it is coded, a regression for every query, on 55,000 battles: as many as it had from
                the Arena; one query after the other (tests.benchmarks.sw). The shipped sw has 190,000

With sessions every request belongs to a conversation of its own, as through the gateway: its pin is written before the
answer. Clients are closed-loop, in a process of their own. Everything is measured in two rounds of one run. `cpu` is
the server's processor time a request, which depends the least on what else the machine does.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from scorer import catalogue
from scorer.routers.similarity import Similarity
from scorer.routers.variants import Upstream
from scorer.sections import ENCODERS
from tests.benchmarks import load, sw
from tests.demo.__main__ import PROMPTS
from tests.demo.stack import Service, StackError, free_port

AT_ONCE = (1, 8, 32, 128)
FEW = (1, 8)  # of routers whose networks take tens of milliseconds a prompt
ROUTERS = ("random", "mf", "sw", "boosted")
ROUNDS, WARM_SECONDS = 2, 0.3
SESSIONS = 10_000  # more than a line's requests
REGRESSIONS, REGRESSED = 3, sw.SIZES[0]
LADDER = [
    {"model": "gpt-4o", "like": "gpt-4-1106-preview"},
    {"model": "gpt-4o-mini", "like": "mixtral-8x7b-instruct-v0.1"},
]
console = Console(highlight=False, width=100)


@dataclass
class Row:
    """One line of the table. spans: milliseconds; cpu: seconds of the server's for `asked` requests."""

    what: str
    encoder: str
    at_once: int
    spans: list[float] = field(default_factory=list)
    seconds: float = 0.0
    answered: int = 0
    failed: int = 0
    asked: int = 0
    cpu: float = 0.0

    def figures(self) -> dict[str, Any]:
        p50, p95, p99 = (round(float(each), 3) for each in np.percentile(self.spans, [50, 95, 99]))
        return {
            "what": self.what,
            "encoder": self.encoder,
            "at_once": self.at_once,
            "requests": len(self.spans),
            "failed": self.failed,
            "per_second": round(self.answered / self.seconds, 2),
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
            "cpu_ms": round(1000 * self.cpu / self.asked, 3),
        }


Step = Callable[[float], None]  # measures for so many seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each line, in two rounds")
    parser.add_argument("--out", type=Path, help="JSON")
    parser.add_argument("--only", default="", help="parts, with commas: echo, static, minilm, text, routellm")
    arguments = parser.parse_args()
    parts = [part for part in arguments.only.split(",") if part] or list(PARTS)
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"--only: no part {unknown[0]!r}; accepted: {', '.join(PARTS)}")
    machine = about()
    rows = measure(parts, arguments.seconds)
    machine["load_after"] = os.getloadavg()[0]
    show(rows, machine, arguments.seconds)
    if arguments.out:
        document = {"machine": machine, "seconds": arguments.seconds, "rows": [row.figures() for row in rows]}
        arguments.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def measure(parts: Sequence[str], seconds: float) -> list[Row]:
    """All servers run all the time; the lines take turns."""
    rows: list[Row] = []
    spawn = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack, ProcessPoolExecutor(1, spawn) as client:
        steps = [step for part in parts for step in PARTS[part](stack, client, rows)]
        for _, step in itertools.product(range(ROUNDS), steps):
            step(seconds / ROUNDS)
    return [row for row in rows if row.spans]


def of_echo(stack: contextlib.ExitStack, client: ProcessPoolExecutor, rows: list[Row]) -> Iterator[Step]:
    port = free_port()
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="routerd-echo-")))
    command = [sys.executable, "-m", "tests.benchmarks.echo", str(port)]
    server = _started(stack, Service("the echo", command, f"http://127.0.0.1:{port}/readyz", folder / "log"))
    for at_once in AT_ONCE:
        yield asking(server, client, added(rows, "echo", "", at_once), port, "router")


def of_encoder(name: str, stack: contextlib.ExitStack, client: ProcessPoolExecutor, rows: list[Row]) -> Iterator[Step]:
    row = added(rows, "encoder", name, 1)
    yield functools.partial(alone, client, row)
    yield from daemon(stack, client, rows, name, ROUTERS, AT_ONCE)


def of_text(stack: contextlib.ExitStack, client: ProcessPoolExecutor, rows: list[Row]) -> Iterator[Step]:
    try:
        yield from daemon(stack, client, rows, "minilm", catalogue.READ_TEXT, FEW)
    except StackError as fault:  # they need packages of their own; the other lines are worth having
        console.print(f"left out: {', '.join(catalogue.READ_TEXT)}: {fault}", style="yellow")


def of_routellm(_: contextlib.ExitStack, client: ProcessPoolExecutor, rows: list[Row]) -> Iterator[Step]:
    row = added(rows, "routellm", "", 1)

    def step(_: float) -> None:
        if not row.spans:  # once: it takes seconds a query
            into(row, *client.submit(regress, REGRESSIONS).result())

    yield step


PARTS: dict[str, Callable[[contextlib.ExitStack, ProcessPoolExecutor, list[Row]], Iterator[Step]]] = {
    "echo": of_echo,
    **{name: functools.partial(of_encoder, name) for name in reversed(ENCODERS)},
    "text": of_text,
    "routellm": of_routellm,
}


def daemon(
    stack: contextlib.ExitStack,
    client: ProcessPoolExecutor,
    rows: list[Row],
    encoder: str,
    routers: Sequence[str],
    counts: Sequence[int],
) -> Iterator[Step]:
    folder, port = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="routerd-capacity-"))), free_port()
    settings = {
        "ladder": LADDER,
        "encoder": encoder,
        "default": f"router-{routers[0]}-0.5",
        "routers": {name: {} for name in routers},
        "listen": f"127.0.0.1:{port}",
        "data_dir": str(folder / "data"),
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "scorer", "serve", "--config", str(config)]
    ready = f"http://127.0.0.1:{port}/readyz"
    server = _started(stack, Service(f"the daemon with {encoder}", command, ready, folder / "log"))
    for router, at_once in itertools.product(routers, counts):
        yield asking(server, client, added(rows, router, encoder, at_once), port, f"router-{router}-0.5")
    for at_once in counts if "mf" in routers else ():
        row = added(rows, "mf, sessions", encoder, at_once)
        yield asking(server, client, row, port, "router-mf-0.5", SESSIONS)


def asking(server: Service, client: ProcessPoolExecutor, row: Row, port: int, model: str, sessions: int = 0) -> Step:
    """POST /v1/route, from the client's process."""
    url = f"http://127.0.0.1:{port}/v1/route"
    rounds = itertools.count()

    def step(seconds: float) -> None:
        assert server.process is not None
        named = f"{row.at_once}-{next(rounds)}"
        bodies = [{"model": model, "prompt": text} for text in prompts()]
        if sessions:
            bodies = [
                body | {"session_id": f"{named}-{n}"} for n, body in zip(range(sessions), itertools.cycle(bodies))
            ]
        requests = [load.post(url, json.dumps(body).encode()) for body in bodies]
        before = processor_seconds(server.process.pid)
        seen = client.submit(load.run, url, requests, row.at_once, seconds, WARM_SECONDS).result()
        into(row, seen, processor_seconds(server.process.pid) - before)

    return step


def alone(client: ProcessPoolExecutor, row: Row, seconds: float) -> None:
    into(row, *client.submit(encode, row.encoder, seconds).result())


def encode(name: str, seconds: float) -> tuple[load.Load, float]:
    """Runs in the client's process: one prompt after the other, and the processor time that it took."""
    encoder, texts = _encoder(name), prompts()
    encoder.encode(texts)
    spans: list[float] = []
    began, cpu = time.perf_counter(), time.process_time()
    for text in itertools.cycle(texts):
        start = time.perf_counter()
        encoder.encode([text])
        spans.append(1000 * (time.perf_counter() - start))
        if time.perf_counter() > began + seconds:
            break
    return load.Load(spans, 0, len(spans), time.perf_counter() - began, len(spans)), time.process_time() - cpu


_encoder = functools.cache(catalogue.load_encoder)


def regress(count: int) -> tuple[load.Load, float]:
    """Runs in the client's process: RouteLLM's decisions, from embedding to strengths."""
    texts, battles = sw.made_up(REGRESSED)
    router = Similarity.fit(battles, texts, encoder_id="", features=(), chosen=Upstream(tiers=sw.TIERS))
    routellm, asked = sw.RouteLLM(router, texts, battles), sw.made_up(count, seed=1)[0].embeddings
    spans: list[float] = []
    began, cpu = time.perf_counter(), time.process_time()
    for query in asked:
        start = time.perf_counter()
        routellm.solve(routellm.weights(query))
        spans.append(1000 * (time.perf_counter() - start))
    return load.Load(spans, 0, count, time.perf_counter() - began, count), time.process_time() - cpu


def added(rows: list[Row], what: str, encoder: str, at_once: int) -> Row:
    rows.append(Row(what, encoder, at_once))
    return rows[-1]


def into(row: Row, seen: load.Load, cpu: float) -> None:
    row.spans += seen.spans
    row.seconds += seen.seconds
    row.answered += seen.answered
    row.failed += seen.failed
    row.asked += seen.asked
    row.cpu += cpu


def prompts() -> list[str]:
    return [json.loads(line)["prompt"] for line in PROMPTS.read_text(encoding="utf-8").splitlines()]


def processor_seconds(pid: int) -> float:
    """Of a process with all its threads, since its start (Linux)."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def about() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
        "prompts_chars_p50": float(np.median([len(text) for text in prompts()])),
    }


def show(rows: Sequence[Row], machine: dict[str, Any], seconds: float) -> None:
    title = "POST /v1/route; milliseconds"
    caption = (
        f"{machine['cores']} cores, shared by server, client and whatever else ran: load {machine['load_before']:.1f} "
        f"before, {machine['load_after']:.1f} after, of which this benchmark is about two. {seconds:g} s a line."
    )
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left", box=None, pad_edge=False)
    for column in ("", "encoder", "at once", "n", "a second", "p50", "p95", "p99", "cpu"):
        table.add_column(column, justify="left" if column in ("", "encoder") else "right", no_wrap=True)
    before = rows[0] if rows else None
    for row in rows:
        if before and (before.what, before.encoder) != (row.what, row.encoder):
            table.add_section()
            table.add_row()
        found, before = row.figures(), row
        timed = (f"{found[name]:.2f}" for name in ("p50_ms", "p95_ms", "p99_ms", "cpu_ms"))
        counted = (str(row.at_once), str(found["requests"]), f"{found['per_second']:,.1f}")
        table.add_row(row.what, row.encoder, *counted, *timed)
    console.print(table)
    if failed := sum(row.failed for row in rows):
        console.print(f"{failed} requests were not answered 200", style="red")


def _started(stack: contextlib.ExitStack, service: Service) -> Service:
    stack.callback(service.stop)
    service.start()
    return service


if __name__ == "__main__":
    main()
