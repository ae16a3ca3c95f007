"""Shards: encoding, and the cells of similarity-weighted ranking, part by part, here or on a Ray cluster.

A prompt's embedding and its row depend on no other prompt once models, pairs and standardisation are settled. So the
shards' rows and entries, laid one after the other, are those of the whole to the last bit, and so are their totals but
for the order of additions. What is settled first is small; what a shard gets and gives is its own rows.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from scorer.battles import Battles
from scorer.config import ConfigError
from scorer.encoder import EncoderError
from scorer.routers.base import Encodes, Prompts
from scorer.routers.cells import Cells, Floats, gathered, joined

LOCAL = "local"  # instead of a cluster's address: one on this machine, of all its cores

_TEXTS = 256  # encoded in a row by one worker
_PROMPTS = 8192  # of a shard of cells
_CONNECT_SECONDS = 5.0
_AHEAD = 2  # tasks that wait for each core of the cluster, so that a long log is never there as a whole

T = TypeVar("T")
R = TypeVar("R")


class Map(Protocol):
    """As the builtin: results in order."""

    def __call__(self, work: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]: ...


Part: TypeAlias = tuple[NDArray[np.int8], NDArray[np.integer], NDArray[np.integer], NDArray[np.float32]]  # of Cells


class Shard(NamedTuple):
    """Some prompts' battles, and the prompts' unit vectors (n, d)."""

    battles: Battles
    vectors: Floats


class Spread:
    """An encoder whose work is shared out; a text's encoding is the same wherever it is made."""

    def __init__(self, encoder: Encodes, chosen: str, mapped: Map) -> None:
        """chosen: what `--encoder` says, by which every worker finds it."""
        self.name, self.id = encoder.name, encoder.id
        self._work = partial(_encoded, chosen, encoder.id)
        self._mapped = mapped

    def encode(self, texts: Sequence[str]) -> Prompts:
        parts = list(self.encoded([texts[at : at + _TEXTS] for at in range(0, max(len(texts), 1), _TEXTS)]))
        embeddings, features = ([part.embeddings for part in parts], [part.features for part in parts])
        return Prompts(tuple(texts), np.concatenate(embeddings), np.concatenate(features))

    def encoded(self, blocks: Iterable[Sequence[str]]) -> Iterator[Prompts]:
        """One block after the other."""
        return self._mapped(self._work, blocks)


def encoded(encoder: Encodes, blocks: Iterable[Sequence[str]]) -> Iterator[Prompts]:
    """One block after the other, by as many as the encoder has for it."""
    return encoder.encoded(blocks) if isinstance(encoder, Spread) else map(encoder.encode, blocks)


def summed(
    mapped: Map, battles: Battles, vectors: Floats, models: Sequence[str], pairs: NDArray[np.int32]
) -> tuple[Cells, NDArray[np.int32]]:
    """What `cells.gathered` gives, shard by shard."""
    extended = _extended(battles, models, pairs)
    parts = mapped(partial(_partial, tuple(models), extended), shards(battles, vectors))
    return reduced(parts, extended), extended


def shards(battles: Battles, vectors: Floats, size: int = _PROMPTS) -> Iterator[Shard]:
    """Of `size` prompts each, in their order."""
    order = np.argsort(battles.prompt, kind="stable")
    ends = np.searchsorted(battles.prompt[order], np.arange(0, len(vectors) + size, size))
    for place, begin in enumerate(range(0, len(vectors), size)):
        rows = order[ends[place] : ends[place + 1]]
        part = Battles(
            battles.prompts[begin : begin + size],
            battles.prompt[rows] - begin,
            battles.model_a[rows],
            battles.model_b[rows],
            battles.outcome[rows],
            battles.weight[rows],
            battles.source[rows],
        )
        yield Shard(part, vectors[begin : begin + size])


def reduced(parts: Iterable[Part], pairs: NDArray[np.int32]) -> Cells:
    """The shards' cells as one."""
    return joined([Cells(*part, pairs) for part in parts], pairs)


def _partial(models: tuple[str, ...], pairs: NDArray[np.int32], shard: Shard) -> Part:
    cells, _ = gathered(shard.battles, shard.vectors, models, pairs)
    return cells.rows, cells.count, cells.pair, cells.wins


def _extended(battles: Battles, models: Sequence[str], pairs: NDArray[np.int32]) -> NDArray[np.int32]:
    """The pairs with those that fight for the first time, numbered as `cells.gathered` does."""
    number = {model: i for i, model in enumerate(models)}
    sides = np.unique(np.stack([battles.model_a, battles.model_b], axis=1), axis=0).tolist()
    met = sorted({(min(number[a], number[b]), max(number[a], number[b])) for a, b in sides})
    return np.array(list(dict.fromkeys([*map(tuple, pairs.tolist()), *met])), np.int32).reshape(-1, 2)


@contextlib.contextmanager
def cluster(address: str = LOCAL, cores: int | None = None) -> Iterator[Map]:
    """A map over a Ray cluster's cores; cores: of a local one, None: all. Raises ConfigError where none answers."""
    import ray

    quiet = {"include_dashboard": False} if address == LOCAL else {}
    try:
        _reach(address)
        ray.init(address, num_cpus=cores, log_to_driver=False, logging_level=40, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"--ray {address}: {str(error).splitlines()[0]}") from None
    try:
        yield _Cluster(ray)
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raises OSError for a host that does not answer: Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()


class _Cluster:
    """What is asked of Ray: tasks, a few ahead of what is taken."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._task = ray.remote(_call)
        self._most = _AHEAD * max(int(ray.cluster_resources().get("CPU", 1)), 1)

    def __call__(self, work: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]:
        """What a task raises is raised as it is."""
        shared = self._ray.put(work)
        waiting: deque[Any] = deque()
        for item in items:
            waiting.append(self._task.remote(shared, item))
            if len(waiting) > self._most:
                yield self._result(waiting.popleft())
        while waiting:
            yield self._result(waiting.popleft())

    def _result(self, task: Any) -> Any:
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None


def _call(work: Callable[[T], R], item: T) -> R:
    return work(item)


def _encoded(chosen: str, encoder_id: str, texts: Sequence[str]) -> Prompts:
    return _encoder(chosen, encoder_id).encode(texts)


@cache
def _encoder(chosen: str, encoder_id: str) -> Encodes:
    """A worker's own, on one core. Raises EncoderError where it is another one than asked for."""
    from scorer import catalogue

    encoder = catalogue.named_encoder(chosen, threads=1)
    if encoder.id != encoder_id:
        raise EncoderError(f"a worker's {chosen} encoder is {encoder.id[:12]}, not {encoder_id[:12]}; export it there")
    return encoder
