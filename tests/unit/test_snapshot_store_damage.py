"""A stored snapshot that does not verify stops the replica: nothing of it is used, nor an older one."""

from __future__ import annotations

import random
import struct
import zlib

import pytest
from snapshot_helpers import FOLDER, SEED, new_disk, open_store, small, write

from raftcoord.consensus.snapshot_file import HEADER_BYTES
from raftcoord.consensus.snapshot_store import SnapshotDamaged
from raftcoord.testing.simulation.faulty_disk import FaultyDisk, FaultyFile


def damaged_disk(contents: dict[str, bytes]) -> FaultyDisk:
    disk = new_disk()
    disk.put(contents)
    return disk


def test_every_flipped_bit_is_found() -> None:
    disk = new_disk()
    meta = write(open_store(disk), 7, 2, small(7))
    good = disk.contents()[meta.path]
    rng = random.Random(SEED)
    for offset in range(len(good)):
        data = bytearray(good)
        data[offset] ^= 1 << rng.randrange(8)
        broken = damaged_disk({meta.path: bytes(data)})
        with pytest.raises(SnapshotDamaged, match="replace this replica"):
            open_store(broken)
        assert broken.contents() == {meta.path: bytes(data)}, f"byte {offset}, seed {SEED}"


def test_every_other_length_is_found() -> None:
    disk = new_disk()
    meta = write(open_store(disk), 7, 2, small(7))
    good = disk.contents()[meta.path]
    for data in (*(good[:length] for length in range(len(good))), good + b"\0", good + good):
        with pytest.raises(SnapshotDamaged):
            open_store(damaged_disk({meta.path: data}))


def test_chunks_of_another_order_or_number_are_found() -> None:
    disk = new_disk()
    meta = write(open_store(disk), 7, 2, [b"aaaa", b"bbbb", b"cccc"])
    good = disk.contents()[meta.path]
    start, size = HEADER_BYTES, 12
    head, chunks, footer = good[:start], good[start : start + 3 * size], good[start + 3 * size :]
    assert chunks[8:12] == b"aaaa"
    a, b, c = chunks[:size], chunks[size : 2 * size], chunks[2 * size :]
    for patched in (a + c + b, a + b, a + b + c + c, b""):
        with pytest.raises(SnapshotDamaged, match="footer"):
            open_store(damaged_disk({meta.path: head + patched + footer}))


def test_a_length_is_bounded_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = new_disk()
    meta = write(open_store(disk), 7, 2, [b"aaaa"])
    data = bytearray(disk.contents()[meta.path])
    lengths = []
    pread = FaultyFile.pread

    def recording(file: FaultyFile, length: int, offset: int) -> bytes:
        lengths.append(length)
        return pread(file, length, offset)

    monkeypatch.setattr(FaultyFile, "pread", recording)
    for length in (50_000_000, 0xFFFFFFFF):
        struct.pack_into("<I", data, HEADER_BYTES, length)
        with pytest.raises(SnapshotDamaged, match="does not fit"):
            open_store(damaged_disk({meta.path: bytes(data)}))
    assert max(lengths) < 1_000_000


@pytest.mark.parametrize(
    ("offset", "field", "complaint"),
    [(0, b"somefile", "no snapshot file"), (8, b"\2\0\0\0", "version 2")],
)
def test_other_kinds_and_versions_are_refused(offset: int, field: bytes, complaint: str) -> None:
    disk = new_disk()
    meta = write(open_store(disk), 7, 2, small(7))
    data = bytearray(disk.contents()[meta.path])
    data[offset : offset + len(field)] = field
    struct.pack_into("<I", data, HEADER_BYTES - 4, zlib.crc32(data[: HEADER_BYTES - 4]))
    with pytest.raises(SnapshotDamaged, match=complaint):
        open_store(damaged_disk({meta.path: bytes(data)}))


def test_an_older_one_is_no_substitute() -> None:
    disk = new_disk()
    store = open_store(disk)
    older = write(store, 5, slices=small(5))
    kept = disk.contents()[older.path]
    newer = write(store, 8, slices=small(8))
    broken = disk.contents()[newer.path][:-1] + b"?"
    both = damaged_disk({older.path: kept, newer.path: broken})
    with pytest.raises(SnapshotDamaged, match=newer.path):
        open_store(both)
    assert len(both.files) == 2


def test_a_file_under_another_ones_name_is_found() -> None:
    disk = new_disk()
    meta = write(open_store(disk), 7, 2, small(7))
    other = meta.path.replace("7-", "8-")
    with pytest.raises(SnapshotDamaged, match="header says"):
        open_store(damaged_disk({other: disk.contents()[meta.path]}))


def test_damage_that_comes_later_is_found_by_reading() -> None:
    disk = new_disk()
    store = open_store(disk)
    meta = write(store, 7)
    disk.files[meta.path].current[-500] ^= 1
    with pytest.raises(SnapshotDamaged):
        list(store.read())


def test_unfinished_and_foreign_files_do_no_harm() -> None:
    disk = damaged_disk({f"{FOLDER}/write-1.tmp": b"half", f"{FOLDER}/notes.snap": b"?"})
    assert open_store(disk).latest is None
    assert list(disk.files) == [f"{FOLDER}/notes.snap"]
