"""A host with a disk, and the real journal and snapshot store on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from little_world import finish, new_process, pass_time

from raftcoord.consensus.journal import Journal
from raftcoord.consensus.snapshot_store import SnapshotMeta, SnapshotStore
from raftcoord.testing.simulation.bit_rot import JOURNAL, SNAPSHOTS
from raftcoord.testing.simulation.disk import HostDisk, ProcessDisk
from raftcoord.testing.simulation.scheduler import Scheduler, stream

SEGMENT_BYTES = 8192

_T = TypeVar("_T")


class Host:
    """One host; `disk` is its disk as its present process sees it."""

    def __init__(self, seed: int = 1, *, sync_s: float = 0.01) -> None:
        self.scheduler = Scheduler()
        self.host_disk = HostDisk(stream(seed, "disk"), sync_s=sync_s)
        self.store = self.host_disk.store
        self.rng = stream(seed, "power")
        self.store.folders |= {"/data", JOURNAL, SNAPSHOTS}
        self.start()

    def start(self) -> None:
        """Put a new process on the host."""
        self.process = new_process(self.scheduler)
        self.disk = ProcessDisk(self.host_disk, self.process)

    def restart(self, *, power: bool = False) -> None:
        """Kill the process, or take the power from the host, and start it again."""
        self.process.kill()
        if power:
            self.store.lose_power(self.rng)
        else:
            self.store.kill()
        self.start()

    def run(self, function: Callable[[], _T]) -> _T:
        """Call something inside the process."""

        async def work() -> _T:
            return function()

        return finish(self.process, work())

    def took(self, function: Callable[[], object]) -> float:
        """Return how many seconds something blocks the process, in the world's time."""

        async def work() -> float:
            before_s = self.process.now
            function()
            return self.process.now - before_s

        took_s = finish(self.process, work())
        pass_time(self.scheduler, 60)
        return took_s

    def open_journal(self, snapshot: tuple[int, int] | None = None) -> Journal:
        """Open the journal as the engine does."""
        return Journal.open(disk=self.disk, directory=JOURNAL, segment_bytes=SEGMENT_BYTES, snapshot=snapshot)

    def open_snapshots(self) -> SnapshotStore:
        """Open the snapshot store as the engine does."""
        return SnapshotStore.open(disk=self.disk, directory=SNAPSHOTS)

    def write_snapshot(self, store: SnapshotStore, index: int, state: bytes = b"state") -> SnapshotMeta:
        """Write a snapshot that ends with an entry of term 1."""
        return finish(self.process, store.write(index, 1, iter([state])))


def fill(journal: Journal, first: int, last: int, *, size: int = 700) -> None:
    """Add entries of term 1 and sync each of them."""
    for index in range(first, last + 1):
        journal.add(bytes([index % 256]) * size, index, 1)
        journal.sync()
