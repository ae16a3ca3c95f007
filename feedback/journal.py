"""A journal of paid calls: a line each, on disk before its reply is used, so that no restart pays for it again."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from feedback.chat import Message, Reply
from scorer.tables import DataError


class _Line(msgspec.Struct):
    key: str
    model: str
    text: str
    tokens_in: int
    tokens_out: int
    whole: bool


class Journal:
    """One file, for one process at a time. What a crash left half-written at its end is cut off. Raises DataError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._replies: dict[str, Reply] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{path}: another run is writing to it") from None
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from None
        self._read()

    def find(self, key: str) -> Reply | None:
        return self._replies.get(key)

    def add(self, key: str, model: str, reply: Reply) -> None:
        """Returns once it is on disk. Raises DataError."""
        line = _Line(key, model, *reply)
        try:
            self._file.write(msgspec.json.encode(line) + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}") from None
        self._replies[key] = reply

    def close(self) -> None:
        self._file.close()

    def _read(self) -> None:
        self._file.seek(0)
        whole = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            try:
                known = msgspec.json.decode(line, type=_Line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise DataError(f"{self.path}, line {number}: {error}; not a journal of `routerd augment`") from None
            self._replies[known.key] = Reply(known.text, known.tokens_in, known.tokens_out, known.whole)
        self._file.truncate(whole)


def key(model: str, messages: Sequence[Message], most_tokens: int) -> str:
    """Of what is asked: SHA-256, hex."""
    asked = [model, most_tokens, [[message["role"], message["content"]] for message in messages]]
    return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()
