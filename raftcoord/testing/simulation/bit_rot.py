"""Flipping a bit where a promise covers it: in a snapshot, or in a journal anywhere but in its last batch.

(The last batch cannot be told from one that was never finished; docs/guarantees.md says so.)
"""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass

from raftcoord.consensus.segment import HEADER_BYTES, StoredSegment, segment_number
from raftcoord.runtime import Disk
from raftcoord.testing.simulation.faulty_disk import FaultyDisk

JOURNAL = "/data/journal"
SNAPSHOTS = "/data/snapshots"


@dataclass(frozen=True, slots=True)
class Rot:
    """A byte of a file that one of its bits turns into another one."""

    path: str
    offset: int
    good: int
    bad: int

    def begin(self, disk: FaultyDisk) -> None:
        """Flip the bit."""
        self._put(disk, self.bad)

    def repair(self, disk: FaultyDisk) -> None:
        """Flip it back."""
        self._put(disk, self.good)

    def is_there(self, disk: FaultyDisk) -> bool:
        """Whether the bit is flipped: a loss of power may have brought an older version of it back."""
        inode = disk.files.get(self.path)
        return inode is not None and inode.current[self.offset : self.offset + 1] == bytes((self.bad,))

    def _put(self, disk: FaultyDisk, value: int) -> None:
        inode = disk.files.get(self.path)
        for data in (inode.current, inode.durable) if inode is not None else ():
            if self.offset < len(data):
                data[self.offset] = value


def find_rot(disk: FaultyDisk, what: str, rng: random.Random) -> Rot | None:
    """Choose a bit of a "journal" or "snapshot"; None when there is nothing that could rot."""
    places = _journal_places(disk) if what == "journal" else _snapshot_places(disk)
    if not places:
        return None
    path, start, stop = rng.choice(places)
    offset = rng.randrange(start, stop)
    good = disk.files[path].current[offset]
    return Rot(path, offset, good, good ^ (1 << rng.randrange(8)))


def _snapshot_places(disk: FaultyDisk) -> list[tuple[str, int, int]]:
    names = sorted(path for path in disk.files if path.startswith(SNAPSHOTS) and path.endswith(".snap"))
    return [(names[-1], 0, len(disk.files[names[-1]].current))] if names else []


def _journal_places(disk: FaultyDisk) -> list[tuple[str, int, int]]:
    as_disk: Disk = disk
    batches: list[tuple[str, int, int]] = []
    for path in sorted(path for path in disk.files if path.startswith(JOURNAL)):
        number = segment_number(path.rpartition("/")[2])
        if number is None:
            continue
        with contextlib.closing(StoredSegment(disk=as_disk, directory=JOURNAL, number=number)) as stored:
            offset = HEADER_BYTES
            while (batch := stored.batch_at(offset)) is not None:
                batches.append((path, offset, batch[2]))
                offset = batch[2]
    return batches[:-1]
