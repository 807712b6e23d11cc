"""A torn tail is cut; every other damage stops the replica, and leaves the files as they are.

The journal under test has three files: two full ones and the last, each with several batches.
"""

from __future__ import annotations

import errno
import random
import re
import struct
import zlib

import pytest

from raftcoord.consensus.interface import FatalError
from raftcoord.consensus.journal import Journal, JournalDamaged, JournalFailed
from raftcoord.testing.simulation.faulty_disk import FaultyDisk

FOLDER = "/data/journal"
HEADER_BYTES = 4096
RECORD_BYTES = 21
SEED = 20_240_601


def open_journal(disk: FaultyDisk, snapshot: tuple[int, int] | None = None) -> Journal:
    return Journal.open(disk=disk, directory=FOLDER, segment_bytes=8192, snapshot=snapshot)


def path_of(number: int) -> str:
    return f"{FOLDER}/{number:020d}.log"


def state(journal: Journal) -> tuple[list[tuple[bytes, int, int]], int, str | None]:
    return journal[:], journal.getCurrentTerm(), journal.getVotedForNodeId()


class Scene:
    """A journal with `ends[number]`: where the batches of each file end, in order."""

    def __init__(self) -> None:
        self.disk = FaultyDisk()
        self.disk.make_directory(FOLDER)
        journal = open_journal(self.disk)
        journal.setCurrentTerm(2, "b")
        self.states = [state(journal)]
        self.ends: dict[int, list[int]] = {}
        for index in range(1, 13):
            size = 950 if index <= 8 else 40
            journal.add(bytes([index]) * size, index, 2)
            journal.sync()
            self.states.append(state(journal))
            found = re.search(r"active=<Segment (\d+) (\d+)/", repr(journal))
            assert found is not None
            self.ends.setdefault(int(found[1]), []).append(int(found[2]))
        self.contents = self.disk.contents()
        assert sorted(self.ends) == [1, 2, 3]

    def changed(self, path: str, change: dict[int, int]) -> FaultyDisk:
        """Return a disk with some bytes of a file replaced."""
        data = bytearray(self.contents[path])
        for offset, value in change.items():
            data[offset] = value
        disk = FaultyDisk()
        disk.put({**self.contents, path: bytes(data)})
        return disk

    def with_files(self, contents: dict[str, bytes]) -> FaultyDisk:
        disk = FaultyDisk()
        disk.make_directory(FOLDER)
        disk.put(contents)
        return disk


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


def assert_damaged(disk: FaultyDisk, what: str, snapshot: tuple[int, int] | None = None) -> None:
    before = disk.contents()
    with pytest.raises(JournalDamaged) as raised:
        open_journal(disk, snapshot)
    assert "replace this replica" in str(raised.value)
    assert re.search(what, str(raised.value)), raised.value
    assert disk.contents() == before


def assert_usable(disk: FaultyDisk, expected: object) -> None:
    """Open with this state, append where the tail was cut, and find only that after a power failure."""
    journal = open_journal(disk)
    assert state(journal) == expected
    journal.add(b"new", journal.last_index + 1, 3)
    journal.sync()
    after = state(journal)
    disk.lose_power(random.Random(SEED))
    assert state(open_journal(disk)) == after


def test_the_last_batch_torn_at_every_byte(scene: Scene) -> None:
    start, end = scene.ends[3][-2:]
    for length in range(end - start):
        torn = dict.fromkeys(range(start + length, end), 0)
        assert_usable(scene.changed(path_of(3), torn), scene.states[-2])
    assert_usable(scene.changed(path_of(3), {}), scene.states[-1])


