"""Where versions lie: in a folder that replicas share, or behind a URL, with copies on each machine."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import msgspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from feedback import retrain, versions
from scorer import artifacts, hosting
from scorer.artifacts import MANIFEST, TENSORS, ArtifactError
from scorer.commands.shared import in_store
from scorer.config import Config, ConfigError
from scorer.sections import RouterConfig
from scorer.shelf import ObjectStore, Shelf, opened
from tests.scorer.conftest import TWO
from tests.scorer.lives import configuration, lived, retrained, weak_fails_at_proofs

V1, V2, V3 = (f"2026010{day}-000000-{day}aaaaaaa" for day in (1, 2, 3))


@pytest.fixture(params=["memory", "local"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An object store of two kinds: a dictionary, and real files."""
    if request.param == "local":
        yield f"local://{tmp_path}/store"
        return
    yield "memory://bucket/routerd"
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def replica(tmp_path: Path, url: str, name: str) -> Shelf:
    return opened(url, tmp_path / name)


def fitted(shelf: Shelf, *names: str, value: float = 1.0) -> None:
    """Written in their places, not yet published."""
    for version in names:
        tensors = {"x": np.full(3, value)}
        artifacts.write(shelf.place("mf", version), tensors, router="mf", version=version, encoder_id="e")


def published(shelf: Shelf, *names: str) -> None:
    fitted(shelf, *names)
    for version in names:
        shelf.publish("mf", version)


def stored(url: str) -> list[str]:
    """All objects, by their paths in the store."""
    files, root = fsspec.core.url_to_fs(url)
    return sorted(path.removeprefix(root).lstrip("/") for path in files.find(root))


def test_a_version_reaches_the_other_replica_to_the_last_bit(tmp_path: Path, url: str) -> None:
    ours, theirs = replica(tmp_path, url, "a"), replica(tmp_path, url, "b")
    fitted(ours, V1)
    assert theirs.find("mf", V1) is None
    assert theirs.manifests("mf") == {}
    ours.publish("mf", V1)
    found = theirs.find("mf", V1)
    assert found == (tmp_path / "b" / "copies" / "mf" / V1)
    for name in (MANIFEST, TENSORS):
        assert (found / name).read_bytes() == (ours.place("mf", V1) / name).read_bytes()
    assert list(theirs.manifests("mf")) == [V1]
    assert artifacts.read(found, router="mf", encoder_id="e")[1]["x"].tolist() == [1.0, 1.0, 1.0]


def test_what_was_copied_is_found_without_the_store(tmp_path: Path) -> None:
    url = f"local://{tmp_path}/store"
    published(replica(tmp_path, url, "a"), V1)
    theirs = replica(tmp_path, url, "b")
    theirs.find("mf", V1)
    shutil.rmtree(tmp_path / "store")
    assert theirs.find("mf", V1) == theirs.place("mf", V1)


