"""Files of feedback coming in: rows to ratings and comparisons, each fault with its line (docs/feedback.md)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec

from feedback.records import THUMBS, Comparison, Rating, worth
from gateway_plugin import ids
from scorer.decisions import KeptPrompt
from scorer.tables import Table, read_table

_CONTENT = uuid.UUID("6f1d9c1e-5a0f-4f43-9b5e-3f8a52f5c0de")  # the namespace of ids made from a row's content

Keep = Callable[[Sequence[str]], Sequence[KeptPrompt]]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=36)]
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
Time = Annotated[float, msgspec.Meta(ge=0)]
L = TypeVar("L", bound="RatingLine | ComparisonLine")


class RatingLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rating: one of `rating`, `stars` and `value`; a `kind` alone is a retraction."""

    decision_id: Id
    record: Literal["rating"] = "rating"
    rating: Literal["up", "down", "none"] | None = None
    stars: Annotated[int, msgspec.Meta(ge=1, le=5)] | None = None
    value: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    kind: Literal["thumb", "stars", "score"] | None = None
    user: str = ""
    source: Label = "human"
    comment: str | None = None
    tags: tuple[str, ...] = ()
    created_at: Time | None = None  # else when its decision was made
    feedback_id: Id | None = None  # else made from the content: the same row again is the same rating


class ComparisonLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A comparison: of a decision's prompt, of a text, or of what was kept of one."""

    model_a: Label
    model_b: Label
    winner: Literal["model_a", "model_b", "tie"]
    record: Literal["comparison"] = "comparison"
    decision_id: Id | None = None
    prompt: str | None = None
    text_hash: Label | None = None
    encoder_id: str | None = None
    embedding: bytes | None = None
    features: bytes | None = None
    user: str = ""
    source: Label = "human"
    created_at: Time | None = None  # else when its decision was made, or the time of the import
    comparison_id: Id | None = None  # else made from the content


class Read(NamedTuple):
    """A file's rows, ready to be stored; `decisions` counts those of what cannot be taken over."""

    ratings: list[Rating]
    comparisons: list[Comparison]
    decisions: int


def read(path: Path, keep: Keep, now: float) -> Read:
    """A JSONL, CSV or Parquet file, whole or not at all. Raises DataError.

    keep: what is kept of each of n prompts; now: Unix seconds, the time of comparisons that say none.
    """
    table = read_table(path)
    ratings: list[Rating] = []
    lines: list[ComparisonLine] = []
    decisions = 0
    for row, cells in _rows(table):
        record = cells.get("record", "comparison" if "winner" in cells else "rating")
        if record == "decision":
            decisions += 1
        elif record == "comparison":
            lines.append(_comparison_line(table, row, cells))
        else:
            ratings.append(_rating(table, row, cells))
    return Read(ratings, _comparisons(lines, keep, now), decisions)


def _rows(table: Table) -> Iterator[tuple[int, dict[str, object]]]:
    """Each row's number, from 1, and the cells that have something in them."""
    names, columns = list(table.columns), list(table.columns.values())
    for row, values in enumerate(zip(*columns, strict=True), start=1):
        yield row, {name: value for name, value in zip(names, values, strict=True) if value is not None}


def _rating(table: Table, row: int, cells: Mapping[str, object]) -> Rating:
    line = _line(table, row, cells, RatingLine)
    given = [name for name in ("rating", "stars", "value") if getattr(line, name) is not None]
    if len(given) > 1 or not (given or line.kind):
        raise table.error(row, "rating, stars, value", f"expected one of them, got {' and '.join(given) or 'none'}")
    made = _made(table, row, line.decision_id)
    return Rating(
        decision_id=line.decision_id,
        value=line.value if line.value is not None else _value(line),
        kind=line.kind or ("stars" if line.stars else "thumb" if line.rating else "score"),
        user=line.user,
        source=line.source,
        comment=line.comment,
        tags=line.tags,
        created_at=made if line.created_at is None else line.created_at,
        feedback_id=line.feedback_id or _content_id(line),
    )


def _value(line: RatingLine) -> float | None:
    return worth(line.stars) if line.stars else THUMBS[line.rating or "none"]


def _comparison_line(table: Table, row: int, cells: Mapping[str, object]) -> ComparisonLine:
    """The row, checked; with the time of its decision if it says none."""
    line = _line(table, row, cells, ComparisonLine)
    if line.model_a == line.model_b:
        raise table.error(row, "model_b", "is the same as model_a")
    given = [name for name in ("decision_id", "prompt", "text_hash") if getattr(line, name) is not None]
    if len(given) != 1:
        fault = f"expected one of them, got {' and '.join(given) or 'none'}"
        raise table.error(row, "decision_id, prompt, text_hash", fault)
    if line.prompt is not None and not line.prompt.strip():
        raise table.error(row, "prompt", "is empty")
    if line.decision_id is None:
        return line
    made = _made(table, row, line.decision_id)
    return line if line.created_at is not None else msgspec.structs.replace(line, created_at=made)


def _comparisons(lines: Sequence[ComparisonLine], keep: Keep, now: float) -> list[Comparison]:
    prompts = list(dict.fromkeys(line.prompt for line in lines if line.prompt is not None))
    kept = dict(zip(prompts, keep(prompts), strict=True)) if prompts else {}
    return [
        Comparison(
            model_a=line.model_a,
            model_b=line.model_b,
            winner=line.winner,
            decision_id=line.decision_id,
            source=line.source,
            user=line.user,
            created_at=now if line.created_at is None else line.created_at,
            comparison_id=line.comparison_id or _content_id(line),
            **(_kept_elsewhere(line) if line.prompt is None else kept[line.prompt]._asdict()),
        )
        for line in lines
    ]


def _kept_elsewhere(line: ComparisonLine) -> dict[str, Any]:
    """What is known of a prompt without its text; of a decision's, nothing: it is in the log."""
    return {name: getattr(line, name) for name in ("text_hash", "encoder_id", "embedding", "features")}


def _line(table: Table, row: int, cells: Mapping[str, object], kind: type[L]) -> L:
    try:
        return msgspec.convert(cells, kind, strict=table.path.suffix != ".csv")
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        accepted = f"; fields: {', '.join(kind.__struct_fields__)}" if "unknown field" in message else ""
        raise table.error(row, path.rstrip("`") or "fields", message[:1].lower() + message[1:] + accepted) from None


def _made(table: Table, row: int, decision_id: str) -> float:
    """When the decision was made (Unix seconds), by its id."""
    try:
        return ids.minted_at(decision_id)
    except ValueError:
        raise table.error(row, "decision_id", f"{decision_id!r} is not a UUIDv7, lower case, with hyphens") from None


def _content_id(line: RatingLine | ComparisonLine) -> str:
    return str(uuid.uuid5(_CONTENT, msgspec.json.encode(line).decode()))
