"""How often a prompt takes more tokens than is estimated, by GPT-4's tokenizer (cl100k, a file that LiteLLM brings).

    python -m tests.benchmarks.tokens DATA/mmlu_pro.parquet DATA/arena_prompts.parquet

Beside the estimate, octets / 3: what it was before.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm

from gateway_plugin import tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("files", nargs="+", type=Path, help="Parquet files with a column `prompt`")
    print(f"{'file':24} {'prompts':>8}  {'too low, octets / 3':>20} {'too low':>8} {'median of estimate / tokens':>28}")
    for file in parser.parse_args().files:
        prompts = dict.fromkeys(map(str, pq.read_table(file, columns=["prompt"]).column("prompt").to_pylist()))
        texts = [prompt for prompt in prompts if prompt]
        needed = np.array([litellm.token_counter(model="gpt-4", text=text) for text in texts])
        thirds = np.array([math.ceil(len(text.encode("utf-8", "replace")) / 3) for text in texts])
        found = np.array([math.ceil(tokens.estimate(text)) for text in texts])
        ratio = float(np.median(found / needed))
        print(f"{file.name:24} {len(texts):8}  {_low(thirds, needed):>20} {_low(found, needed):>8} {ratio:28.2f}")


def _low(estimated: np.ndarray, needed: np.ndarray) -> str:
    return f"{np.mean(estimated < needed):.2%}"


if __name__ == "__main__":
    main()
