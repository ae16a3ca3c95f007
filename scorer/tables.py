"""Tables: data files read column by column, with errors that name file, row and field. Parquet needs pyarrow."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

_SUFFIXES = (".parquet", ".csv", ".jsonl")
_LONGEST_CELL = 2**31 - 1  # characters: of a CSV, whose reader else stops at 131,072
_TRUTH = {"true": 1.0, "false": 0.0}

Column = list[object]  # None where there is nothing


class DataError(ValueError):
    """A data file that cannot be used; one line: file, row, field, what is wrong."""


@dataclass(frozen=True)
class Table:
    """A file's columns, of equal length. lines: the line that each row begins on; None where rows are what is counted,
    from 1."""

    path: Path
    columns: Mapping[str, Column]
    lines: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(self.columns)

    def column(self, name: str) -> Column:
        """Raises DataError if there is none of this name."""
        if name not in self.columns:
            raise DataError(f"{self.path}: no column {name!r}; columns: {', '.join(self.names[:40])}")
        return self.columns[name]

    def texts(self, name: str) -> list[str]:
        """A column of non-blank texts."""
        texts = self.texts_or_blank(name)
        for row, text in enumerate(texts, start=1):
            if not text.strip():
                missing = self.columns[name][row - 1] is None
                raise self.error(row, name, "is missing" if missing else f"{text!r} is not a text")
        return texts

    def texts_or_blank(self, name: str) -> list[str]:
        """A column of texts where a missing one is blank."""
        values = self.column(name)
        for row, value in enumerate(values, start=1):
            if value is not None and not isinstance(value, str):
                raise self.error(row, name, f"{value!r} is not a text")
        return [value if isinstance(value, str) else "" for value in values]

    def names_or_blank(self, name: str) -> list[str]:
        """A column of texts, or of what can be shown as one, where a missing one is blank."""
        return ["" if value is None else str(value) for value in self.column(name)]

    def numbers(self, name: str, low: float, high: float, *, gaps: bool = False) -> NDArray[np.float64]:
        """A column of numbers (or true / false) from `low` to `high`; missing ones are NaN where gaps are allowed."""
        values = self.column(name)
        numbers = np.full(len(values), np.nan)
        for row, value in enumerate(values, start=1):
            if value is None and gaps:
                continue
            number = _number(value)
            if not low <= number <= high:
                raise self.error(row, name, f"{value!r} is not a number from {low:g} to {high:g}")
            numbers[row - 1] = number
        return numbers

    def error(self, row: int, field: str, fault: str) -> DataError:
        """The error that names this file and a row, counted from 1."""
        where = f"row {row}" if self.lines is None else f"line {self.lines[row - 1]}"
        return DataError(f"{self.path}, {where}: {field}: {fault}")


def read_table(path: Path) -> Table:
    """A Parquet, CSV or JSONL file, by suffix. Raises DataError."""
    if path.suffix not in _SUFFIXES:
        raise DataError(f"{path}: suffix {path.suffix!r}; accepted: {', '.join(_SUFFIXES)}")
    try:
        if path.suffix == ".parquet":
            return _parquet(path)
        return (_csv if path.suffix == ".csv" else _jsonl)(path, path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        content = pa.parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    columns = zip(content.column_names, content.columns, strict=True)
    return Table(path, {name: [_known(value) for value in column.to_pylist()] for name, column in columns})


def _jsonl(path: Path, content: bytes) -> Table:
    """One object a line, blank lines aside; what an object lacks is missing."""
    decode = msgspec.json.Decoder(dict[str, object]).decode
    rows: list[dict[str, object]] = []
    lines: list[int] = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            try:
                rows.append(decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise DataError(f"{path}, line {number}: {error}") from None
            lines.append(number)
    names = dict.fromkeys(name for row in rows for name in row)
    return Table(path, {name: [row.get(name) for row in rows] for name in names}, lines)


def _csv(path: Path, content: bytes) -> Table:
    """A header and rows as long as it; empty cells are missing."""
    csv.field_size_limit(_LONGEST_CELL)
    records = _records(path, _decoded(path, content))
    _, header = next(records, (1, []))
    if repeated := {name for name in header if header.count(name) > 1}:
        raise DataError(f"{path}, line 1: column {min(repeated)!r} appears twice")
    rows, lines = [], []
    for number, cells in records:
        if len(cells) != len(header):
            raise DataError(f"{path}, line {number}: {len(cells)} cells; the header has {len(header)}")
        rows.append(cells)
        lines.append(number)
    columns: dict[str, Column] = {name: [row[place] or None for row in rows] for place, name in enumerate(header)}
    return Table(path, columns, lines)


def _records(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Non-empty records with the line that each begins on."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    begins = 1
    try:
        for cells in reader:
            if cells:
                yield begins, cells
            begins = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {begins}: {error}") from None


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: not UTF-8 text") from None


def _known(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def _number(value: object) -> float:
    """NaN for what is no number; a CSV has texts of them."""
    if not isinstance(value, str | int | float):
        return math.nan
    truth = _TRUTH.get(value.strip().lower()) if isinstance(value, str) else None
    try:
        return float(value) if truth is None else truth
    except (ValueError, OverflowError):
        return math.nan
