"""Fitted versions and their order."""

from pathlib import Path

import numpy as np

from feedback import versions
from feedback.records import Activation
from scorer import artifacts


def history(*served: str) -> list[Activation]:
    """Of versions that were activated in this order, newest first."""
    previous = [None, *served[:-1]]
    return [
        Activation(router="mf", number=n, version=now, directory="", previous=then, changed_at=n, changed_by="test")
        for n, (now, then) in enumerate(zip(served, previous, strict=True), start=1)
    ][::-1]


def test_a_rollback_goes_to_the_version_before() -> None:
    assert versions.before(history("a", "b")) == "a"


def test_the_first_version_goes_back_to_the_configured_artifact() -> None:
    assert versions.before(history("a")) is None


def test_rolling_back_twice_goes_back_two_versions() -> None:
    assert versions.before(history("a", "b", "c", "b")) == "a"
    assert versions.before(history("a", "b", "c", "b", "a")) is None


def test_installed_are_the_readable_ones_newest_first(tmp_path: Path) -> None:
    where = versions.folder(tmp_path, "mf")
    for version in ("20260101-000000-aaaaaaaa", "20260201-000000-bbbbbbbb"):
        artifacts.write(where / version, {"x": np.ones(1)}, router="mf", version=version, encoder_id="e")
    (where / "broken").mkdir()
    (where / "broken" / artifacts.MANIFEST).write_text("{}")
    (where / ".half-written").mkdir()
    found = versions.installed(tmp_path, "mf")
    assert [one.directory.name for one in found] == ["20260201-000000-bbbbbbbb", "20260101-000000-aaaaaaaa"]
    assert versions.installed(tmp_path, "sw") == []
