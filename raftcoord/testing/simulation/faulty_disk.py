"""A file system in memory that loses, tears, fills up and fails on command.

What was written is seen at once by whoever reads, as through a system's cache, but survives a power failure
only if it was synced: `File.sync` for contents, `Disk.sync_directory` for names. Everything else is drawn
page by page and name by name, from all that a disk may have written on its own meanwhile.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

PAGE_BYTES = 512  # what a disk writes whole or not at all: a sector

_T = TypeVar("_T")


class PowerFailure(BaseException):
    """The power went off in the middle of a disk operation; nothing in the process may handle it."""


@dataclass(eq=False)
class Inode:
    """One file: what is seen, what is durable, and for each page all versions since the last sync.

    `path` is the name that it got last, also for who opened it under another one.
    """

    path: str = ""
    current: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    unsynced: dict[int, list[bytes]] = field(default_factory=dict)

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        if end > len(self.current):
            self.current.extend(bytes(end - len(self.current)))
        self.current[offset:end] = data
        for page in range(offset // PAGE_BYTES, (end + PAGE_BYTES - 1) // PAGE_BYTES):
            version = bytes(self.current[page * PAGE_BYTES : (page + 1) * PAGE_BYTES])
            self.unsynced.setdefault(page, []).append(version)

    def sync(self) -> None:
        if len(self.durable) != len(self.current):
            del self.durable[len(self.current) :]
            self.durable.extend(bytes(len(self.current) - len(self.durable)))
        for page in self.unsynced:
            start = page * PAGE_BYTES
            self.durable[start : start + PAGE_BYTES] = self.current[start : start + PAGE_BYTES]
        self.unsynced.clear()

    def lose_power(self, rng: random.Random) -> None:
        size = rng.choice((len(self.durable), len(self.current)))
        contents = bytearray(self.durable[:size]).ljust(size, b"\0")
        for page, versions in sorted(self.unsynced.items()):
            start = page * PAGE_BYTES
            before = bytes(contents[start : start + PAGE_BYTES])
            after = rng.choice([before, *versions, versions[-1]]).ljust(len(before), b"\0")
            changed = [at for at in range(len(before)) if before[at] != after[at]] or [0]
            # A tear in what stays the same would be none.
            cut = rng.choice((len(before), len(before), rng.randint(changed[0] + 1, changed[-1] + 1)))
            contents[start : start + len(before)] = after[:cut] + before[cut:]
        self.current, self.durable = contents, bytearray(contents)
        self.unsynced.clear()


@dataclass
class Change:
    """Names of one folder that change together: path to file, None for a removed name."""

    folder: str
    names: dict[str, Inode | None]


class FaultyFile:
    """An open file of a `FaultyDisk`."""

    def __init__(self, disk: FaultyDisk, path: str, inode: Inode) -> None:
        self._disk, self._path, self._inode = disk, path, inode
        self._boot = disk.boot
        self._open = True

    def _check(self) -> None:
        if not self._open or self._boot != self._disk.boot:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        self._check()
        data = bytes(data)
        try:
            self._disk.operation("pwrite", self._inode.path)
            self._disk.allocate(offset + len(data) - len(self._inode.current))
        except OSError:
            self._inode.write(data[: len(data) // 2], offset)
            raise
        except PowerFailure:
            self._inode.write(data, offset)
            raise
        self._inode.write(data, offset)
        self._disk.done("pwrite", self._inode.path)

    def pread(self, length: int, offset: int) -> bytes:
        self._check()
        return bytes(self._inode.current[offset : offset + length])

    def sync(self) -> None:
        self._check()
        try:
            self._disk.operation("sync", self._inode.path)
        except OSError:
            # As Linux does: the pages are taken for clean from now on, but never reached the disk.
            self._inode.unsynced.clear()
            raise
        self._inode.sync()
        self._disk.done("sync", self._inode.path)

    def size(self) -> int:
        self._check()
        return len(self._inode.current)

    def truncate(self, size: int) -> None:
        self._check()
        self._disk.operation("truncate", self._inode.path)
        del self._inode.current[size:]
        self._inode.current.extend(bytes(size - len(self._inode.current)))

    def close(self) -> None:
        self._open = False
        self._disk.locks.discard((self._path, self._boot))


class FaultyDisk:
    """See the module. `boot` counts restarts; files opened before the last one are dead."""

    def __init__(self) -> None:
        self.files: dict[str, Inode] = {}
        self.folders: set[str] = {"/"}
        self.locks: set[tuple[str, int]] = set()
        self.boot = 0
        self.capacity_bytes: int | None = None
        self.operations: list[tuple[str, str]] = []
        self.on_operation: Callable[[str, str], None] | None = None  # before it takes effect; kind, path
        self.on_done: Callable[[str, str], None] | None = None  # right after it did
        self._durable: dict[str, Inode] = {}
        self._changes: list[Change] = []
        self._fault: tuple[int, str | None, BaseException] | None = None

    def __repr__(self) -> str:
        return f"<FaultyDisk files={len(self.files)} boot={self.boot} operations={len(self.operations)}>"

    # Faults.

    def fail(self, error: BaseException, *, after: int = 0, kind: str | None = None) -> None:
        """Let an operation (of that kind) raise `error`, after `after` more have succeeded."""
        self._fault = (after, kind, error)

    def fail_with(self, number: int, *, after: int = 0, kind: str | None = None) -> None:
        self.fail(OSError(number, os.strerror(number)), after=after, kind=kind)

    def heal(self) -> None:
        self._fault = None
        self.capacity_bytes = None

    def kill(self) -> None:
        """End the process: open files are gone, what it wrote is still seen."""
        self.boot += 1
        self.locks.clear()
        self.heal()

    def lose_power(self, rng: random.Random) -> None:
        """End everything: what was not synced survives in whole, in parts, or not at all."""
        names = dict(self._durable)
        for change in self._changes:
            if rng.random() < 0.5:
                _apply(names, change)
        for inode in {id(inode): inode for inode in names.values()}.values():
            inode.lose_power(rng)
        self.files, self._durable = names, dict(names)
        self._changes.clear()
        self.kill()

    def contents(self) -> dict[str, bytes]:
        return {path: bytes(inode.current) for path, inode in self.files.items()}

    def put(self, contents: dict[str, bytes]) -> None:
        """Make these the only files, all durable."""
        self.files = {p: Inode(p, bytearray(data), bytearray(data)) for p, data in contents.items()}
        for path in contents:
            self.make_directory(path.rpartition("/")[0])
        self._durable = dict(self.files)
        self._changes.clear()
        self.kill()

    def operation(self, kind: str, path: str) -> None:
        self.operations.append((kind, path))
        if self.on_operation is not None:
            self.on_operation(kind, path)
        if self._fault is None:
            return
        after, wanted, error = self._fault
        if wanted in (None, kind):
            self._fault = (after - 1, wanted, error)
            if after <= 0:
                self._fault = None
                raise error

    def done(self, kind: str, path: str) -> None:
        if self.on_done is not None:
            self.on_done(kind, path)

    def allocate(self, more_bytes: int) -> None:
        if self.capacity_bytes is None or more_bytes <= 0:
            return
        used = sum(len(inode.current) for inode in self.files.values())
        if used + more_bytes > self.capacity_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # What `raftcoord.runtime.Disk` asks for.

    def open(self, path: str, *, create: bool = False) -> FaultyFile:
        if not create:
            if path not in self.files:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            return FaultyFile(self, path, self.files[path])
        self._require_folder(path)
        self.operation("create", path)
        self._change(path, {path: Inode(path)})
        file = FaultyFile(self, path, self.files[path])
        self.done("create", path)
        return file

    def exists(self, path: str) -> bool:
        return path in self.files or path in self.folders

    def list_directory(self, path: str) -> list[str]:
        self._require_folder(f"{path}/x")
        names = [p[len(path) + 1 :] for p in (*self.files, *self.folders) if p.startswith(f"{path}/")]
        return sorted(name for name in names if "/" not in name)

    def make_directory(self, path: str) -> None:
        self.operation("make_directory", path)
        while path and path not in self.folders:
            self.folders.add(path)
            path = path.rpartition("/")[0]

    def remove(self, path: str) -> None:
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self.operation("remove", path)
        self._change(path, {path: None})
        self.done("remove", path)

    def rename(self, source: str, target: str) -> None:
        self.operation("rename", f"{source} > {target}")
        inode = self.files[source]
        inode.path = target
        self._change(target, {source: None, target: inode})
        self.done("rename", f"{source} > {target}")

    def sync_directory(self, path: str) -> None:
        self.operation("sync_directory", path)
        for change in self._changes:
            if change.folder == path:
                _apply(self._durable, change)
        self._changes = [change for change in self._changes if change.folder != path]
        self.done("sync_directory", path)

    def lock(self, path: str) -> FaultyFile:
        self._require_folder(path)
        self.operation("lock", path)
        if (path, self.boot) in self.locks:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
        self.locks.add((path, self.boot))
        if path not in self.files:
            self._change(path, {path: Inode(path)})
        return FaultyFile(self, path, self.files[path])

    async def run(self, function: Callable[[], _T]) -> _T:
        await asyncio.sleep(0)
        return function()

    def _require_folder(self, path: str) -> None:
        folder = path.rpartition("/")[0]
        if folder not in self.folders:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)

    def _change(self, path: str, names: dict[str, Inode | None]) -> None:
        change = Change(path.rpartition("/")[0], names)
        _apply(self.files, change)
        self._changes.append(change)


def _apply(names: dict[str, Inode], change: Change) -> None:
    for path, inode in change.names.items():
        if inode is None:
            names.pop(path, None)
        else:
            names[path] = inode
