"""What a decision of the causal router costs, beside a straightforward one on the same weights.

    python -m tests.benchmarks.causal [--artifact DIRECTORY] [--decisions 25] [--threads 2]

Straightforward is RouteLLM's way: rubric and prompt through all layers, six tokens decoded, each with the vocabulary's
whole head. The two take turns on one prompt; read the ratio, not the milliseconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from scorer import bases
from scorer.calibration import PRETRAINED
from scorer.routers.causal import RUBRIC, Causal

PROMPT = (
    "A farmer has 17 sheep and all but 9 die in a storm. He then buys twice as many as survived, sells a third of the "
    "whole flock, and gives two to each of his neighbours. How many are left?"
)
DECODED = 6  # RouteLLM's max_new_tokens


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, default=PRETRAINED / "causal")
    parser.add_argument("--decisions", type=int, default=25, help="of each kind")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    begun = time.perf_counter()
    router = Causal.load(given.artifact)
    loaded = time.perf_counter() - begun
    source = router.base.source
    one = straightforward(source)
    kinds: dict[str, Callable[[], object]] = {
        f"straightforward: all layers, {DECODED} tokens decoded": lambda: one(PROMPT),
        "causal router": lambda: router.labels(PROMPT),
    }
    seconds = alternately(kinds, given.decisions)
    shown = Table("one decision, ms", "p50", "fastest", "p50, CPU")
    for name, (wall, cpu) in seconds.items():
        shown.add_row(name, *(f"{1000 * figure:.1f}" for figure in (np.median(wall), min(wall), np.median(cpu))))
    console = Console(highlight=False)
    console.print(shown)
    console.print(f"prompt: {len(router.base.tokens(PROMPT, 512))} tokens; loading took {loaded:.1f} s from {source}")


def straightforward(source: str) -> Callable[[str], Any]:
    """Grades a prompt by decoding."""
    import torch
    import transformers

    weights = bases.find(source)[0]
    file = {"gguf_file": weights.name} if weights.suffix == ".gguf" else {}
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights.parent, **file)
    model = transformers.AutoModelForCausalLM.from_pretrained(weights.parent, dtype=torch.float32, **file).eval()

    def grade(prompt: str) -> Any:
        chat = [{"role": "system", "content": RUBRIC}, {"role": "user", "content": prompt}]
        inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            return model.generate(
                **inputs,
                max_new_tokens=DECODED,
                min_new_tokens=DECODED,
                do_sample=False,
                output_scores=True,
                return_dict_in_generate=True,
                pad_token_id=tokenizer.eos_token_id,
            )

    return grade


def alternately(kinds: dict[str, Callable[[], object]], times: int) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds on the wall and of CPU that each took, every time; two turns before the first are not counted."""
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in kinds}
    for turn in range(-2, times):
        for name, work in kinds.items():
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            if turn >= 0:
                seconds[name][0].append(time.perf_counter() - wall)
                seconds[name][1].append(time.process_time() - cpu)
    return seconds


if __name__ == "__main__":
    main()
