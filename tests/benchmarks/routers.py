"""What a decision costs with each router and encoder, beside a straightforward implementation, prompt by prompt.

    python -m tests.benchmarks.routers [--prompts 40] [--threads 2]

Routers are the shipped ones; what is not there, or does not load here, is left out and said so. The two sides of a line
take turns on the same prompts of about 50 tokens: read the ratios, above all on a machine that does other things.

    encoder    transformers, eager, against ONNX Runtime; of the static one, rows of floats averaged in PyTorch
    mf         RouteLLM's module in PyTorch: normalise, project, multiply, classify, for both models
    sw         RouteLLM's regression for every query, scikit-learn, on 5,000 battles; the shipped router has 197,000
    boosted    a DMatrix and a prediction with all cores
    bert       transformers: tokenizer and classifier, not adapted
    causal     transformers: rubric and prompt, six tokens generated, as RouteLLM does
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from scorer import catalogue
from scorer.routers.base import Encodes, Prompts, Router
from scorer.sections import ENCODERS

PAIR = ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")
SENTENCE = "the quick brown fox jumps over a lazy dog while rain falls on the old stone bridge by the river"
SW_BATTLES = 5000
HEADS = ("p50", "p95", "plain p50", "plain p95", "times as fast")
Work = Callable[[str], object]
console = Console(highlight=False, width=120)


class Line(NamedTuple):
    """Our way and the plain one, if there is one, from a text to a result."""

    name: str
    ours: Work
    plain: Work | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    import torch

    torch.set_num_threads(chosen.threads)
    texts = [essay(46, seed) for seed in range(chosen.prompts)]
    console.print(f"{chosen.prompts} prompts, {chosen.threads} threads, milliseconds")
    console.print(f"{'':<26}" + "".join(f"{head:>14}" for head in HEADS))
    for line in lines(chosen.threads, texts):
        console.print(f"{line.name:<26}" + "".join(f"{cell:>14}" for cell in measured(line, texts)))


def lines(threads: int, texts: Sequence[str]) -> Iterator[Line]:
    """Encoders, each with the routers that read its vectors, then routers that read texts."""
    for name in ENCODERS:
        yield from of_encoder(name, threads, texts)
    for name in catalogue.READ_TEXT:
        yield from of_reader(name)


def of_encoder(name: str, threads: int, texts: Sequence[str]) -> Iterator[Line]:
    encoder = tried(name, lambda: catalogue.load_encoder(name, threads=threads))
    if encoder is None:
        return
    plain = tried(f"{name}, plain", lambda: PLAIN_ENCODERS[name](encoder))
    yield Line(f"encoder {name}", lambda text: encoder.encode([text]), plain)
    vectors = {text: encoder.encode([text]) for text in texts}
    for router in ("mf", "sw", "boosted", "random"):
        yield from with_vectors(router, encoder, vectors, plain)


def of_reader(name: str) -> Iterator[Line]:
    router = tried(name, lambda: catalogue.load(name, "pretrained", catalogue.load_encoder("static")))
    if router is not None:
        plain = tried(f"{name}, plain", lambda: PLAIN_READERS[name](router))
        yield Line(f"{name}, whole decision", lambda text: router.score(bare(text), PAIR), plain)


def with_vectors(
    name: str, encoder: Encodes, vectors: Mapping[str, Prompts], plain_encoder: Work | None
) -> Iterator[Line]:
    """The router alone, and with its encoder."""
    router = tried(f"{name} with {encoder.name}", lambda: catalogue.load(name, "pretrained", encoder))
    if router is None:
        return
    make = PLAIN_ROUTERS.get(name)
    plain = tried(f"{name}, plain", lambda: make(router)) if make else None
    plain_alone = (lambda text: plain(vectors[text])) if plain else None
    plain_both = (lambda text: (plain_encoder(text), plain(vectors[text]))) if plain and plain_encoder else None
    yield Line(f"  {name} alone", lambda text: router.score(vectors[text], PAIR), plain_alone)
    yield Line(f"  {name}, whole decision", lambda text: router.score(encoder.encode([text]), PAIR), plain_both)


def measured(line: Line, texts: Sequence[str]) -> list[str]:
    """p50 and p95 of both ways, and how often the plain one's median holds ours."""
    ways = [line.ours, *([line.plain] if line.plain else [])]
    seconds: list[list[float]] = [[] for _ in ways]
    for way in ways:
        way(texts[0])
    for text in texts:
        for way, taken in zip(ways, seconds, strict=True):
            began = time.perf_counter()
            way(text)
            taken.append(time.perf_counter() - began)
    cells = [f"{1000 * value:.3f}" for taken in seconds for value in np.percentile(taken, [50, 95])]
    if line.plain is None:
        return [*cells, "-", "-", "-"]
    return [*cells, f"{np.median(seconds[1]) / np.median(seconds[0]):.1f}"]


