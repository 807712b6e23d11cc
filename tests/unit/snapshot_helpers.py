"""What the tests of snapshots share: a disk, a store on it, and small states."""

from __future__ import annotations

import asyncio

from raftcoord.consensus.snapshot_store import SnapshotMeta, SnapshotStore
from raftcoord.testing.simulation.faulty_disk import FaultyDisk

FOLDER = "/data/snapshots"
SEED = 20_240_601
SLICES = [b"first", b"x" * 100_000, b"", b"y" * 300_000, b"last"]


def new_disk() -> FaultyDisk:
    disk = FaultyDisk()
    disk.make_directory(FOLDER)
    return disk


def open_store(disk: FaultyDisk) -> SnapshotStore:
    return SnapshotStore.open(disk=disk, directory=FOLDER)


def write(store: SnapshotStore, index: int, term: int = 1, slices: list[bytes] | None = None) -> SnapshotMeta:
    return asyncio.run(store.write(index, term, iter(SLICES if slices is None else slices)))


def small(index: int) -> list[bytes]:
    """Return the slices of a small state that tells its index."""
    return [b"state of ", b"%d" % index, b"." * (index % 7)]