def test_the_last_batch_with_any_part_missing(scene: Scene) -> None:
    start, end = scene.ends[3][-2:]
    data = scene.contents[path_of(3)]
    for first in range(start, end, 3):
        for last in (first + 1, first + 2, (first + end) // 2, end):
            hole = {offset: 0 for offset in range(first, min(last, end)) if data[offset]}
            if hole:
                assert_usable(scene.changed(path_of(3), hole), scene.states[-2])


def test_the_first_batch_of_a_file_torn(scene: Scene) -> None:
    contents = {path: data for path, data in scene.contents.items() if path != path_of(3)}
    third = scene.contents[path_of(3)]
    end = scene.ends[3][0]
    expected = scene.states[len(scene.ends[1]) + len(scene.ends[2])]
    for length in (0, 1, 30, end - HEADER_BYTES - 1):
        torn = third[: HEADER_BYTES + length].ljust(len(third), b"\0")
        assert_usable(scene.with_files({**contents, path_of(3): torn}), expected)


def test_a_file_that_a_torn_batch_began_to_fill_is_blank_again(scene: Scene) -> None:
    third = scene.contents[path_of(3)]
    torn = third[:HEADER_BYTES].ljust(len(third) - 1, b"\0") + b"t"
    disk = scene.with_files({**scene.contents, path_of(3): torn})
    journal = open_journal(disk)
    for index in range(journal.last_index + 1, journal.last_index + 7):
        journal.add(b"v" * 900, index, 2)
        journal.sync()
    expected = state(journal)
    assert path_of(4) in disk.files
    disk.kill()
    assert state(open_journal(disk)) == expected


def test_a_flipped_bit_in_what_was_synced_is_damage(scene: Scene) -> None:
    """All bytes of all headers and of all batches but the last one."""
    rng = random.Random(SEED)
    for number, ends in scene.ends.items():
        data = scene.contents[path_of(number)]
        stop = ends[-1] if number < 3 else ends[-2]
        for offset in range(0, stop, 1 if number == 3 else 7):
            disk = scene.changed(path_of(number), {offset: data[offset] ^ 1 << rng.randrange(8)})
            before = disk.contents()
            try:
                journal = open_journal(disk)
            except JournalDamaged as error:
                complaint = "" if path_of(number) in str(error) else f"wrong file named: {error}"
            else:
                complaint = f"opened as {journal!r}"
            assert not complaint, f"byte {offset} of file {number}, seed {SEED}: {complaint}"
            assert disk.contents() == before


def test_a_flipped_bit_in_the_last_batch_cuts_it(scene: Scene) -> None:
    rng = random.Random(SEED)
    start, end = scene.ends[3][-2:]
    data = scene.contents[path_of(3)]
    for offset in range(start, end):
        disk = scene.changed(path_of(3), {offset: data[offset] ^ 1 << rng.randrange(8)})
        assert_usable(disk, scene.states[-2])


def test_a_lost_page_at_the_end_of_a_full_file_is_damage_there(scene: Scene) -> None:
    start, end = scene.ends[1][-2:]
    disk = scene.changed(path_of(1), dict.fromkeys(range(start, end), 0))
    assert_damaged(disk, rf"{path_of(1)} at byte {start}: batch \d+ does not verify")


def test_a_lost_write_under_later_ones_is_damage() -> None:
    """A disk that dropped one write, so that an older batch, whole in itself, shows in its place."""
    histories = []
    for sizes in ((100, 100, 10), (224 + RECORD_BYTES, 10)):
        disk = FaultyDisk()
        disk.make_directory(FOLDER)
        journal = open_journal(disk)
        for index, size in enumerate(sizes, start=1):
            journal.add(b"x" * size, index, 1)
            journal.sync()
        histories.append(disk.contents()[path_of(1)])
    start = HEADER_BYTES + 2 * (24 + RECORD_BYTES + 100) + RECORD_BYTES
    assert histories[0][start : start + 4] == histories[1][start : start + 4] != b"\0\0\0\0"
    disk.put({path_of(1): histories[0][:start] + histories[1][start:]})
    assert_damaged(disk, "batch 3 does not verify, but batch 2")


def test_bytes_behind_the_batches_of_a_full_file_are_damage(scene: Scene) -> None:
    assert_damaged(scene.changed(path_of(2), {8191: 1}), "belong to no batch")


def test_bytes_behind_the_last_batch_are_cut(scene: Scene) -> None:
    disk = scene.changed(path_of(3), {8191: 1, 7000: 9})
    assert state(open_journal(disk)) == scene.states[-1]
    assert disk.contents() == scene.contents


def test_the_last_two_batches_lost_together_look_like_one_torn_write(scene: Scene) -> None:
    """The limit of what one replica can know: nothing behind the loss proves that there was a sync."""
    start, end = scene.ends[3][-3], scene.ends[3][-1]
    disk = scene.changed(path_of(3), dict.fromkeys(range(start, end), 0))
    assert_usable(disk, scene.states[-3])


@pytest.mark.parametrize(
    ("missing", "what"),
    [
        ([2], "file is missing"),
        ([1], "log begins at"),
        ([1, 2], "log begins at"),
    ],
)
def test_a_missing_file_is_damage(scene: Scene, missing: list[int], what: str) -> None:
    gone = [path_of(number) for number in missing]
    contents = {path: data for path, data in scene.contents.items() if path not in gone}
    assert_damaged(scene.with_files(contents), what)
    assert_damaged(scene.with_files(contents), what, (2, 2))


def test_a_file_of_another_length_is_damage(scene: Scene) -> None:
    data = scene.contents[path_of(3)]
    for other in (b"", data[:100], data[:HEADER_BYTES], data[:-1], data + b"\0"):
        assert_damaged(scene.with_files({**scene.contents, path_of(3): other}), r"bytes")


def test_a_file_under_another_number_is_damage(scene: Scene) -> None:
    swapped = {**scene.contents, path_of(1): scene.contents[path_of(2)]}
    assert_damaged(scene.with_files(swapped), "says that this is file 2")


def test_a_file_of_blanks_where_older_ones_were_removed_is_damage(scene: Scene) -> None:
    third = scene.contents[path_of(3)]
    blank = third[:HEADER_BYTES].ljust(len(third), b"\0")
    assert_damaged(scene.with_files({path_of(3): blank}), "no batch verifies", (8, 2))


def test_a_newer_format_is_refused(scene: Scene) -> None:
    page = bytearray(scene.contents[path_of(3)][: HEADER_BYTES - 4])
    struct.pack_into("<I", page, 8, 99)
    data = bytes(page) + struct.pack("<I", zlib.crc32(page)) + scene.contents[path_of(3)][HEADER_BYTES:]
    assert_damaged(scene.with_files({**scene.contents, path_of(3): data}), "format version 99")


def test_a_batch_inside_a_value_is_not_taken_for_one() -> None:
    """A value that is a copy of the journal's own bytes, in a batch that is torn behind it."""
    disk = FaultyDisk()
    disk.make_directory(FOLDER)
    journal = open_journal(disk)
    for index in range(1, 4):
        journal.add(b"x", index, 1)
        journal.sync()
    expected = state(journal)
    copy = disk.contents()[path_of(1)][HEADER_BYTES : HEADER_BYTES + 300]
    journal.add(copy + b"end", 4, 1)
    journal.sync()
    data = disk.contents()[path_of(1)]
    torn = data[: data.rindex(b"end")].ljust(len(data), b"\0")
    disk.put({path_of(1): torn})
    assert_usable(disk, expected)


def test_leftovers_of_a_torn_batch_never_come_back() -> None:
    """Cut, append a shorter batch in its place, tear that one too: the first one's end must not show."""
    disk = FaultyDisk()
    disk.make_directory(FOLDER)
    journal = open_journal(disk)
    journal.add(b"kept", 1, 1)
    journal.sync()
    expected = state(journal)
    for size in (2000, 900, 300, 40):
        journal.add(b"t" * size, 2, 1)
        before = disk.contents()[path_of(1)]
        journal.sync()
        written = disk.contents()[path_of(1)]
        start = next(i for i in range(HEADER_BYTES, len(before)) if before[i] != written[i])
        disk.put({path_of(1): written[:start] + b"\0" + written[start + 1 :]})
        journal = open_journal(disk)
        assert state(journal) == expected
        assert disk.contents()[path_of(1)] == before


def test_unfinished_and_foreign_names_do_no_harm(scene: Scene) -> None:
    extra = {path_of(4) + ".tmp": b"half", f"{FOLDER}/notes.txt": b"?", f"{FOLDER}/7.log": b"?"}
    disk = scene.with_files({**scene.contents, **extra})
    assert state(open_journal(disk)) == scene.states[-1]
    assert path_of(4) + ".tmp" not in disk.files


def test_a_failed_sync_stops_the_journal_for_good() -> None:
    disk = FaultyDisk()
    disk.make_directory(FOLDER)
    journal = open_journal(disk)
    journal.add(b"kept", 1, 1)
    journal.sync()
    journal.add(b"doubtful", 2, 1)
    disk.fail_with(errno.EIO, kind="sync")
    with pytest.raises(JournalFailed, match=r"EIO.*check the disk") as first:
        journal.sync()
    assert isinstance(first.value, FatalError)
    changes = (journal.sync, lambda: journal.add(b"", 3, 1), lambda: journal.setCurrentTerm(9, None))
    for change in changes:
        with pytest.raises(JournalFailed, match="EIO"):
            change()


def test_what_a_failed_sync_left_readable_is_durable_once_it_was_recovered() -> None:
    """After a failed sync the system takes its pages for clean: they can be read, and are not on disk."""
    disk = FaultyDisk()
    disk.make_directory(FOLDER)
    journal = open_journal(disk)
    journal.add(b"kept", 1, 1)
    journal.sync()
    journal.add(b"doubtful", 2, 1)
    disk.fail_with(errno.EIO, kind="sync")
    with pytest.raises(JournalFailed):
        journal.sync()
    disk.kill()
    recovered = state(open_journal(disk))
    assert len(recovered[0]) == 2
    disk.lose_power(random.Random(SEED))
    assert state(open_journal(disk)) == recovered


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_anything_never_loses_what_was_synced(number: int) -> None:
    """Fail every single disk operation of a run in turn; restart, with and without a power failure."""
    for after in range(200):
        disk = FaultyDisk()
        disk.make_directory(FOLDER)
        synced: object = None
        disk.fail_with(number, after=after)
        try:
            journal = open_journal(disk)
            synced = state(journal)
            for index in range(1, 15):
                journal.add(b"v" * 900, index, 1)
                journal.sync()
                synced = state(journal)
                if index % 3 == 0:
                    journal.prepare_segment()
            journal.compact_to(13)
            journal.collect_garbage()
        except JournalFailed as error:
            text = str(error)
            if errno.errorcode[number] not in text or (number == errno.ENOSPC and "free space" not in text):
                pytest.fail(f"unclear: {text}")
            if synced is not None:
                with pytest.raises(JournalFailed):
                    journal.sync()
        else:
            break
        disk.heal()
        if after % 2:
            disk.kill()
        else:
            disk.lose_power(random.Random(after))
        was_compacted = path_of(1) not in disk.files
        recovered = open_journal(disk, (13, 1) if synced and was_compacted else None)
        if synced is not None:
            entries = recovered[:]
            kept = [entry for entry in synced[0] if entry[1] >= recovered.first_index]  # type: ignore[index]
            assert entries[: len(kept)] == kept, f"operation {after}"
            assert len(entries) <= len(kept) + 1, f"operation {after}"
    else:
        pytest.fail("the run never came to its end")


def test_a_full_disk_leaves_no_unfinished_file_behind() -> None:
    disk = FaultyDisk()
    disk.make_directory(FOLDER)
    disk.capacity_bytes = 3 * 8192 + 5000
    journal = open_journal(disk)

    def fill() -> None:
        for index in range(1, 100):
            journal.add(b"v" * 900, index, 1)
            journal.sync()

    with pytest.raises(JournalFailed, match=r"No space left on device \(ENOSPC\); free space"):
        fill()
    last_index = journal.last_index - 1
    assert disk.list_directory(FOLDER) == [f"{number:020d}.log" for number in (1, 2, 3)]
    disk.kill()
    assert open_journal(disk).last_index == last_index
