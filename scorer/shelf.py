"""The shelf: where fitted versions lie that every replica loads, each under `<router>/<version>`.

A folder is read and written in place: this machine's own, or one that every replica has mounted. Any other URL that
fsspec knows is an object store, of which a replica keeps copies in a folder of its own. A version is in there once its
manifest is: uploaded last, deleted first.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scorer import artifacts
from scorer.artifacts import MANIFEST, ArtifactError, Manifest
from scorer.config import ConfigError

_PRUNED = ".pruned-"  # what a version's directory is renamed to before it is deleted
_UPLOADED_SECONDS = 3600.0  # after which what was fitted here is in the store, or never will be


class Shelf:
    """A folder of versions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def place(self, router: str, version: str) -> Path:
        """Where a version lies on this machine, or would."""
        return self.folder / router / version

    def publish(self, router: str, version: str) -> None:
        """Lets everyone see what was written in its place. Raises ArtifactError, and then nobody sees any of it."""

    def find(self, router: str, version: str) -> Path | None:
        """A version's directory on this machine; None: there is no such version. Raises ArtifactError."""
        place = self.place(router, version)
        return place if place.name == version and (place / MANIFEST).exists() else None

    def manifests(self, router: str) -> dict[str, Manifest]:
        """Of the readable versions; what cannot be read is no version. Raises ArtifactError."""
        found = {}
        for name in self._listed(router):
            with contextlib.suppress(ArtifactError):
                found[name] = artifacts.read_manifest(self.place(router, name))
        return found

    def drop(self, router: str, version: str) -> None:
        """Deletes a version; whoever has it loaded goes on with it. Raises ArtifactError."""
        place = self.place(router, version)
        renamed = place.with_name(f"{_PRUNED}{version}")
        try:
            place.rename(renamed)  # whole or not there at all, for whoever reads meanwhile
        except OSError as error:
            raise ArtifactError(f"{place}: not deleted: {error.strerror or error}") from None
        shutil.rmtree(renamed, ignore_errors=True)

    def tidy(self, router: str, alone: bool = False) -> None:
        """Deletes what killed processes have left half deleted or half written; alone: nobody is writing any version
        now. Raises ArtifactError."""
        for left in (self.folder / router).glob(f"{_PRUNED}*"):
            shutil.rmtree(left, ignore_errors=True)

    def forget(self, router: str) -> None:
        """Deletes this machine's copies of what is no longer there: nothing is a copy here. Raises ArtifactError."""

    def _listed(self, router: str) -> list[str]:
        return [path.parent.name for path in (self.folder / router).glob(f"[!.]*/{MANIFEST}")]


