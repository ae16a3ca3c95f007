"""Battles: what every router learns from, and the files they are kept in (docs/battles.md)."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from scorer.tables import DataError, read_table

BAR = "bar"  # the virtual opponent that stands for "good enough"
FIELDS = ("prompt", "model_a", "model_b", "outcome", "weight", "source")


@dataclass(frozen=True)
class Battles:
    """n comparisons of two players on p distinct prompts.

    prompts: p texts; prompt (n,): index of each row's text; model_a, model_b (n,): names, one may be BAR;
    outcome (n,) in [0, 1]: 1 = a won, 0.5 = tie; weight (n,) > 0; source (n,): where the row comes from.
    """

    prompts: tuple[str, ...]
    prompt: NDArray[np.int64]
    model_a: NDArray[np.str_]
    model_b: NDArray[np.str_]
    outcome: NDArray[np.float64]
    weight: NDArray[np.float64]
    source: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def players(self) -> tuple[str, ...]:
        """Distinct names, sorted; the bar among them if it fought."""
        return tuple(np.unique(np.concatenate([self.model_a, self.model_b])).tolist())

    @property
    def summary(self) -> str:
        """How many of what, in a line."""
        said = f"{len(self)} battles on {len(self.prompts)} prompts between {len(self.players)} players"
        repeated = self.repeated
        return f"{said}; {repeated} say the same as another and count as votes of their own" if repeated else said

    @property
    def repeated(self) -> int:
        """How many rows equal an earlier one. They are kept: two people may well agree."""
        codes = [np.unique(column, return_inverse=True)[1] for column in (self.model_a, self.model_b, self.source)]
        rows = np.stack([self.prompt, *codes, self.outcome, self.weight], axis=1)
        return len(rows) - len(np.unique(rows, axis=0))

    @property
    def settled(self) -> bool:
        """Whether any two players' battles all end alike: then prompts make no difference, and teach nothing."""
        swapped = self.model_a > self.model_b
        first, second = np.where(swapped, self.model_b, self.model_a), np.where(swapped, self.model_a, self.model_b)
        pair = np.unique(np.stack([first, second]), axis=1, return_inverse=True)[1].reshape(-1)
        outcome = np.where(swapped, 1 - self.outcome, self.outcome)
        return len(np.unique(np.stack([pair, outcome]), axis=1).T) == len(np.unique(pair))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the content."""
        digest = hashlib.sha256()
        for text in self.prompts:
            digest.update(hashlib.sha256(text.encode()).digest())
        for column in (self.model_a, self.model_b, self.source):
            digest.update("\n".join(column.tolist()).encode())
        for numbers in (self.prompt, self.outcome, self.weight):
            digest.update(numbers.tobytes())
        return digest.hexdigest()

    def take(self, rows: NDArray[Any]) -> Battles:
        """The battles that `rows` (a mask or indices) selects; prompts without any are dropped."""
        prompt = self.prompt[rows]
        used, renumbered = np.unique(prompt, return_inverse=True)
        return Battles(
            tuple(self.prompts[i] for i in used),
            renumbered.reshape(-1).astype(np.int64),
            self.model_a[rows],
            self.model_b[rows],
            self.outcome[rows],
            self.weight[rows],
            self.source[rows],
        )

    @classmethod
    def of(
        cls,
        prompt: Sequence[str],
        model_a: Sequence[str],
        model_b: Sequence[str],
        outcome: Sequence[float] | NDArray[np.float64],
        weight: Sequence[float] | NDArray[np.float64] | float = 1.0,
        source: Sequence[str] | str = "",
    ) -> Battles:
        """From columns with one text a row; scalars stand for a whole column. Raises DataError naming the row."""
        first: dict[str, int] = {}
        index = np.fromiter((first.setdefault(text, len(first)) for text in prompt), np.int64, len(prompt))
        battles = cls(
            tuple(first),
            index,
            _names(model_a, len(index)),
            _names(model_b, len(index)),
            np.asarray(outcome, np.float64).reshape(-1),
            np.broadcast_to(np.asarray(weight, np.float64), index.shape).copy(),
            _names(source, len(index)),
        )
        battles._check()
        return battles

    def _check(self) -> None:
        blank = np.array([not text.strip() for text in self.prompts], bool)
        self._refuse(blank[self.prompt] if len(self) else np.zeros(0, bool), "prompt", "is empty")
        self._refuse(self.model_a == "", "model_a", "is empty")
        self._refuse(self.model_b == "", "model_b", "is empty")
        self._refuse(self.model_a == self.model_b, "model_b", "is the same as model_a")
        self._refuse(~((self.outcome >= 0) & (self.outcome <= 1)), "outcome", "is not a number from 0 to 1")
        self._refuse(~((self.weight > 0) & np.isfinite(self.weight)), "weight", "is not a positive number")

    @staticmethod
    def _refuse(faulty: NDArray[np.bool_], field: str, fault: str) -> None:
        if faulty.any():
            raise DataError(f"row {int(np.argmax(faulty)) + 1}: {field}: {fault}")


def concatenate(parts: Iterable[Battles]) -> Battles:
    """All rows in order, prompts merged by text."""
    texts: dict[str, int] = {}
    columns: list[list[NDArray[Any]]] = []
    for part in parts:
        renumber = np.fromiter((texts.setdefault(t, len(texts)) for t in part.prompts), np.int64, len(part.prompts))
        columns.append([renumber[part.prompt], part.model_a, part.model_b, part.outcome, part.weight, part.source])
    if not columns:
        return Battles.of([], [], [], [])
    return Battles(tuple(texts), *(np.concatenate(column) for column in zip(*columns, strict=True)))


def read(paths: Iterable[Path]) -> Battles:
    """The battles of JSONL and Parquet files, by suffix; not twice the same. Raises DataError."""
    files = [Path(path) for path in paths]
    for place, file in enumerate(files):
        if file.resolve() in [earlier.resolve() for earlier in files[:place]]:
            raise DataError(f"{file}: given twice; to have it count twice, say so in `weight`")
    return concatenate(_read_parquet(path) if _is_parquet(path) else _read_jsonl(path) for path in files)


def write(path: Path, battles: Battles) -> None:
    """One file, JSONL or Parquet by suffix; replaced whole or not at all."""
    parquet = _is_parquet(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        (_write_parquet if parquet else _write_jsonl)(Path(temporary), battles)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    prompt: str
    model_a: str
    model_b: str
    outcome: Annotated[float, msgspec.Meta(ge=0, le=1)]
    weight: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    source: str = ""


_AT = re.compile(r" - at `\$\.(\w+)`$")


def _read_jsonl(path: Path) -> Battles:
    decode = msgspec.json.Decoder(_Row).decode
    rows: list[_Row] = []
    numbers: list[int] = []  # of lines, since blank ones are skipped
    for number, line in enumerate(_open(path).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            message = str(error)
            at = _AT.search(message)
            text = f"{at.group(1)}: {message[: at.start()]}" if at else message
            raise DataError(f"{path}, line {number}: {text}; fields: {', '.join(FIELDS)}") from None
        numbers.append(number)
    columns = zip(*(msgspec.structs.astuple(row) for row in rows), strict=True) if rows else [[]] * len(FIELDS)
    try:
        return Battles.of(*columns)
    except DataError as error:
        row, _, rest = str(error).removeprefix("row ").partition(": ")
        raise DataError(f"{path}, line {numbers[int(row) - 1]}: {rest}") from None


def _read_parquet(path: Path) -> Battles:
    table = read_table(path)
    unknown = sorted(set(table.names) - set(FIELDS))
    if unknown:
        raise DataError(f"{path}: unknown column {unknown[0]!r}; columns: {', '.join(FIELDS)}")
    columns = (
        table.texts("prompt"),
        table.texts("model_a"),
        table.texts("model_b"),
        table.numbers("outcome", 0, 1),
        table.numbers("weight", 0, np.inf) if "weight" in table.names else 1.0,
        table.names_or_blank("source") if "source" in table.names else "",
    )
    try:
        return Battles.of(*columns)
    except DataError as error:
        raise DataError(f"{path}, {error}") from None


def _write_jsonl(path: Path, battles: Battles) -> None:
    encode = msgspec.json.Encoder().encode
    with path.open("wb") as file:
        for row in zip(*_columns(battles).values(), strict=True):
            file.write(encode(_Row(*row)) + b"\n")


def _write_parquet(path: Path, battles: Battles) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    pa.parquet.write_table(pa.table(_columns(battles)), path, compression="zstd")


def _columns(battles: Battles) -> dict[str, list[Any]]:
    return {
        "prompt": [battles.prompts[i] for i in battles.prompt],
        "model_a": battles.model_a.tolist(),
        "model_b": battles.model_b.tolist(),
        "outcome": battles.outcome.tolist(),
        "weight": battles.weight.tolist(),
        "source": battles.source.tolist(),
    }


def _is_parquet(path: Path) -> bool:
    if path.suffix not in (".parquet", ".jsonl"):
        raise DataError(f"{path}: suffix {path.suffix!r}; battles are kept in .jsonl or .parquet files")
    return path.suffix == ".parquet"


def _open(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _names(names: Sequence[str] | str, rows: int) -> NDArray[np.str_]:
    if isinstance(names, str):
        return np.full(rows, names)
    return np.asarray(names, np.str_) if rows else np.zeros(0, "U1")
