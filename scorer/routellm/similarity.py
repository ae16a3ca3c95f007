"""RouteLLM's similarity-weighted ranking, from the battle and embedding sets that it is published as.

    <directory>/routellm.json   which sets, in which order:
                                {"sets": [{"battles": "arena.csv", "embeddings": "arena_embeddings"}]}

Each is a file, or a directory of Parquet files in the order of their names. Battles, CSV or Parquet, have the columns
of Chatbot Arena's. Embeddings, Parquet, have one column, and a row for each battle whose first turn has 16 characters
or more: they are matched by order alone. The ranking is the `upstream` variant of our own router, on these rows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from scorer.artifacts import ArtifactError
from scorer.battles import Battles
from scorer.importers import LEAST_CHARACTERS, canonical
from scorer.routellm import files, reference
from scorer.routellm.embeddings import Embeddings, embeddings_for
from scorer.routers import similarity
from scorer.routers.base import Prompts, Scores, UnknownModel, spread
from scorer.routers.variants import Upstream
from scorer.sections import EmbeddingsConfig
from scorer.tables import DataError, Table, read_table

Floats = NDArray[np.float32]

SETS = "routellm.json"

_COLUMN = "embeddings"
_TOGETHER = 16_384  # rows made ready at once: they pass through float64

_log = logging.getLogger(__name__)


class Set(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names in the directory."""

    battles: str
    embeddings: str


class Sets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of routellm.json."""

    sets: tuple[Set, ...]


class Similarity:
    """The published SW router."""

    name = "sw"
    sample = None  # no prompts that it could be calibrated on come with it

    def __init__(self, ranking: similarity.Similarity, embeddings: Embeddings, version: str) -> None:
        """ranking: of variant `upstream`, without features."""
        self.known, self.version = ranking.known, version
        self._ranking, self._embeddings = ranking, embeddings

    def knows(self, model: str) -> bool:
        """Whether the model has battles."""
        return self._ranking.knows(model)

    def score(self, prompts: Prompts, ladder: Sequence[str]) -> Scores:
        """A ladder whose strongest model and another one are known is scored by name, a model without battles as the
        mean of its nearest known neighbours; any other as upstream does: the reference pair's win rate, spread.

        Raises Unscorable while the embeddings cannot be had, and UnknownModel.
        """
        by_name = reference.is_named(ladder, self.knows)
        if not by_name and not all(map(self.knows, reference.PAIR)):
            raise UnknownModel(f"{self.name} {self.version}", ladder, self.known)
        read = _prompts(prompts.texts, self._embeddings(prompts.texts))
        scores = self._ranking.score(read, ladder if by_name else reference.PAIR)
        return scores if by_name else Scores(spread(scores.win_rates[:, 1], len(ladder)))

    @classmethod
    def load(cls, directory: Path, embeddings: EmbeddingsConfig | None) -> Similarity:
        """Reads and ranks everything, which takes a while. Raises ArtifactError and DataError, and ConfigError without
        embeddings."""
        settings, sets = embeddings_for(directory, embeddings), _sets(directory)
        ranking: similarity.Similarity | None = None
        dimension = 0
        for one in sets:
            battles, vectors = _read(directory / one.battles, directory / one.embeddings)
            if dimension not in (0, vectors.shape[1]):
                raise DataError(
                    f"{directory / one.embeddings}: {vectors.shape[1]} dimensions, those before {dimension}"
                )
            dimension = vectors.shape[1]
            for start in range(0, len(battles), _TOGETHER):
                ranking = _appended(ranking, battles, vectors, slice(start, start + _TOGETHER))
            _log.info("%s: %d battles of %s", directory, len(battles), one.battles)
        if ranking is None:
            raise DataError(f"{directory / SETS}: no battle in its sets")
        used = [path for one in sets for name in (one.battles, one.embeddings) for path in _files(directory / name)]
        version = files.version([directory / SETS, *used], settings.model)
        return cls(ranking.tiered(), Embeddings(settings, dimension), version)


def _appended(
    ranking: similarity.Similarity | None, battles: Battles, vectors: Floats, rows: slice
) -> similarity.Similarity:
    """A ranking that knows these rows, too."""
    some = _rows(battles, np.arange(len(battles))[rows])
    prompts = _prompts(some.prompts, vectors[rows])
    if ranking is not None:
        return ranking.append(some, prompts)
    chosen = Upstream()
    return similarity.Similarity.fit(some, prompts, encoder_id="", features=(), chosen=chosen)


def _prompts(texts: Sequence[str], vectors: Floats) -> Prompts:
    """With embeddings alone."""
    return Prompts(texts, vectors, np.zeros((len(vectors), 0), np.float32))


def _sets(directory: Path) -> tuple[Set, ...]:
    path, form = directory / SETS, '{"sets": [{"battles": FILE, "embeddings": FILE}]}'
    if not path.exists():
        raise ArtifactError(f"{directory}: no {SETS}, which says what is in it: {form}")
    try:
        sets = msgspec.json.decode(files.read(path), type=Sets).sets
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path}: {error}; expected {form}") from None
    if not sets:
        raise ArtifactError(f"{path}: names no set; expected {form}")
    return sets


def _files(path: Path) -> list[Path]:
    """A file, or the Parquet files in and below a directory, such as the hub's `data/`."""
    found = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not found or not found[0].is_file():
        raise DataError(f"{path}: neither a file nor a directory of Parquet files")
    return found


