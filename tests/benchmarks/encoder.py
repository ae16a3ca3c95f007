"""The encoders' speed: fp32 beside int8 and static, torch against ONNX Runtime, one text a call against batches, and
what reading a text costs.

Run by `python -m tests.benchmarks.encoder`. What is compared is timed in turns: read the ratios, above all on a
machine that does other things.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import transformers
from numpy.typing import NDArray

from scorer import features, precision
from scorer.catalogue import load_encoder
from scorer.encoder import MODEL, Encoder
from scorer.export import SOURCE, export, find

Rows = Sequence[list[int]]  # token ids
Embed = Callable[[Rows], NDArray[np.float32]]  # -> (n, d)

SENTENCE = "the quick brown fox jumps over a lazy dog while rain falls on the old stone bridge by the river"
LENGTHS = (9, 12, 15, 18, 22, 27, 32, 39, 45, 60, 80, 110, 150, 200, 256, 256)  # tokens, spread as chat prompts are


def main() -> None:
    directory = export()
    encoder = Encoder.load(directory, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(directory, Path(folder) / directory.name)
        agreement = precision.reduce(copy, precision.PROBES)
        kinds = {"minilm fp32": encoder, "minilm int8": Encoder.load(copy, threads=1), "static": load_encoder("static")}
    print(f"int8 beside fp32 on the probes: cosine {agreement.mean:.4f}, at least {agreement.least:.4f}")
    for tokens in (12, 50, 256, 1000):
        one_text = [essay(tokens - 2)]
        whole: dict[str, Callable[[], object]] = {name: partial(kind.encode, one_text) for name, kind in kinds.items()}
        time_each(f"one text of {tokens} tokens to embedding and features, 1 thread", whole)

    one, two = (one_a_call(session(directory / MODEL, threads)) for threads in (1, 2))
    batch_one, batch_two = (padded(session(directory / MODEL, threads)) for threads in (1, 2))

    for tokens in (32, 128, 256):
        rows = [encoder.tokens(essay(tokens - 2))]
        ways = {"ONNX Runtime, 1 thread": one, "ONNX Runtime, 2 threads": two, "torch eager, 1 thread": eager()}
        compare(f"one text of {tokens} tokens", ways, rows)

    ways = {"one a call, 1 thread": one, "one batch, 1 thread": batch_one}
    ways |= {"one a call, 2 threads": two, "one batch, 2 threads": batch_two}
    for size in (8, 32):
        mixed = [encoder.tokens(essay(length - 2)) for length in (LENGTHS * 2)[:: 32 // size]]
        equal = [encoder.tokens(essay(30, seed)) for seed in range(size)]
        compare(f"{size} texts of mixed lengths", ways, mixed)
        compare(f"{size} texts of 32 tokens", ways, equal)

    for characters in (200, 6_000, 32_000, 1_000_000):
        text = essay(characters // 4)[:characters]
        reading: dict[str, Callable[[], object]] = {
            "tokens": partial(encoder.tokens, text),
            "features": partial(features.extract, text),
        }
        time_each(f"reading {characters:,} characters", reading)


def session(model: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as the encoder has it
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def one_a_call(model: onnxruntime.InferenceSession) -> Embed:
    embed = padded(model)
    return lambda rows: np.concatenate([embed([row]) for row in rows])


def padded(model: onnxruntime.InferenceSession) -> Embed:
    def embed(rows: Rows) -> NDArray[np.float32]:
        ids, mask = padding(rows)
        embeddings: NDArray[np.float32] = model.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return embeddings

    return embed


def eager() -> Embed:
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModel.from_pretrained(find(SOURCE)).eval()

    def embed(rows: Rows) -> NDArray[np.float32]:
        ids, mask = (torch.from_numpy(array) for array in padding(rows))
        with torch.inference_mode():
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
            mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            unit: NDArray[np.float32] = torch.nn.functional.normalize(mean).numpy()
        return unit

    return embed


def padding(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    longest = max(map(len, rows))
    ids = np.array([row + [0] * (longest - len(row)) for row in rows], np.int64)
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in rows], np.int64)
    return ids, mask


def essay(words: int, seed: int = 0) -> str:
    return " ".join(np.random.default_rng(seed).choice(SENTENCE.split(), words).tolist())


def compare(title: str, ways: Mapping[str, Embed], rows: Rows) -> None:
    """Times ways to embed the same rows, and says how far each is from the first."""
    time_each(title, {name: partial(embed, rows) for name, embed in ways.items()}, repeats=max(5, 24 // len(rows)))
    reference, *others = (embed(rows) for embed in ways.values())
    for name, embeddings in zip(list(ways)[1:], others, strict=True):
        differing = (embeddings != reference).any(axis=1).mean()
        largest = np.abs(embeddings - reference).max()
        print(f"  {name}: {differing:.0%} of rows differ from the first way, by at most {largest:.1e}")


def time_each(title: str, ways: Mapping[str, Callable[[], object]], repeats: int = 24) -> None:
    """Prints p50 and p95 in milliseconds, and the p50's ratio to the first way's; the ways take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    print(f"\n{title}")
    first = np.median(next(iter(seconds.values())))
    for name, taken in seconds.items():
        p50, p95 = np.percentile(taken, [50, 95]) * 1000
        print(f"  {name:<25} p50 {p50:8.2f} ms   p95 {p95:8.2f} ms   {np.median(taken) / first:7.3f} x")


if __name__ == "__main__":
    main()
