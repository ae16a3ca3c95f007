"""Files of feedback going out: everything that is logged, a page at a time (docs/feedback.md).

A row is a decision, a rating or a comparison, as its `record` says; in Parquet it has the columns of all three.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from feedback.records import Comparison, Rating, Record, ReportedOutcome
from feedback.store import Store
from scorer.decisions import Decision
from scorer.tables import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_VECTORS = ("embedding", "features")
_ENCODE = msgspec.json.Encoder().encode

Row = dict[str, Any]
Write = Callable[[Iterable[Row]], None]


class Written(NamedTuple):
    """How many rows of each kind a file has."""

    decisions: int
    ratings: int
    comparisons: int


async def write(
    path: Path, store: Store, *, vectors: bool, after: float, before: float, progress: Callable[[int], None]
) -> Written:
    """One file, JSONL or Parquet by suffix, whole or not at all, of what is between two times (Unix seconds).

    `progress` hears how many rows there are by now. Raises DataError and Unavailable.
    """
    decisions = ratings = comparisons = 0
    with _whole_file(path) as put:
        async for records in store.logged(after, before, vectors=vectors):
            put(row for record in records for row in _record_rows(record))
            decisions += len(records)
            ratings += sum(len(record.ratings) for record in records)
            progress(decisions + ratings)
        async for compared in store.comparisons(after, before, vectors=vectors):
            put(map(_comparison_row, compared))
            comparisons += len(compared)
            progress(decisions + ratings + comparisons)
    return Written(decisions, ratings, comparisons)


def _record_rows(record: Record) -> Iterator[Row]:
    """A decision (of a fallback, what stands in for it), then its ratings."""
    decision = msgspec.structs.asdict(record.decision) if record.decision else {"decision_id": record.decision_id}
    outcome = msgspec.structs.asdict(record.outcome) if record.outcome else None
    known = {"status": record.status, "regenerated": record.regenerated, "outcome": outcome}
    yield {"record": "decision", **_without_empty_vectors(decision), **known}
    for rating in record.ratings:
        yield {"record": "rating", **msgspec.structs.asdict(rating)}


def _comparison_row(comparison: Comparison) -> Row:
    """As imports reads it: a decision's prompt is the decision's row's."""
    row = {name: getattr(comparison, name) for name in Comparison.__struct_fields__}
    prompt = row.pop("text")
    of_the_prompt = ("text_hash", "encoder_id", *_VECTORS)
    if comparison.decision_id is not None or prompt is not None:
        row = {name: value for name, value in row.items() if name not in of_the_prompt}
    if comparison.decision_id is None and prompt is not None:
        row["prompt"] = prompt
    return {"record": "comparison", **_without_empty_vectors(row)}


def _without_empty_vectors(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not None or name not in _VECTORS}


@contextmanager
def _whole_file(path: Path) -> Iterator[Write]:
    """Appends rows to a temporary file, which becomes the file when the block ends well."""
    formats = {".jsonl": _jsonl, ".parquet": _parquet}
    if path.suffix not in formats:
        raise DataError(f"{path}: suffix {path.suffix!r}; accepted: {', '.join(formats)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    temporary = Path(name)
    try:
        with formats[path.suffix](temporary) as put:
            yield put
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _jsonl(path: Path) -> Iterator[Write]:
    with path.open("wb") as file:
        yield lambda rows: file.writelines(_ENCODE(row) + b"\n" for row in rows)


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet

    schema = _schema()
    with pa.parquet.ParquetWriter(path, schema, compression="zstd") as file:
        yield lambda rows: file.write_table(pa.Table.from_pylist([_with_numbers(row) for row in rows], schema))


def _with_numbers(row: Row) -> Row:
    """A Parquet column has one type, and `needs` has counts and truths."""
    return {**row, "needs": {name: int(need) for name, need in row["needs"].items()}} if "needs" in row else row


def _schema() -> pa.Schema:
    import pyarrow as pa

    hints: dict[str, Any] = {"record": str}
    for kind in (Decision, Rating, Comparison):
        hints |= get_type_hints(kind, include_extras=True)
    hints |= {"status": str, "regenerated": bool, "outcome": ReportedOutcome, "prompt": str}
    return pa.schema([(name, _arrow(hint)) for name, hint in hints.items()])


def _arrow(hint: Any) -> pa.DataType:
    """The Arrow type of a field's Python type."""
    import pyarrow as pa

    plain = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_(), bytes: pa.binary()}
    if hint in plain:
        return plain[hint]
    origin, arguments = get_origin(hint), [one for one in get_args(hint) if one is not type(None)]
    if origin is Annotated:
        return _arrow(arguments[0])
    if origin is Literal:
        return pa.string()
    if origin is dict:
        return pa.map_(_arrow(arguments[0]), _arrow(arguments[1]))
    if origin is tuple:
        return pa.list_(_arrow(arguments[0]))
    if origin in (Union, type(int | None)):
        return _arrow(int if set(arguments) == {bool, int} else arguments[0])
    return pa.struct([(name, _arrow(one)) for name, one in get_type_hints(hint, include_extras=True).items()])
