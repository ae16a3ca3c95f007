"""Published points are read from a CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scorer.evaluation import points
from scorer.tables import DataError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "points.csv"
    path.write_text(text)
    return path


def test_published_points_are_read_with_what_is_known_of_them(tmp_path: Path) -> None:
    text = "router,benchmark,share,cost,result\nMartian,mt_bench,0.5,,8.3125\nUnify,,0.45625,0.002,8.757862\n"
    martian, unify = points.read(write(tmp_path, text))
    assert (martian.router, martian.benchmark, martian.share, martian.result) == ("Martian", "mt_bench", 0.5, 8.3125)
    assert np.isnan(martian.cost)
    assert (unify.benchmark, unify.share, unify.cost) == ("", 0.45625, 0.002)


def test_columns_that_nobody_needs_may_be_absent(tmp_path: Path) -> None:
    (point,) = points.read(write(tmp_path, "router,cost,result\nX,0.1,0.7\n"))
    assert (point.benchmark, point.cost) == ("", 0.1)
    assert np.isnan(point.share)


def test_a_point_that_cannot_be_placed_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2: share: neither a share nor a cost"):
        points.read(write(tmp_path, "router,result\nX,0.7\n"))
    with pytest.raises(DataError, match="line 2: share: '50' is not a number from 0 to 1"):
        points.read(write(tmp_path, "router,share,result\nX,50,0.7\n"))


def test_a_point_on_no_benchmark_is_named(tmp_path: Path) -> None:
    read = points.read(write(tmp_path, "router,benchmark,share,result\nX,mtbench,0.5,8\n"))
    with pytest.raises(DataError, match="X: no benchmark 'mtbench'; there are mt_bench, mmlu"):
        points.check(read, ["mt_bench", "mmlu"])