def _read(battles: Path, embeddings: Path) -> tuple[Battles, Floats]:
    """A set's battles, whose row i is prompt i even where texts repeat, and the embeddings (n, d) of their prompts."""
    rows = [row for path in _files(battles) for row in _battles(read_table(path))]
    vectors = np.concatenate([_vectors(path) for path in _files(embeddings)])
    if len(vectors) != len(rows):
        raise DataError(
            f"{embeddings}: {len(vectors)} embeddings; {battles} has {len(rows)} battles whose first turn is of"
            f" {LEAST_CHARACTERS} characters or more"
        )
    apart = [i for i, (_, a, b, _) in enumerate(rows) if a != b]  # a model that meets itself tells nothing
    columns = zip(*(rows[i] for i in apart), strict=True) if apart else ((),) * 4
    texts, a, b, outcome = (tuple(column) for column in columns)
    n = len(texts)
    numbers = np.arange(n), np.array(a, np.str_), np.array(b, np.str_), np.array(outcome, np.float64)
    return Battles(texts, *numbers, np.ones(n), np.full(n, battles.stem)), vectors if n == len(rows) else vectors[apart]


def _rows(battles: Battles, rows: NDArray[np.int64]) -> Battles:
    """Some rows with their prompts, which are not merged by text."""
    return Battles(
        tuple(battles.prompts[row] for row in rows),
        np.arange(len(rows)),
        battles.model_a[rows],
        battles.model_b[rows],
        battles.outcome[rows],
        battles.weight[rows],
        battles.source[rows],
    )


def _battles(table: Table) -> Iterator[tuple[str, str, str, float]]:
    """First turn, model_a, model_b and outcome of the rows that upstream keeps."""
    a, b = table.names_or_blank("model_a"), table.names_or_blank("model_b")
    a_won, b_won = table.numbers("winner_model_a", 0, 1), table.numbers("winner_model_b", 0, 1)
    for row, prompt in enumerate(table.texts("prompt")):
        try:
            turn = json.loads(prompt)[0].strip()
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise table.error(row + 1, "prompt", "is no JSON list that begins with a text") from None
        if len(turn) >= LEAST_CHARACTERS:
            if not a[row] or not b[row]:
                raise table.error(row + 1, "model_b" if a[row] else "model_a", "is missing")
            outcome = 1.0 if a_won[row] == 1 else 0.0 if b_won[row] == 1 else 0.5  # neither: a tie
            yield turn, canonical(a[row]), canonical(b[row]), outcome


def _vectors(path: Path) -> Floats:
    """(n, d) of a Parquet file, d > 0."""
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.parquet

    try:
        names = pa.parquet.read_schema(path).names
        if _COLUMN not in names:
            raise DataError(f"{path}: no column {_COLUMN!r}; columns: {', '.join(names[:40])}")
        column = pa.parquet.read_table(path, columns=[_COLUMN]).column(_COLUMN)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a Parquet file that can be read: {str(error).splitlines()[0]}") from None
    kind = column.type
    if not (hasattr(kind, "value_type") and pa.types.is_floating(kind.value_type)) or column.null_count:
        raise DataError(f"{path}: {_COLUMN}: a list of numbers in every row is accepted, not {kind}")
    lengths = pa.compute.unique(pa.compute.list_value_length(column)).to_pylist()
    if len(lengths) != 1 or not lengths[0]:
        raise DataError(f"{path}: {_COLUMN}: rows of {' and '.join(map(str, sorted(lengths)[:5])) or 'no'} numbers")
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    vectors: Floats = np.concatenate(flat).astype(np.float32, copy=False).reshape(-1, lengths[0])
    if not (finite := np.isfinite(vectors).all(axis=1)).all():
        raise DataError(f"{path}, row {int(np.argmin(finite)) + 1}: {_COLUMN}: holds NaN, infinity or nothing")
    return vectors