def tried(what: str, make: Callable[[], Any]) -> Any:
    """None where it cannot be had, with the reason."""
    try:
        return make()
    except Exception as problem:  # whatever is missing: the other lines are worth having
        console.print(f"left out: {what}: {str(problem).splitlines()[0] if str(problem) else type(problem).__name__}")
        return None


def essay(words: int, seed: int) -> str:
    return " ".join(np.random.default_rng(seed).choice(SENTENCE.split(), words).tolist())


def bare(text: str) -> Prompts:
    nothing = np.zeros((1, 0), np.float32)
    return Prompts([text], nothing, nothing)


# Straightforward ways


def eager(_: Encodes) -> Work:
    import torch
    import transformers

    from scorer.export import SOURCE, find

    transformers.utils.logging.disable_progress_bar()
    directory = find(SOURCE)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModel.from_pretrained(directory).eval()

    def embed(text: str) -> object:
        with torch.inference_mode():
            inputs = tokenizer(text, return_tensors="pt", truncation=True)
            hidden = model(**inputs).last_hidden_state
            return torch.nn.functional.normalize(hidden.mean(1)).numpy()

    return embed


def averaged(encoder: Any) -> Work:
    import torch

    size = max(encoder.tokens(essay(46, 0))) + 40_000
    table = torch.randn(size, encoder.dimension)

    def embed(text: str) -> object:
        return torch.nn.functional.normalize(table[torch.tensor(encoder.tokens(text))].mean(0), dim=0).numpy()

    return embed


def module(router: Any) -> Callable[[Prompts], object]:
    """RouteLLM's MFModel, with the shipped factors' shapes."""
    import torch

    factors = {name: torch.from_numpy(np.array(value)) for name, value in router._factors.items()}
    places = [router.players.index(model) for model in PAIR]
    inputs = factors["P"].shape[1]

    def win_rate(prompts: Prompts) -> object:
        with torch.inference_mode():
            row = np.zeros(inputs, np.float32)
            row[: prompts.embeddings.shape[1]] = prompts.embeddings[0]
            projected = factors["P"] @ torch.from_numpy(row)
            models = torch.nn.functional.normalize(factors["V"][places], p=2, dim=1)
            logits = (models * projected) @ factors["w"]
            return torch.sigmoid(logits[0] - logits[1]).item()

    return win_rate


def regression(router: Router) -> Callable[[Prompts], object]:
    """RouteLLM's SW ranking on made-up battles."""
    from scorer.routers.similarity import Similarity
    from scorer.routers.variants import Upstream
    from tests.benchmarks.sw import DIMENSION, RouteLLM, made_up

    prompts, battles = made_up(SW_BATTLES)
    fitted = Similarity.fit(battles, prompts, encoder_id="", features=(), chosen=Upstream())
    upstream = RouteLLM(fitted, prompts, battles)

    def strengths(asked: Prompts) -> object:
        return upstream.solve(upstream.weights(np.resize(asked.embeddings[0], DIMENSION)))

    return strengths


def matrix(router: Any) -> Callable[[Prompts], object]:
    import xgboost

    trees = xgboost.Booster()
    trees.load_model(bytearray(router._tensors["trees"].tobytes()))

    def predict(prompts: Prompts) -> NDArray[np.float32]:
        x = np.concatenate([prompts.embeddings, prompts.features], axis=1)
        found: NDArray[np.float32] = trees.predict(xgboost.DMatrix(x))
        return found

    return predict


def classifier(router: Any) -> Work:
    import torch
    import transformers

    from scorer.export import find

    directory = find(router._about["hyperparameters"]["source"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(directory, num_labels=3).eval()

    def shares(text: str) -> object:
        with torch.inference_mode():
            inputs = tokenizer(text, return_tensors="pt", padding=True, truncation=True)
            return torch.softmax(model(**inputs).logits[0], dim=0).numpy()

    return shares


def generated(router: Any) -> Work:
    """The whole base in transformers: nothing of the rubric is kept from one prompt to the next."""
    import torch
    import transformers

    from scorer import bases
    from scorer.routers.causal import RUBRIC

    (weights, *_) = bases.find(router._about["hyperparameters"]["base"])
    directory = weights.parent
    named = {"gguf_file": weights.name} if weights.suffix == ".gguf" else {}
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory, **named)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, **named).eval()

    def score(text: str) -> object:
        with torch.inference_mode():
            inputs = tokenizer(f"{RUBRIC}\n{text}", return_tensors="pt")
            return model.generate(**inputs, max_new_tokens=6, min_new_tokens=6, do_sample=False)

    return score


PLAIN_ENCODERS: dict[str, Callable[[Any], Work]] = {"minilm": eager, "static": averaged}
PLAIN_ROUTERS: dict[str, Callable[[Any], Callable[[Prompts], object]]] = {
    "mf": module,
    "sw": regression,
    "boosted": matrix,
}
PLAIN_READERS: dict[str, Callable[[Any], Work]] = {"bert": classifier, "causal": generated}


if __name__ == "__main__":
    main()
