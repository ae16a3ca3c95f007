"""Fitted versions and their order."""

from pathlib import Path

import msgspec
import numpy as np

from feedback import versions
from feedback.records import Activation
from scorer import artifacts
from scorer.shelf import opened


def history(*served: str, undoes: dict[int, int] | None = None) -> list[Activation]:
    """Of versions that were activated in this order, newest first; `undoes`: which activation undoes which."""
    previous = [None, *served[:-1]]
    return [
        Activation(
            router="mf",
            number=n,
            version=now,
            directory="",
            previous=then,
            changed_at=n,
            changed_by="test",
            undoes=(undoes or {}).get(n),
        )
        for n, (now, then) in enumerate(zip(served, previous, strict=True), start=1)
    ][::-1]


def install(folder: Path, *names: str) -> None:
    for version in names:
        artifacts.write(
            folder / "artifacts" / "mf" / version, {"x": np.ones(1)}, router="mf", version=version, encoder_id="e"
        )


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "artifacts" / "mf").iterdir())


def test_a_rollback_goes_to_the_version_before() -> None:
    assert versions.before(history("a", "b")) == "a"


def test_the_first_version_goes_back_to_the_configured_artifact() -> None:
    assert versions.before(history("a")) is None


def test_rolling_back_twice_goes_back_two_versions() -> None:
    assert versions.before(history("a", "b", "c", "b")) == "a"
    assert versions.before(history("a", "b", "c", "b", "a")) is None


def test_what_was_rolled_back_by_itself_is_no_target() -> None:
    again = history("a", "b", "a", "b", "c", undoes={3: 2})
    assert versions.undone(again) == {"b"}
    assert versions.before(again) == "a"
    assert versions.before(history("a", "b", "a", "b", "c")) == "b"


def test_the_oldest_are_deleted_but_for_those_that_may_be_needed(tmp_path: Path) -> None:
    names = [f"2026010{day}-000000-aaaaaaaa" for day in range(1, 8)]
    install(tmp_path, *names)
    served = history(names[0], names[3], names[0], names[1], names[2], undoes={3: 2})
    assert versions.prune(opened(None, tmp_path), "mf", served, keep=2) == [names[4], names[3]]
    assert left(tmp_path) == [names[0], names[1], names[2], names[5], names[6]]
    assert versions.prune(opened(None, tmp_path), "mf", served, keep=2) == []


def test_what_is_held_back_is_kept(tmp_path: Path) -> None:
    install(tmp_path, "v1", "v2", "v3", "v4")
    *_, first, second, third = served = history("v1", "v2", "v3", "v4")[::-1]
    joined = [msgspec.structs.replace(one, holdback_since=first.number) for one in (third, second, first)]
    assert versions.since([*joined, served[0]]) == ["v4", "v3", "v2"]
    assert versions.prune(opened(None, tmp_path), "mf", [*joined, served[0]], keep=1) == ["v2"]
    assert left(tmp_path) == ["v1", "v3", "v4"]


def test_without_any_activation_only_age_counts(tmp_path: Path) -> None:
    install(tmp_path, "v1", "v2", "v3")
    assert versions.prune(opened(None, tmp_path), "mf", [], keep=1) == ["v2", "v1"]
    assert left(tmp_path) == ["v3"]
    assert versions.prune(opened(None, tmp_path), "sw", [], keep=1) == []


def test_what_a_killed_process_left_half_deleted_goes_the_next_time(tmp_path: Path) -> None:
    install(tmp_path, "v1", "v2")
    (tmp_path / "artifacts" / "mf" / "v1").rename(tmp_path / "artifacts" / "mf" / ".pruned-v1")
    assert [one.manifest.version for one in versions.installed(opened(None, tmp_path), "mf")] == ["v2"]
    assert versions.prune(opened(None, tmp_path), "mf", [], keep=1) == []
    assert left(tmp_path) == ["v2"]


def test_installed_are_the_readable_ones_newest_first(tmp_path: Path) -> None:
    where = tmp_path / "artifacts" / "mf"
    for version in ("20260101-000000-aaaaaaaa", "20260201-000000-bbbbbbbb"):
        artifacts.write(where / version, {"x": np.ones(1)}, router="mf", version=version, encoder_id="e")
    (where / "broken").mkdir()
    (where / "broken" / artifacts.MANIFEST).write_text("{}")
    (where / ".half-written").mkdir()
    found = versions.installed(opened(None, tmp_path), "mf")
    assert [one.directory.name for one in found] == ["20260201-000000-bbbbbbbb", "20260101-000000-aaaaaaaa"]
    assert versions.installed(opened(None, tmp_path), "sw") == []
