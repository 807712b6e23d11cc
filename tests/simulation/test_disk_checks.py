"""What is left in the files of a replica that has recovered."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from little_replicas import rejects

from raftcoord.testing.simulation.disk_checks import check_ends
from raftcoord.testing.simulation.faulty_disk import FaultyDisk

PATH = "/data/journal/1.log"
PROMISE = "a torn tail is cut"


def _disk(contents: bytes) -> FaultyDisk:
    disk = FaultyDisk()
    disk.make_directory(str(PurePosixPath(PATH).parent))
    disk.put({PATH: contents})
    return disk


def test_zeros_are_nothing() -> None:
    check_ends("r1", _disk(b"batch" + bytes(100)), {PATH: 5})
    check_ends("r1", _disk(b"batch"), {PATH: 5})


def test_only_the_files_that_are_named_are_looked_at() -> None:
    check_ends("r1", _disk(b"batch"), {})


@pytest.mark.parametrize("at", [5, 6, 50, 99])
def test_a_byte_behind_the_end_is_seen(at: int) -> None:
    contents = bytearray(b"batch" + bytes(95))
    contents[at] = 1
    rejects(PROMISE, check_ends, "r1", _disk(bytes(contents)), {PATH: 5})


def test_what_is_cut_must_be_cut_durably() -> None:
    disk = _disk(b"batch" + b"torn" + bytes(91))
    file = disk.open(PATH)
    file.pwrite(bytes(4), 5)
    rejects(PROMISE, check_ends, "r1", disk, {PATH: 5})
    file.sync()
    check_ends("r1", disk, {PATH: 5})
