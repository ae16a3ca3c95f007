"""Ten nights of tests/benchmarks/nights.py over HTTP: a daemon, its clients, and `routerd retrain`, all as processes.

    python -m tests.benchmarks.wire DATA/llmrouter.parquet --prior PRIOR --ladder STRONG=LIKE,WEAK=LIKE --cache DIR \\
        [--sw PRIOR] [--seed 0]

Nothing is handed over but requests: each prompt goes to POST /v1/route, the model that comes back is reported as an
outcome and rated by its user, and after each day a run fits, compares and publishes, with the default gate and
holdback. Printed by night: requests and how many failed; what the run said; whether the published version is better,
in squared error on all prompts (below nought: better); and the APGR of what then serves on held-out prompts, by the
scores of POST /v1/score. With --sw that router is refitted and gated beside MF.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from scorer.routers.base import Prompts, Scores
from scorer.routers.factorization import Factorization
from tests.benchmarks import nights
from tests.benchmarks.replay import unseen
from tests.benchmarks.streams import RATINGS, Matrix, Stream, matrix
from tests.demo.stack import Service, free_port

CLIENTS = 8
SCORED_AT_ONCE = 64
FOLLOW_SECONDS = 15
console = Console(highlight=False, width=140)


class Night(NamedTuple):
    """failed: calls that were not answered with 2xx. lead: NaN where mf stayed as it was."""

    requests: int
    strong: float
    held_back: int
    failed: int
    said: list[str]
    lead: float
    apgr: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a response matrix")
    parser.add_argument("--prior", type=Path, required=True, help="an MF artifact that was fitted without the file")
    parser.add_argument("--sw", type=Path, help="an SW artifact that was fitted without the file")
    parser.add_argument("--ladder", required=True, help="two columns of the file, each =what it is like")
    parser.add_argument("--cache", type=Path, required=True, help="for embeddings")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    like = dict(rung.split("=") for rung in given.ladder.split(","))
    priors = {"mf": unseen(given.prior, given.file.stem)}
    if given.sw:
        priors["sw"] = unseen(given.sw, given.file.stem)
    data = matrix(given.file, list(like), given.cache)
    stream = Stream(data, RATINGS["100 %"], given.seed)
    with tempfile.TemporaryDirectory(prefix="routerd-wire-") as folder:
        path = configuration(Path(folder), like, priors)
        url = f"http://{yaml.safe_load(path.read_text())['listen']}"
        command = [sys.executable, "-m", "scorer", "serve", "--config", str(path)]
        daemon = Service("the daemon", command, f"{url}/readyz", Path(folder) / "log")
        daemon.start()
        try:
            asyncio.run(live(data, stream, like, priors["mf"], url, path))
        finally:
            daemon.stop()


def configuration(folder: Path, like: dict[str, str], priors: dict[str, Path]) -> Path:
    content = {
        "ladder": [{"model": model, "like": known} for model, known in like.items()],
        "listen": f"127.0.0.1:{free_port()}",
        "data_dir": str(folder / "data"),
        "default": "router-mf-p50",
        "routers": {name: {"artifact": str(prior.resolve())} for name, prior in priors.items()},
        "retrain": {"cron": None},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


async def live(data: Matrix, stream: Stream, like: dict[str, str], prior: Path, url: str, config: Path) -> None:
    artifacts = config.parent / "data" / "artifacts" / "mf"
    serving = Factorization.load(prior, None)
    remote = Remote(url)
    console.print(f"before: APGR {await asyncio.to_thread(stream.apgr, remote, data.ladder):.3f}")
    lived = []
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        first = await version(client)
        for number, day in enumerate(stream.days, start=1):
            now = await version(client)
            answers = await ask(client, data, stream, day.tolist())
            said = await retrain(config)
            then = await followed(client, now)
            lead = float("nan")
            if then != now:
                challenger = Factorization.load(artifacts / then, None)
                before, after = (nights.qualities(data, router, like) for router in (serving, challenger))
                lead = nights.lead(nights.truth(data), before, after, nights.likely(before))
                serving = challenger
            apgr = await asyncio.to_thread(stream.apgr, remote, data.ladder)
            routed = [one for one in answers if one]
            strong = sum(one["model"] == data.ladder[0] for one in routed) / len(routed)
            held = sum(one["version"] != now for one in routed)
            lived.append(Night(len(day), strong, held, len(answers) - len(routed), said, lead, apgr))
            console.print(f"night {number}: APGR {apgr:.3f}; {' | '.join(said)}", soft_wrap=True)
    console.print(f"first version {first}\n")
    show(lived)


async def ask(client: httpx.AsyncClient, data: Matrix, stream: Stream, day: Sequence[int]) -> list[dict[str, Any]]:
    """Every request of a day, answered and rated; an empty answer for one of which a call failed."""
    left, answers = iter(day), []

    async def one(request: int) -> dict[str, Any]:
        prompt, user = stream.prompts(np.array([request])).texts[0], f"user {request % nights.USERS}"
        asked = {"model": "router", "prompt": prompt, "session_id": f"request {request}", "user": user}
        made = await client.post("/v1/route", json=asked)
        answer: dict[str, Any] = made.json()
        if not made.is_success:
            return {}
        decision, model = answer["decision_id"], answer["model"]
        outcome = {"decision_id": decision, "status": "success", "chosen": model, "served": model}
        thumb = stream.thumbs[request, data.ladder.index(model)]
        rating = {"decision_id": decision, "rating": "up" if thumb else "down", "user": user}
        posted = [await client.post("/v1/outcomes", json=[outcome]), await client.post("/v1/feedback", json=rating)]
        return answer if all(one.is_success for one in posted) else {}

    async def work(mine: Iterator[int]) -> None:
        answers.extend([await one(request) for request in mine])

    await asyncio.gather(*(work(left) for _ in range(CLIENTS)))
    return answers


async def retrain(config: Path) -> list[str]:
    """What the run said of each router."""
    command = [sys.executable, "-m", "scorer", "retrain", "--config", str(config)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise SystemExit(f"routerd retrain ended with {done.returncode}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip().splitlines()[1:]


async def version(client: httpx.AsyncClient) -> str:
    """Of mf, that serves."""
    return str((await client.get("/v1/routers")).json()["routers"]["mf"]["version"])


async def followed(client: httpx.AsyncClient, before: str) -> str:
    """What serves once the daemon has had time to follow."""
    for _ in range(FOLLOW_SECONDS):
        await asyncio.sleep(1)
        if (now := await version(client)) != before:
            break
    return now


class Remote:
    """The daemon's mf, as a router that scores texts; it knows what is on the ladder."""

    name, version = "mf", "whatever serves"

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=60)

    def knows(self, model: str) -> bool:
        return True

    def score(self, prompts: Prompts, ladder: Sequence[str]) -> Scores:
        rates: list[list[float]] = []
        for start in range(0, len(prompts), SCORED_AT_ONCE):
            body = {"router": self.name, "prompts": list(prompts.texts[start : start + SCORED_AT_ONCE])}
            answer = self._client.post("/v1/score", json=body).raise_for_status().json()
            rates += [list(one.values()) for one in answer["win_rates"]]
        return Scores(np.array(rates))


def show(lived: Sequence[Night]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("night", "requests", "failed", "strong %", "held back", "published", "true difference", "APGR"):
        table.add_column(column, justify="right")
    for number, one in enumerate(lived, start=1):
        published = "yes" if one.lead == one.lead else "no"
        lead = f"{one.lead:+.4f}" if published == "yes" else ""
        row = str(one.requests), str(one.failed), f"{100 * one.strong:.1f}", str(one.held_back), published, lead
        table.add_row(str(number), *row, f"{one.apgr:.3f}")
    console.print(table)


if __name__ == "__main__":
    main()
