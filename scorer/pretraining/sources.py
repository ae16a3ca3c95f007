"""The public data that shipped artifacts are fitted on: where it is from, and how it becomes battles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """One file. arguments: of `routerd import`, around the file; name: the file's stem, and the battles' source."""

    name: str
    title: str
    origin: str
    licence: str
    weight: float
    role: str  # what it becomes
    shape: str
    options: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        return f"{self.name}.parquet"

    def command(self, data: Path, out: Path) -> list[str]:
        """Arguments of `routerd`."""
        weight = () if self.weight == 1 else ("--weight", f"{self.weight:g}")
        return ["import", self.shape, str(data / self.file), *self.options, *weight, "--out", str(out / self.file)]


SOURCES = (
    Source(
        "mmlu_gold",
        "MMLU validation, two models",
        "lm-sys/RouteLLM",
        "Apache-2.0",
        1,
        "right or wrong, against the bar",
        "matrix",
        ("--metadata", "subject", "--without", "subject=high_school_mathematics"),
    ),
    Source(
        "mmlu_pro",
        "MMLU-Pro, 30 models",
        "TIGER-AI-Lab/MMLU-Pro",
        "Apache-2.0",
        0.1,
        "right or wrong, against the bar",
        "matrix",
        ("--metadata", "category"),
    ),
    Source(
        "llmrouter",
        "LLMRouter, 5 models",
        "ulab-uiuc/LLMRouter",
        "MIT",
        1,
        "score, against the bar",
        "matrix",
        ("--metadata", "task"),
    ),
    Source(
        "arena_bench",
        "arena-bench-v1, 16 models",
        "lmarena/arena-hard-auto",
        "Apache-2.0",
        1,
        "judge's score above, on or below 7, against the bar",
        "scores",
        ("--bar", "7"),
    ),
    Source(
        "human_acceptability",
        "human acceptability, 4 models",
        "allenai/open-instruct",
        "Apache-2.0",
        0.5,
        "thumbs against the bar, preferences against each other",
        "thumbs",
    ),
)

BENCHMARKS = {"mmlu": "mmlu_dev.parquet", "gsm8k": "gsm8k_dev.parquet"}  # evaluation only
SAMPLE = ("alpaca_eval.parquet", "arena_bench.parquet")  # chat prompts that thresholds are set by
