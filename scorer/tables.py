"""Tables: data files read column by column, with errors that name file, row and field. Needs pyarrow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

_SUFFIXES = (".parquet", ".csv", ".jsonl")


class DataError(ValueError):
    """A data file that cannot be used; one line: file, row, field, what is wrong."""


@dataclass(frozen=True)
class Table:
    """A file's rows. Rows count from 1, the header of a CSV not among them."""

    path: Path
    content: pa.Table

    def __len__(self) -> int:
        return int(self.content.num_rows)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(self.content.column_names)

    def texts(self, name: str) -> list[str]:
        """A column of non-blank texts."""
        values = self._column(name)
        for row, value in enumerate(values, start=1):
            if not isinstance(value, str) or not value.strip():
                raise self.error(row, name, f"{value!r} is not a text" if value is not None else "is missing")
        return values  # type: ignore[return-value]

    def names_or_blank(self, name: str) -> list[str]:
        """A column of texts where a missing one is blank."""
        return ["" if value is None else str(value) for value in self._column(name)]

    def numbers(self, name: str, low: float, high: float, *, gaps: bool = False) -> NDArray[np.float64]:
        """A column of numbers (or true / false) from `low` to `high`; missing ones are NaN where gaps are allowed."""
        values = self._column(name)
        numbers = np.full(len(values), np.nan)
        for row, value in enumerate(values, start=1):
            if value is None and gaps:
                continue
            if not isinstance(value, int | float) or not low <= value <= high:
                raise self.error(row, name, f"{value!r} is not a number from {low:g} to {high:g}")
            numbers[row - 1] = value
        return numbers

    def error(self, row: int, field: str, fault: str) -> DataError:
        """The error that names this file."""
        return DataError(f"{self.path}, row {row}: {field}: {fault}")

    def _column(self, name: str) -> list[object]:
        if name not in self.names:
            raise DataError(f"{self.path}: no column {name!r}; columns: {', '.join(self.names[:40])}")
        values: list[object] = self.content.column(name).to_pylist()
        return [None if isinstance(value, float) and math.isnan(value) else value for value in values]


def read_table(path: Path) -> Table:
    """A Parquet, CSV or JSONL file, by suffix. Raises DataError."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet

    if path.suffix not in _SUFFIXES:
        raise DataError(f"{path}: suffix {path.suffix!r}; accepted: {', '.join(_SUFFIXES)}")
    try:
        if path.suffix == ".parquet":
            return Table(path, pa.parquet.read_table(path))
        if path.suffix == ".csv":
            multiline = pa.csv.ParseOptions(newlines_in_values=True)
            return Table(path, pa.csv.read_csv(path, parse_options=multiline))
        return Table(path, pa.json.read_json(path))
    except (OSError, pa.ArrowException) as error:
        message = str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be read: {message}") from None
