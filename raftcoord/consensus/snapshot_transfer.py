"""Snapshot files on their way out and in, and the errors of everything that handles snapshots.

Invariants:
  1. A transfer under way keeps its file: a newer snapshot may replace it on disk meanwhile.
  2. A receiver takes bytes only in order, and never more than were announced. It judges nothing.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final

from raftcoord.consensus.interface import FatalError
from raftcoord.consensus.journal_errors import os_error_text
from raftcoord.runtime import Disk, File

SNAPSHOT_BYTES_MAX: Final = 1 << 40  # a receiver that is told of more takes nothing


class SnapshotDamaged(FatalError):
    """A snapshot does not verify. When it is one that was received, the stored one is untouched."""


class SnapshotFailed(FatalError):
    """A snapshot could not be written, read or taken in; the stored one is untouched."""


def snapshot_failed(doing: str, path: str, error: Exception) -> SnapshotFailed:
    """Return the error for a disk that refused, or for a state machine that could not be written."""
    text = os_error_text(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    return SnapshotFailed(f"snapshot failed: {doing} {path}: {text}")


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """A durable snapshot: the last entry that it covers, and its file."""

    index: int
    term: int
    size_bytes: int
    path: str


class SnapshotReader:
    """A snapshot file held open for sending it as it is."""

    __slots__ = ("_file", "_meta")

    def __init__(self, file: File, meta: SnapshotMeta) -> None:
        self._file = file
        self._meta = meta

    def __repr__(self) -> str:
        return f"<SnapshotReader {self._meta!r}>"

    @property
    def index(self) -> int:
        return self._meta.index

    @property
    def term(self) -> int:
        return self._meta.term

    @property
    def size_bytes(self) -> int:
        return self._meta.size_bytes

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`; fewer only at the end. Raises SnapshotFailed."""
        try:
            return self._file.pread(length, offset)
        except OSError as error:
            raise snapshot_failed("reading", self._meta.path, error) from error

    def close(self) -> None:
        self._file.close()


class SnapshotReceiver:
    """A snapshot file that comes in piece by piece, under a temporary name.

    Raises:
        OSError: the file cannot be made.
    """

    __slots__ = ("_disk", "_file", "index", "path", "received_bytes", "size_bytes", "term")

    def __init__(self, *, disk: Disk, path: str, index: int, term: int, size_bytes: int) -> None:
        self._disk = disk
        self._file: File | None = disk.open(path, create=True)
        self.path = path
        self.index = index
        self.term = term
        self.size_bytes = size_bytes
        self.received_bytes = 0

    def __repr__(self) -> str:
        state = "closed" if self._file is None else f"{self.received_bytes}/{self.size_bytes}"
        return f"<SnapshotReceiver index={self.index} term={self.term} {state}>"

    @property
    def complete(self) -> bool:
        """Whether all bytes are here; nothing of them is verified yet."""
        return self._file is not None and self.received_bytes == self.size_bytes

    @property
    def file(self) -> File | None:
        """The file; None once it was discarded or installed."""
        return self._file

    def add(self, offset: int, data: bytes) -> bool:
        """Take the bytes at `offset`; False if they are not the next ones, or more than announced.

        Raises:
            SnapshotFailed: the disk refused; what was received is discarded.
        """
        end = offset + len(data)
        if self._file is None or offset != self.received_bytes:
            return False
        if end > self.size_bytes or self.size_bytes > SNAPSHOT_BYTES_MAX:
            return False
        try:
            self._file.pwrite(data, offset)
        except OSError as error:
            self.discard()
            raise snapshot_failed("receiving", self.path, error) from error
        self.received_bytes = end
        return True

    def discard(self) -> None:
        """Give up and remove the file, unless that was done or it was installed."""
        file, self._file = self._file, None
        if file is None:
            return
        file.close()
        with contextlib.suppress(OSError):  # a file that stays is removed when the store is opened next
            if self._disk.exists(self.path):
                self._disk.remove(self.path)