@pytest.mark.parametrize("fails_at", [TENSORS, MANIFEST])
def test_an_upload_that_fails_half_way_leaves_nothing_to_see(
    tmp_path: Path, url: str, fails_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a file, of which the first bytes are there."""
    ours = replica(tmp_path, url, "a")
    published(ours, V1)
    fitted(ours, V2)
    files = type(fsspec.core.url_to_fs(url)[0])
    whole = files.put_file

    def put_file(self: fsspec.AbstractFileSystem, local: str, remote: str, **more: object) -> None:
        if remote.endswith(fails_at):
            self.pipe_file(remote, Path(local).read_bytes()[:20])
            raise OSError("the network is gone")
        whole(self, local, remote, **more)

    monkeypatch.setattr(files, "put_file", put_file)
    with pytest.raises(ArtifactError, match=rf"^{url}/mf/{V2}: the network is gone$"):
        ours.publish("mf", V2)
    assert stored(url) == [f"mf/{V1}/{MANIFEST}", f"mf/{V1}/{TENSORS}"]
    theirs = replica(tmp_path, url, "b")
    assert list(theirs.manifests("mf")) == [V1]
    assert theirs.find("mf", V2) is None


def test_an_uploader_that_was_killed_leaves_no_version_and_is_tidied_up(tmp_path: Path, url: str) -> None:
    ours = replica(tmp_path, url, "a")
    published(ours, V2)
    files, root = fsspec.core.url_to_fs(url)
    for version in (V1, V3):  # killed long ago, and at work right now
        files.makedirs(f"{root}/mf/{version}", exist_ok=True)
        files.pipe_file(f"{root}/mf/{version}/{TENSORS}", b"half")
    assert list(ours.manifests("mf")) == [V2]
    assert ours.find("mf", V1) is None
    assert versions.prune(ours, "mf", [], keep=1) == []
    assert stored(url) == [f"mf/{V2}/{MANIFEST}", f"mf/{V2}/{TENSORS}", f"mf/{V3}/{TENSORS}"]


@pytest.mark.parametrize("name", [TENSORS, MANIFEST])
def test_a_corrupted_object_is_refused_in_one_line(tmp_path: Path, url: str, name: str) -> None:
    published(replica(tmp_path, url, "a"), V1)
    files, root = fsspec.core.url_to_fs(url)
    blob = bytearray(files.cat_file(f"{root}/mf/{V1}/{name}"))
    blob[-4] ^= 1 if name == TENSORS else 4
    files.pipe_file(f"{root}/mf/{V1}/{name}", bytes(blob))
    theirs = replica(tmp_path, url, "b")
    with pytest.raises(ArtifactError) as refused:
        theirs.find("mf", V1)
    told = str(refused.value)
    assert told.startswith(f"{url}/mf/{V1}/{name}: ")
    assert "\n" not in told
    assert not theirs.place("mf", V1).exists()


def test_an_object_that_is_missing_is_told(tmp_path: Path, url: str) -> None:
    published(replica(tmp_path, url, "a"), V1)
    files, root = fsspec.core.url_to_fs(url)
    files.rm_file(f"{root}/mf/{V1}/{TENSORS}")
    with pytest.raises(ArtifactError, match=f"^{url}/mf/{V1}/{TENSORS}: "):
        replica(tmp_path, url, "b").find("mf", V1)


def test_a_store_that_does_not_answer_loses_no_version(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(replica(tmp_path, url, "a"), V1, V2, V3)
    files, _ = fsspec.core.url_to_fs(url)
    read = type(files).cat_file

    def cat_file(self: fsspec.AbstractFileSystem, path: str, *rest: object, **more: object) -> bytes:
        if V1 in path:
            raise TimeoutError("503, slow down")
        blob: bytes = read(self, path, *rest, **more)
        return blob

    other = replica(tmp_path, url, "b")
    monkeypatch.setattr(type(files), "cat_file", cat_file)
    with pytest.raises(ArtifactError, match="503, slow down"):
        other.tidy("mf")
    monkeypatch.undo()
    assert sorted(other.manifests("mf")) == [V1, V2, V3]


def test_a_deletion_that_broke_off_is_finished_where_nobody_writes(tmp_path: Path, url: str) -> None:
    ours = replica(tmp_path, url, "a")
    published(ours, V1)
    files, root = fsspec.core.url_to_fs(url)
    files.rm_file(f"{root}/mf/{V1}/{MANIFEST}")
    ours.tidy("mf")
    assert files.exists(f"{root}/mf/{V1}/{TENSORS}")
    ours.tidy("mf", alone=True)
    assert not files.exists(f"{root}/mf/{V1}/{TENSORS}")


def test_a_copy_that_is_half_deleted_is_made_anew(tmp_path: Path, url: str) -> None:
    published(replica(tmp_path, url, "a"), V1)
    theirs = replica(tmp_path, url, "b")
    copy = theirs.find("mf", V1)
    assert copy is not None
    (copy / MANIFEST).unlink()
    assert theirs.find("mf", V1) == copy
    assert (copy / MANIFEST).exists()


def test_a_copy_that_a_disk_has_spoilt_is_fetched_again(tmp_path: Path, url: str) -> None:
    published(replica(tmp_path, url, "a"), V1)
    theirs = replica(tmp_path, url, "b")
    copy = theirs.find("mf", V1)
    assert copy
    whole = (copy / TENSORS).read_bytes()
    (copy / TENSORS).write_bytes(whole[:-1])
    assert theirs.find("mf", V1) == copy
    assert (copy / TENSORS).read_bytes() == whole


def test_pruning_and_listing_are_of_the_store(tmp_path: Path, url: str) -> None:
    ours, theirs = replica(tmp_path, url, "a"), replica(tmp_path, url, "b")
    published(ours, V1, V2)
    published(theirs, V3)
    for shelf in (ours, theirs):
        assert [one.manifest.version for one in versions.installed(shelf, "mf")] == [V3, V2, V1]
    assert theirs.find("mf", V1)
    assert versions.prune(ours, "mf", [], keep=1) == [V2, V1]
    assert [one.manifest.version for one in versions.installed(theirs, "mf")] == [V3]
    assert {path.name for path in ours.folder.glob("mf/*")} == set()
    assert stored(url) == [f"mf/{V3}/{MANIFEST}", f"mf/{V3}/{TENSORS}"]


def test_copies_of_what_others_have_deleted_go_after_an_hour(tmp_path: Path, url: str) -> None:
    """Not at once: what is being uploaded is not in the store either."""
    ours, theirs = replica(tmp_path, url, "a"), replica(tmp_path, url, "b")
    published(ours, V1, V2)
    theirs.find("mf", V1)
    theirs.find("mf", V2)
    ours.drop("mf", V1)
    theirs.forget("mf")
    assert {path.name for path in theirs.folder.glob("mf/*")} == {V1, V2}
    for version in (V1, V2):
        os.utime(theirs.place("mf", version), (time.time() - 3700,) * 2)
    theirs.forget("mf")
    assert {path.name for path in theirs.folder.glob("mf/*")} == {V2}


def test_a_name_that_leaves_the_shelf_is_no_version(tmp_path: Path, url: str) -> None:
    published(replica(tmp_path, url, "a"), V1)
    for shelf in (replica(tmp_path, url, "b"), opened(None, tmp_path)):
        assert shelf.find("mf", f"../mf/{V1}") is None
        assert shelf.find("mf", "..") is None


@pytest.mark.parametrize("form", ["{folder}", "file://{folder}"])
def test_a_folder_that_is_mounted_elsewhere_is_used_in_place(tmp_path: Path, form: str) -> None:
    """Two replicas have the same folder at different paths."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "mounted").symlink_to(tmp_path / "shared")
    ours = opened(form.format(folder=tmp_path / "shared"), tmp_path / "a")
    theirs = opened(form.format(folder=tmp_path / "mounted"), tmp_path / "b")
    published(ours, V1)
    assert type(ours) is Shelf
    found = theirs.find("mf", V1)
    assert found
    assert found.resolve() == tmp_path / "shared" / "mf" / V1
    assert not (tmp_path / "b").exists()


def test_the_default_lies_in_the_data_directory_and_needs_no_fsspec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    shelf = opened(None, tmp_path)
    published(shelf, V1)
    assert shelf.find("mf", V1) == tmp_path / "artifacts" / "mf" / V1
    with pytest.raises(ModuleNotFoundError, match="fsspec"):
        opened("s3://bucket/routerd", tmp_path)


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("nosuch://bucket/x", "artifacts: nosuch://bucket/x: Protocol not known: nosuch"),
        ("s3://bucket/routerd", "artifacts: s3://bucket/routerd: Install s3fs to access S3"),
        ("file://srv/shared", "artifacts: 'file://srv/shared' is not an absolute path: file:///srv/shared"),
        ("nosuch://me:secret@host/x", "artifacts: nosuch://***@host/x: Protocol not known: nosuch"),
    ],
)
def test_what_is_no_place_for_artifacts_is_told_in_one_line(tmp_path: Path, where: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        opened(where, tmp_path)
    assert str(refused.value) == told


def test_a_version_is_located_by_its_name_wherever_it_was_activated(tmp_path: Path, url: str) -> None:
    """On the shelf; else the configured artifact; else where it was activated, which other machines lack."""
    config = Config(ladder=TWO, data_dir=tmp_path / "b", artifacts=url)
    published(opened(url, tmp_path / "a"), V1)
    elsewhere = "/srv/another-machine/artifacts/mf/x"
    assert hosting.located(config, "mf", V1, elsewhere) == tmp_path / "b" / "copies" / "mf" / V1
    configured = hosting.configured(config)["mf"]
    assert hosting.located(config, "mf", configured.manifest.version, elsewhere) == configured.directory
    (tmp_path / "by-hand").mkdir()
    assert hosting.located(config, "mf", V2, str(tmp_path / "by-hand")) == tmp_path / "by-hand"
    with pytest.raises(ArtifactError) as refused:
        hosting.located(config, "mf", V2, elsewhere)
    assert str(refused.value) == f"mf {V2}: neither in {url} nor, on this machine, in {elsewhere}"
    local = msgspec.structs.replace(config, artifacts=None)
    with pytest.raises(ArtifactError, match="neither in"):
        hosting.located(local, "mf", V1, elsewhere)


def test_a_night_whose_version_cannot_be_stored_leaves_the_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"local://{tmp_path}/store"
    config = configuration(tmp_path, artifacts=url, routers={"mf": RouterConfig()})
    lived(config, 300, weak_fails_at_proofs)

    def put_file(self: fsspec.AbstractFileSystem, *_: object, **__: object) -> None:
        raise PermissionError("403, forbidden")

    monkeypatch.setattr(type(fsspec.core.url_to_fs(url)[0]), "put_file", put_file)
    with pytest.raises(ArtifactError, match="403, forbidden"):
        retrained(config, 1000.0)
    monkeypatch.undo()
    (run,) = in_store(config, lambda store: store.runs(retrain.JOB))
    assert run.status == "failed"
    assert run.verdict is not None
    assert run.verdict.startswith(f"ArtifactError: {url}/mf/")
    assert in_store(config, lambda store: store.active("mf")) is None
    assert not list((tmp_path / "copies" / "mf").iterdir())
    (trial,) = retrained(config, 2000.0) or []
    assert trial.published
    active = in_store(config, lambda store: store.active("mf"))
    assert active is not None
    assert list(opened(url, tmp_path / "b").manifests("mf")) == [active.version] == [trial.challenger]


def test_object_stores_keep_their_copies_apart_from_versions_of_this_machine(tmp_path: Path, url: str) -> None:
    own = opened(None, tmp_path)
    published(own, V1)
    shared = opened(url, tmp_path)
    assert isinstance(shared, ObjectStore)
    shared.tidy("mf")
    assert own.find("mf", V1)
    assert shared.find("mf", V1) is None
