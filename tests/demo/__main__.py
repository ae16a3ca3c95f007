"""`make demo`: real prompts through a real LiteLLM proxy, routed, rated, and served on when the daemon is killed."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import openai
import yaml
from openai.types.chat import ChatCompletionMessageParam
from rich.console import Console
from rich.table import Table

from tests.demo.stack import KEY, ROOT, Stack, StackError, running

PROMPTS = Path(__file__).with_name("prompts.jsonl")
CONFIG, PROXY_CONFIG = ROOT / "config.example.yaml", ROOT / "docs" / "litellm.yaml"
REQUESTS = 200  # of the night's; a fifth of their ratings is held out, and that takes 30
CHEAPEST = "gpt-4o-mini"
LATENCIES = {"STRONG": 0.25, "WEAK": 0.05}  # seconds to a stand-in's first byte

console = Console(highlight=False)
console.width = max(console.width, 126)  # a row with its whole decision id


class Served(NamedTuple):
    """One request as its client saw it, and what the daemon knows of it."""

    prompt: str
    level: str
    decision_id: str
    status: str
    model: str
    explored: bool
    win_rate: float | None
    latency_ms: float


class Spent(NamedTuple):
    """Dollars: what was paid, and what the strongest model would have cost for the same tokens."""

    paid: float
    strongest: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="routerd-demo-") as folder:
        console.print("Starting two stand-in providers, the scoring daemon and a LiteLLM proxy ...")
        try:
            with running(Path(folder), CONFIG, PROXY_CONFIG, LATENCIES) as stack:
                play(stack)
                if arguments.keep:
                    keep(stack)
        except StackError as error:
            console.print(f"demo: {error}", style="red", markup=False)
            return 1
    return 0


def play(stack: Stack) -> None:
    """The demo's chapters, in order."""
    console.print(f"Proxy at {stack.proxy}, daemon at {stack.daemon}.\n")
    prompts = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    chapter("1. Twenty prompts for model `router`; odd rows are streamed")
    served = [ask(stack, row["prompt"], row["level"], stream=n % 2 == 0) for n, row in enumerate(prompts)]
    outcomes = {one.decision_id: outcome(stack, one.decision_id) for one in served}
    show(served, outcomes)
    chapter("2. Ratings: a thumb for the first and the last answer, and a change of mind")
    rate(stack, served[0].decision_id, "up")
    rate(stack, served[-1].decision_id, "down")
    rate(stack, served[-1].decision_id, "up")
    chapter("3. The daemon is killed: requests are served by the fallback model")
    stack.services["daemon"].stop(signal.SIGKILL)
    fallen = [ask(stack, row["prompt"], row["level"], stream=False) for row in prompts[:3]]
    show(fallen, {})
    expect(all(one.status == "fallback" for one in fallen), "requests fell back")
    chapter("4. The daemon is back: it hears of the fallbacks, and routes again")
    stack.services["daemon"].start()
    again = recovered(stack, prompts[0]["prompt"])
    show([again], {again.decision_id: outcome(stack, again.decision_id)})
    known = outcome(stack, fallen[0].decision_id)
    console.print(f"{fallen[0].decision_id}: status {known['status']}, served by {known['served']}")
    rate(stack, fallen[0].decision_id, "up")
    chapter(f"5. A night: {REQUESTS} more answers are rated, the router is refitted, and daemons follow")
    learn(stack, prompts)
    chapter("6. Cost of the first chapter")
    report(spent(outcomes.values()), served)


def ask(stack: Stack, prompt: str, level: str, *, stream: bool) -> Served:
    """One chat completion through the proxy, with the official client; the headers tell the route."""
    client = openai.OpenAI(base_url=f"{stack.proxy}/v1", api_key=KEY, max_retries=0)
    completions = client.chat.completions.with_raw_response
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": prompt}]
    began = time.perf_counter()
    if stream:
        chunks = completions.create(model="router", messages=messages, stream=True)
        headers = chunks.headers
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks.parse() if chunk.choices)
    else:
        answer = completions.create(model="router", messages=messages)
        headers, text = answer.headers, answer.parse().choices[0].message.content or ""
    elapsed = (time.perf_counter() - began) * 1000
    expect(bool(text), "the answer has text")
    win_rate = headers.get("x-routerd-win-rate")
    return Served(
        prompt,
        level,
        headers["x-routerd-decision-id"],
        headers["x-routerd-status"],
        headers["x-routerd-model"],
        headers["x-routerd-reason"].startswith("explored"),
        float(win_rate) if win_rate else None,
        elapsed,
    )


def outcome(stack: Stack, decision_id: str) -> dict[str, Any]:
    """What the proxy reported of a decision; reports travel in the background."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        answer = httpx.get(f"{stack.daemon}/v1/decisions/{decision_id}")
        if answer.status_code == 200 and answer.json()["outcome"]:
            reported: dict[str, Any] = answer.json()["outcome"]
            return reported
        time.sleep(0.05)
    raise StackError(f"no outcome was reported for decision {decision_id}")


def rate(stack: Stack, decision_id: str, rating: str) -> None:
    answer = httpx.post(f"{stack.daemon}/v1/feedback", json={"decision_id": decision_id, "rating": rating})
    expect(answer.status_code == 201, f"the rating was stored, not {answer.status_code}: {answer.text}")
    whole = httpx.get(f"{stack.daemon}/v1/decisions/{decision_id}").json()
    console.print(f"{decision_id}: {rating}; its rating is now {whole['ratings'][0]['value']:g}")


def recovered(stack: Stack, prompt: str) -> Served:
    """Asks until the plugin's circuit breaker has let the daemon back in."""
    deadline = time.monotonic() + 20
    while True:
        one = ask(stack, prompt, "easy", stream=False)
        if one.status == "routed" or time.monotonic() > deadline:
            expect(one.status == "routed", "requests are routed again")
            return one
        time.sleep(0.5)