class ObjectStore(Shelf):
    """Versions behind a URL that fsspec knows, with copies in a folder."""

    def __init__(self, copies: Path, url: str) -> None:
        """Raises ConfigError where fsspec knows no such URL; it is not asked for anything yet."""
        from fsspec.core import url_to_fs

        super().__init__(copies)
        self._shown = re.sub(r"//[^/@]*@", "//***@", url.rstrip("/"))  # without a password
        try:
            self._files, root = url_to_fs(url)
        except Exception as error:
            raise ConfigError(f"artifacts: {self._shown}: {_said(error)}") from None
        self._root = root.rstrip("/")
        self._read: dict[tuple[str, str], Manifest] = {}  # versions never change

    def __str__(self) -> str:
        return self._shown

    def publish(self, router: str, version: str) -> None:
        place = self.place(router, version)
        target = self._path(router, version)
        with self._failures(router, version):
            self._files.makedirs(target, exist_ok=True)
            try:
                for name in (*artifacts.read_manifest(place).files, MANIFEST):
                    self._files.put_file(str(place / name), f"{target}/{name}")
            except Exception:
                with contextlib.suppress(Exception):  # what it fails at, too, is no version
                    self._files.rm(target, recursive=True)
                shutil.rmtree(place, ignore_errors=True)  # a copy of nothing
                raise

    def find(self, router: str, version: str) -> Path | None:
        copy = super().find(router, version)
        if copy:
            try:
                artifacts.verify(copy)
                return copy
            except ArtifactError:  # a disk's fault, for nothing else changes copies
                super().drop(router, version)
        return self._copied(router, version)

    def manifests(self, router: str) -> dict[str, Manifest]:
        found = {}
        for name in self._listed(router):
            if manifest := self._read.get((router, name)) or self._told(router, name):
                self._read[router, name] = found[name] = manifest
        return found

    def drop(self, router: str, version: str) -> None:
        with self._failures(router, version):
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(self._path(router, version, MANIFEST))
            with contextlib.suppress(FileNotFoundError):
                self._files.rm(self._path(router, version), recursive=True)
        if self.place(router, version).exists():
            super().drop(router, version)

    def tidy(self, router: str, alone: bool = False) -> None:
        whole = self.manifests(router)
        for name in self._listed(router):
            if name not in whole and (alone or name < max(whole, default="")):  # nobody is still uploading it
                self.drop(router, name)
        self.forget(router)

    def forget(self, router: str) -> None:
        super().tidy(router)
        kept = self._listed(router)
        for name in super()._listed(router):
            age = time.time() - self.place(router, name).stat().st_mtime
            if name not in kept and age > _UPLOADED_SECONDS:
                super().drop(router, name)

    def _copied(self, router: str, version: str) -> Path | None:
        """Downloaded, checked, and renamed into its place."""
        place = self.place(router, version)
        if place.name != version or not self._has(router, version):
            return None
        manifest, text = self._manifest(router, version)
        files = {}
        for name, digest in manifest.files.items():
            where = f"{self._shown}/{router}/{version}/{name}"
            files[name] = artifacts.checked(where, self._blob(router, version, name), digest)
        if super().find(router, version) is None:
            shutil.rmtree(place, ignore_errors=True)  # what a killed process has left of a copy
        try:
            artifacts.install(place, {**files, MANIFEST: text})
        except ArtifactError:
            if super().find(router, version) is None:  # else another process was quicker
                raise
        return place

    def _told(self, router: str, name: str) -> Manifest | None:
        """None: no manifest lies there, or none to be trusted. Raises ArtifactError where the store does not answer."""
        text = b""
        with self._failures(router, name), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            text = self._files.cat_file(self._path(router, name, MANIFEST))
        with contextlib.suppress(ArtifactError):
            return artifacts.parsed(f"{self._shown}/{router}/{name}/{MANIFEST}", text)
        return None

    def _manifest(self, router: str, version: str) -> tuple[Manifest, bytes]:
        text = self._blob(router, version, MANIFEST)
        return artifacts.parsed(f"{self._shown}/{router}/{version}/{MANIFEST}", text), text

    def _has(self, router: str, version: str) -> bool:
        with self._failures(router, version):
            self._files.invalidate_cache()
            found: bool = self._files.exists(self._path(router, version, MANIFEST))
            return found

    def _blob(self, router: str, version: str, name: str) -> bytes:
        with self._failures(router, version, name):
            blob: bytes = self._files.cat_file(self._path(router, version, name))
            return blob

    def _listed(self, router: str) -> list[str]:
        with self._failures(router):
            self._files.invalidate_cache()  # some file systems remember what they have listed
            try:
                paths = self._files.ls(self._path(router), detail=False)
            except FileNotFoundError:
                return []
        return [path.rstrip("/").rpartition("/")[2] for path in paths]

    def _path(self, *parts: str) -> str:
        return "/".join((self._root, *parts))

    @contextlib.contextmanager
    def _failures(self, *parts: str) -> Iterator[None]:
        """Every kind of store raises errors of its own."""
        try:
            yield
        except ArtifactError:
            raise
        except Exception as error:
            raise ArtifactError(f"{'/'.join((self._shown, *parts))}: {_said(error)}") from error


def opened(where: str | None, data_dir: Path) -> Shelf:
    """The shelf that `artifacts` in the configuration names: a path or file:// URL, used in place, or any other URL
    that fsspec knows; None: `artifacts` in the data directory. Raises ConfigError."""
    if where is None:
        return Shelf((data_dir / "artifacts").resolve())
    scheme, is_url, path = where.partition("://")
    if not is_url:
        return Shelf(Path(where).expanduser().resolve())
    if scheme != "file":
        return ObjectStore((data_dir / "copies").resolve(), where)
    if not path.startswith("/"):
        raise ConfigError(f"artifacts: {where!r} is not an absolute path: file:///srv/shared")
    return Shelf(Path(path))


def _said(error: Any) -> str:
    """An error's first line."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
