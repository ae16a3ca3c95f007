"""docs/configuration.md from the code: every key's type and bounds, its default, and the comment beside it.

python -m tests.tools.configuration          writes it
python -m tests.tools.configuration --check  says whether it is up to date, by its exit code
"""

from __future__ import annotations

import argparse
import ast
import inspect
import io
import re
import sys
import textwrap
import tokenize
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect as types

from scorer.config import Config
from tests.demo.stack import ROOT

PAGE = ROOT / "docs" / "configuration.md"
HEAD = """# Configuration

All that `config.yaml` may say, in the order of the code. Written by `python -m tests.tools.configuration` from
`scorer/config.py` and `scorer/sections.py`, whose comments these are; a test fails when it is out of date. An example
to begin with is [config.example.yaml](../config.example.yaml). A key that is not here is refused, with those that are.

A value `os.environ/NAME` is read from the environment, wherever it stands. Where a secret is expected, such as a token,
a key or the database's address, `{file: PATH}` stands for the content of a file.
"""


_DOCUMENT = re.compile(r"docs/([\w-]+\.md)")


class Row(NamedTuple):
    """A key."""

    key: str
    type: str
    default: str
    meaning: str


class Part(NamedTuple):
    """A section: where it stands, what it is, its keys."""

    path: str
    about: str
    rows: list[Row]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    text = page()
    if not parser.parse_args().check:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        sys.exit("docs/configuration.md is out of date: run `python -m tests.tools.configuration`")


def page() -> str:
    blocks = [HEAD]
    for part in parts():
        title = f"## `{part.path}`" if part.path else "## At the top"
        lines = [f"| `{row.key}` | {row.type} | {row.default} | {row.meaning} |" for row in part.rows]
        table = "\n".join(["| key | what | default | |", "| --- | --- | --- | --- |", *lines])
        blocks.append(f"{title}\n\n{textwrap.fill(_cell(part.about), 120)}\n\n{table}\n")
    return "\n".join(blocks)


def parts() -> Iterator[Part]:
    """All sections, each after the one that it stands in."""
    section = types.type_info(Config)
    assert isinstance(section, types.StructType)
    yield from _parts("", section)


def _parts(path: str, section: types.StructType) -> Iterator[Part]:
    said = comments(section.cls)
    rows = [_row(field, said.get(field.name, "")) for field in section.fields]
    yield Part(path, _one_line(inspect.getdoc(section.cls) or ""), rows)
    for field in section.fields:
        for suffix, inner in _sections(field.type):
            yield from _parts(f"{path}.{field.encode_name}{suffix}".lstrip("."), inner)


def _row(field: types.Field, comment: str) -> Row:
    own = [_one_line(inspect.getdoc(inner.cls) or "") for _, inner in _sections(field.type)]
    meaning = _sentence(comment or next(iter(own), ""))
    return Row(field.encode_name, _cell(_words(field.type)), _cell(_default(field)), _cell(meaning))


def comments(cls: type) -> dict[str, str]:
    """What stands beside each field of a class, in its source."""
    source = textwrap.dedent(inspect.getsource(cls))
    beside: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            beside[token.start[0]] = token.string.lstrip("# ")
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            found[node.target.id] = " ".join(beside[line] for line in lines if line in beside)
    return found


def _sections(kind: types.Type) -> Iterator[tuple[str, types.StructType]]:
    """The sections that a value holds, each with how its path goes on."""
    if isinstance(kind, types.StructType):
        yield "", kind
    elif isinstance(kind, types.UnionType):
        for each in kind.types:
            yield from _sections(each)
    elif isinstance(kind, types.DictType):
        yield from ((f".NAME{suffix}", inner) for suffix, inner in _sections(kind.value_type))
    elif isinstance(kind, types.VarTupleType):
        yield from ((f"[]{suffix}", inner) for suffix, inner in _sections(kind.item_type))


def _words(kind: types.Type) -> str:
    """A type, for people."""
    match kind:
        case types.UnionType():
            return " or ".join(sorted((_words(each) for each in kind.types), key=lambda word: word == "null"))
        case types.VarTupleType():
            least = f", {kind.min_length} or more" if kind.min_length else ""
            return f"list of {_words(kind.item_type)}{least}"
        case types.TupleType():
            return f"[{', '.join(_words(each) for each in kind.item_types)}]"
        case types.DictType():
            return f"map of names to {_words(kind.value_type)}"
        case types.LiteralType():
            return " or ".join(f"`{value}`" for value in kind.values)
        case types.IntType() | types.FloatType():
            number = "whole number" if isinstance(kind, types.IntType) else "number"
            bounds = [(">", kind.gt), ("≥", kind.ge), ("<", kind.lt), ("≤", kind.le)]
            return " ".join([number, *(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)])
        case types.StrType():
            return f"text of {kind.min_length} or more characters" if (kind.min_length or 0) > 1 else "text"
    return _NAMED[type(kind)]


_NAMED: dict[type[types.Type], str] = {
    types.BoolType: "true or false",
    types.NoneType: "null",
    types.CustomType: "path",
    types.StructType: "section",
}


def _default(field: types.Field) -> str:
    if field.required:
        return "required"
    value: Any = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if isinstance(value, msgspec.Struct):
        return "as below"
    if isinstance(value, dict):
        return f"`{{{', '.join(f'{name}: {{}}' for name in value)}}}`"
    return f"`{msgspec.json.encode(msgspec.to_builtins(value, enc_hook=str)).decode()}`".replace('"', "").replace(
        ",", ", "
    )


def _sentence(text: str) -> str:
    """A comment that begins with a value (`null: ...`) keeps it as it is written."""
    if not text or text.split()[0].endswith(":"):
        return text
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."


def _cell(text: str) -> str:
    return _DOCUMENT.sub(r"[docs/\1](\1)", text.replace("|", "\\|"))


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    main()