def learn(stack: Stack, prompts: Sequence[dict[str, str]]) -> None:
    """Ratings come in, a retrain runs, the version changes, and a rollback brings the old one back."""
    with ThreadPoolExecutor(8) as visitors:
        ups = sum(visitors.map(lambda number: visit(stack, prompts[number % len(prompts)], number), range(REQUESTS)))
    console.print(f"{ups} thumbs up, {REQUESTS - ups} down")
    before = version(stack)
    console.print(routerd(stack, "retrain"), markup=False)
    after = followed(stack, before)
    console.print(f"served by {before} until then, now by {after}")
    console.print(routerd(stack, "artifacts", "rollback", "mf"), markup=False)
    expect(followed(stack, after) == before, f"a rollback brings {before} back")


def visit(stack: Stack, row: dict[str, str], number: int) -> bool:
    """One more request, and whether its user likes the answer: not the cheap model's to a hard prompt, but for one user
    in eleven who says the opposite of what the others would."""
    one = ask(stack, f"{row['prompt']}\n(case {number})", row["level"], stream=False)
    likes = (one.level == "easy" or one.model != CHEAPEST) != (number % 11 == 0)
    answer = httpx.post(
        f"{stack.daemon}/v1/feedback", json={"decision_id": one.decision_id, "rating": "up" if likes else "down"}
    )
    expect(answer.status_code in (201, 202), f"the rating was taken, not {answer.status_code}: {answer.text}")
    return likes


def routerd(stack: Stack, *arguments: str) -> str:
    """What the command prints, on the daemon's configuration."""
    command = [sys.executable, "-m", "scorer", *arguments, "--config", stack.services["daemon"].command[-1]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    expect(done.returncode == 0, f"`routerd {' '.join(arguments)}` works: {done.stderr}")
    return done.stdout.strip()


def version(stack: Stack) -> str:
    """The version of mf that serves."""
    found: str = httpx.get(f"{stack.daemon}/v1/routers").json()["routers"]["mf"]["version"]
    return found


def followed(stack: Stack, before: str) -> str:
    """The version that the daemon takes up in place of another; it looks every few seconds."""
    deadline = time.monotonic() + 30
    while version(stack) == before:
        expect(time.monotonic() < deadline, f"another version than {before} is taken up")
        time.sleep(0.2)
    return version(stack)


def spent(outcomes: Iterable[dict[str, Any]]) -> Spent:
    prices = yaml.safe_load(PROXY_CONFIG.read_text(encoding="utf-8"))["model_list"][0]["litellm_params"]
    paid = strongest = 0.0
    for one in outcomes:
        paid += one["cost"]
        strongest += one["tokens_in"] * prices["input_cost_per_token"]
        strongest += one["tokens_out"] * prices["output_cost_per_token"]
    return Spent(paid, strongest)


def show(served: Sequence[Served], outcomes: dict[str, dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("level", "prompt", "status", "win rate", "model", "cost $", "ms", "decision id"):
        number = column in ("win rate", "cost $", "ms")
        table.add_column(column, no_wrap=True, justify="right" if number else "left")
    for one in served:
        cost = outcomes.get(one.decision_id, {}).get("cost")
        table.add_row(
            one.level,
            one.prompt.replace("\n", " ")[:28],
            one.status,
            "" if one.win_rate is None else f"{one.win_rate:.3f}",
            f"{one.model} *" if one.explored else one.model,
            "" if cost is None else f"{cost:.6f}",
            f"{one.latency_ms:.0f}",
            one.decision_id,
        )
    console.print(table)
    if any(one.explored for one in served):
        console.print("* explored: the draw, not the rule, chose this model")


def report(total: Spent, served: Sequence[Served]) -> None:
    for level in ("easy", "hard"):
        models = [one.model for one in served if one.level == level]
        counts = ", ".join(f"{models.count(model)} to {model}" for model in sorted(set(models)))
        console.print(f"{level} prompts: {counts}")
    saved = 1 - total.paid / total.strongest
    console.print(f"paid ${total.paid:.6f}; the strongest model alone ${total.strongest:.6f}: {saved:.0%} saved")
    expect(total.paid < total.strongest, "routing cost less than the strongest model")


def keep(stack: Stack) -> None:
    console.print(f"\nRunning until Ctrl-C. Try:\n  curl -i {stack.proxy}/v1/chat/completions \\")
    console.print(
        f"    -H 'content-type: application/json' -H 'authorization: Bearer {KEY}' \\\n"
        """    -d '{"model": "router", "messages": [{"role": "user", "content": "Hello!"}]}'""",
        markup=False,
    )
    try:
        signal.pause()
    except KeyboardInterrupt:
        console.print()


def chapter(title: str) -> None:
    console.print(f"\n[bold]{title}[/bold]")


def expect(holds: bool, what: str) -> None:
    """The demo is also a check: it fails aloud."""
    if not holds:
        raise StackError(f"expected that {what}")


if __name__ == "__main__":
    sys.exit(main())
