"""A host's disk as one process sees it: it takes time, fails on command, and is where processes die.

`FaultyDisk` says what survives; this file says how long operations take, and lets the nemesis wait for a
moment: "the second time that it renames a snapshot".

Invariants:
  1. A dead process changes nothing on the disk.
  2. Work that production runs in a thread takes its time without stopping the event loop.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from raftcoord.runtime import File
from raftcoord.testing.simulation.faulty_disk import FaultyDisk
from raftcoord.testing.simulation.process import Process

SYNCS: Final = frozenset({"sync", "sync_directory"})
OPERATION_S: Final = 3e-6
STALL_S_MAX: Final = 1.0  # of one operation, however slow the disk is
THREAD_START_S: Final = 50e-6

_T = TypeVar("_T")

# Moments at which it is worth dying, by what the disk is asked to do: operation and path.
MOMENTS: Final[dict[str, tuple[str, str]]] = {
    "journal_write": ("pwrite", r"/journal/\d+\.log$"),
    "journal_sync": ("sync", r"/journal/\d+\.log$"),
    "segment_create": ("create", r"/journal/.*\.tmp$"),
    "segment_rename": ("rename", r"/journal/.*\.log$"),
    "segment_name_sync": ("sync_directory", r"/journal$"),
    "segment_remove": ("remove", r"/journal/.*\.log$"),
    "snapshot_begin": ("create", r"/snapshots/write-.*\.tmp$"),
    "snapshot_sync": ("sync", r"/snapshots/write-.*\.tmp$"),
    "snapshot_rename": ("rename", r"/snapshots/write-.* > .*\.snap$"),
    "snapshot_name_sync": ("sync_directory", r"/snapshots$"),
    "snapshot_remove": ("remove", r"/snapshots/.*\.snap$"),
    "install_receive": ("create", r"/snapshots/receive-.*\.tmp$"),
    "install_write": ("pwrite", r"/snapshots/receive-.*\.tmp$"),
    "install_sync": ("sync", r"/snapshots/receive-.*\.tmp$"),
    "install_rename": ("rename", r"/snapshots/receive-.* > .*\.snap$"),
    "identity_rename": ("rename", r"/identity$"),
}


@dataclass(slots=True)
class Armed:
    """Something that happens at the `nth` operation of a kind on a path that matches, or right after it.

    The path of a rename is "source > target".
    """

    kind: str
    path: re.Pattern[str]
    nth: int
    action: Callable[[], None]
    after: bool

    def meets(self, kind: str, path: str) -> bool:
        """Count an operation; tell whether it is the one."""
        if kind == self.kind and self.path.search(path):
            self.nth -= 1
            return self.nth <= 0
        return False


class HostDisk:
    """The disk of a host, for all processes that run there one after the other. Durations are in seconds."""

    def __init__(self, rng: random.Random, *, sync_s: float) -> None:
        self.store = FaultyDisk()
        self.store.on_operation = self._on_operation
        self.store.on_done = self._on_done
        self.sync_s = sync_s
        self.slow_factor = 1.0
        self.process: Process | None = None
        self.operations = 0
        self._rng = rng
        self._armed: list[Armed] = []

    def __repr__(self) -> str:
        return f"<HostDisk {self.store!r} armed={len(self._armed)}>"

    def arm(self, moment: str, nth: int, action: Callable[[], None], *, after: bool = False) -> None:
        """Have `action` called at the nth operation from now that is such a moment; it may raise.

        Args:
            after: once the operation took effect, and not before it.
        """
        kind, path = MOMENTS[moment]
        self._armed.append(Armed(kind, re.compile(path), nth, action, after))

    def disarm(self) -> None:
        """Forget what was armed and has not happened, and all faults."""
        self._armed.clear()
        self.store.heal()
        self.slow_factor = 1.0

    def _on_operation(self, kind: str, path: str) -> None:
        process = self.process
        if process is None:
            return
        if not process.is_alive:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self.operations += 1
        took_s = OPERATION_S
        if kind in SYNCS:
            took_s = self.sync_s * (0.6 + 0.8 * self._rng.random())
            if self._rng.random() < 0.003:
                took_s *= 20
        process.clock.elapsed_s += min(took_s * self.slow_factor, STALL_S_MAX)
        self._spring(kind, path, after=False)

    def _on_done(self, kind: str, path: str) -> None:
        if self.process is not None:
            self._spring(kind, path, after=True)

    def _spring(self, kind: str, path: str, *, after: bool) -> None:
        for armed in self._armed:
            if armed.after == after and armed.meets(kind, path):
                self._armed.remove(armed)
                armed.action()
                break


class ProcessDisk:
    """A `raftcoord.runtime.Disk` for one process of a host."""

    def __init__(self, host_disk: HostDisk, process: Process) -> None:
        self._host_disk, self._process = host_disk, process
        self._store = host_disk.store
        self._order: asyncio.Lock | None = None
        host_disk.process = process
        process.on_kill.append(self._store.kill)  # its files are closed

    def __repr__(self) -> str:
        return f"<ProcessDisk of {self._process.name}>"

    def _check(self) -> None:
        if not self._process.is_alive:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def open(self, path: str, *, create: bool = False) -> File:
        """See `Disk.open`."""
        self._check()
        return self._store.open(path, create=create)

    def exists(self, path: str) -> bool:
        """See `Disk.exists`."""
        self._check()
        return self._store.exists(path)

    def list_directory(self, path: str) -> list[str]:
        """See `Disk.list_directory`."""
        self._check()
        return self._store.list_directory(path)

    def make_directory(self, path: str) -> None:
        """See `Disk.make_directory`."""
        self._check()
        self._store.make_directory(path)

    def remove(self, path: str) -> None:
        """See `Disk.remove`."""
        self._check()
        self._store.remove(path)

    def rename(self, source: str, target: str) -> None:
        """See `Disk.rename`."""
        self._check()
        self._store.rename(source, target)

    def sync_directory(self, path: str) -> None:
        """See `Disk.sync_directory`."""
        self._check()
        self._store.sync_directory(path)

    def lock(self, path: str) -> File:
        """See `Disk.lock`."""
        self._check()
        return self._store.lock(path)

    async def run(self, function: Callable[[], _T]) -> _T:
        """See `Disk.run`: its time passes beside the event loop's."""
        if self._order is None:
            self._order = asyncio.Lock()
        async with self._order:
            await asyncio.sleep(THREAD_START_S)
            clock = self._process.clock
            before_s = clock.elapsed_s
            try:
                result = function()
            finally:
                took_s, clock.elapsed_s = clock.elapsed_s - before_s, before_s
            await asyncio.sleep(took_s)
            return result
