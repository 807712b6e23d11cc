"""Files and folders, with durability made explicit.

Invariants:
  1. Nothing is durable before `File.sync` (contents) and `Disk.sync_directory` (names) returned.
  2. Every failure is an OSError; nothing is retried here. After a failed sync the state of the file is
     unknown, so callers stop rather than try again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Protocol, TypeVar

_T = TypeVar("_T")


class File(Protocol):
    """An open file."""

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Write all of `data` at `offset` (bytes)."""

    def pread(self, length: int, offset: int) -> bytes:
        """Read up to `length` bytes at `offset`; short only at the end of the file."""

    def sync(self) -> None:
        """Return when everything written so far is on stable storage (fdatasync)."""

    def size(self) -> int: ...

    def truncate(self, size: int) -> None: ...

    def close(self) -> None: ...


class Disk(Protocol):
    """A file system."""

    def open(self, path: str, *, create: bool = False) -> File:
        """Open for reading and writing; with `create` make a new empty file or truncate an old one."""

    def exists(self, path: str) -> bool: ...

    def list_directory(self, path: str) -> list[str]:
        """Return the names in a folder, sorted."""

    def make_directory(self, path: str) -> None:
        """Create a folder and its parents; an existing one is fine."""

    def remove(self, path: str) -> None: ...

    def rename(self, source: str, target: str) -> None:
        """Replace `target` by `source` atomically."""

    def sync_directory(self, path: str) -> None:
        """Make created, renamed and removed names in a folder durable."""

    def lock(self, path: str) -> File:
        """Take an exclusive lock on a file until it is closed. Raises BlockingIOError when taken."""

    async def run(self, function: Callable[[], _T]) -> _T:
        """Run blocking disk work without stopping the event loop; work runs in the order given."""


class RealFile:
    """A file descriptor of the operating system."""

    __slots__ = ("_descriptor", "_path")

    def __init__(self, path: str, flags: int) -> None:
        self._path = path
        self._descriptor = os.open(path, flags | os.O_CLOEXEC, 0o640)

    def __repr__(self) -> str:
        return f"<RealFile {self._path!r} fd={self._descriptor}>"

    def fileno(self) -> int:
        return self._descriptor

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        written = os.pwrite(self._descriptor, data, offset)
        if written == len(data):
            return
        view = memoryview(data)
        while written < len(view):
            written += os.pwrite(self._descriptor, view[written:], offset + written)

    def pread(self, length: int, offset: int) -> bytes:
        data = os.pread(self._descriptor, length, offset)
        if len(data) == length or not data:
            return data
        parts = [data]
        done = len(data)
        while done < length:
            part = os.pread(self._descriptor, length - done, offset + done)
            if not part:
                break
            parts.append(part)
            done += len(part)
        return b"".join(parts)

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class RealDisk:
    """The file system of this machine."""

    __slots__ = ("_order",)

    def __init__(self) -> None:
        self._order: asyncio.Lock | None = None

    def __repr__(self) -> str:
        return "<RealDisk>"

    def open(self, path: str, *, create: bool = False) -> RealFile:
        return RealFile(path, os.O_RDWR | (os.O_CREAT | os.O_TRUNC if create else 0))

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def list_directory(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def make_directory(self, path: str) -> None:
        os.makedirs(path, mode=0o750, exist_ok=True)

    def remove(self, path: str) -> None:
        os.unlink(path)

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)

    def sync_directory(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, path: str) -> RealFile:
        import fcntl

        file = RealFile(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise
        return file

    async def run(self, function: Callable[[], _T]) -> _T:
        if self._order is None:
            self._order = asyncio.Lock()
        async with self._order:  # asyncio locks are fair, so work keeps its order
            return await asyncio.get_running_loop().run_in_executor(None, function)
