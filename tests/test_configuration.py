"""The configuration reference is what the code says."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest
import yaml

from scorer.sections import Section
from tests.demo.stack import ROOT
from tests.tools import configuration


def test_reference_is_up_to_date() -> None:
    written = configuration.PAGE.read_text(encoding="utf-8")
    assert written == configuration.page(), "run `python -m tests.tools.configuration`"


@pytest.mark.parametrize("part", list(configuration.parts()), ids=lambda part: part.path or "top")
def test_section_and_its_keys_say_what_they_are(part: configuration.Part) -> None:
    assert part.about
    assert [row.key for row in part.rows if len(row.meaning) < 8] == []


def test_example_s_sections_are_all_in_the_reference() -> None:
    content = yaml.safe_load((ROOT / "config.example.yaml").read_text(encoding="utf-8"))
    top, *_ = configuration.parts()
    assert set(content) <= {row.key for row in top.rows}


class _Toy(Section, frozen=True, rename={"beds": "bed_count"}):
    """A hotel."""

    beds: Annotated[int, msgspec.Meta(ge=1, le=9)]  # in one room
    stars: float | None = None  # null: nobody
    # has counted
    names: tuple[str, ...] = (
        "Ritz",  # the first
        "Astoria",  # the other
    )


def test_row_has_type_bounds_default_and_comment() -> None:
    (part,) = configuration._parts("hotel", msgspec.inspect.type_info(_Toy))  # type: ignore[arg-type]
    assert part.about == "A hotel."
    assert part.rows == [
        ("bed_count", "whole number ≥ 1 ≤ 9", "required", "In one room."),
        ("stars", "number or null", "`null`", "null: nobody"),
        ("names", "list of text", "`[Ritz, Astoria]`", "The first the other."),
    ]
