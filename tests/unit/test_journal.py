"""What the journal does when nothing goes wrong, and what it refuses."""

from __future__ import annotations

import threading

import pytest

from raftcoord.consensus.journal import COMMAND_BYTES_MAX, Journal, JournalDamaged, JournalFailed
from raftcoord.testing.simulation.faulty_disk import FaultyDisk

FOLDER = "/data/journal"
STUB = b"\x01"


def new_disk() -> FaultyDisk:
    disk = FaultyDisk()
    disk.make_directory(FOLDER)
    return disk


def open_journal(
    disk: FaultyDisk, snapshot: tuple[int, int] | None = None, *, segment_bytes: int = 8192
) -> Journal:
    return Journal.open(disk=disk, directory=FOLDER, segment_bytes=segment_bytes, snapshot=snapshot)


def reopen(
    disk: FaultyDisk, snapshot: tuple[int, int] | None = None, *, segment_bytes: int = 8192
) -> Journal:
    disk.kill()
    return open_journal(disk, snapshot, segment_bytes=segment_bytes)


def add(
    journal: Journal, first: int, last: int, *, term: int = 1, size: int = 100, sync: bool = True
) -> None:
    for index in range(first, last + 1):
        journal.add(bytes([index % 256]) * size, index, term)
        if sync:
            journal.sync()


def indexes(journal: Journal) -> list[int]:
    return [index for _, index, _ in journal[:]]


def segments(disk: FaultyDisk) -> list[int]:
    return [int(name.removesuffix(".log")) for name in disk.list_directory(FOLDER)]


def test_a_new_journal_is_empty() -> None:
    journal = open_journal(new_disk())
    assert (len(journal), journal.last_index, journal.log_bytes) == (0, 0, 0)
    assert (journal.getCurrentTerm(), journal.getVotedForNodeId(), journal.getRaftCommitIndex()) == (
        0,
        None,
        1,
    )
    assert not journal.dirty
    assert journal.sync() is False


def test_what_was_synced_is_there_after_a_restart() -> None:
    disk = new_disk()
    journal = open_journal(disk)
    journal.setCurrentTerm(7, "b")
    journal.add(b"one", 1, 6)
    journal.add(b"", 2, 7)
    assert [journal.dirty, journal.sync(), journal.dirty] == [True, True, False]
    journal.add(b"never synced", 3, 7)

    journal = reopen(disk)
    assert journal[:] == [(b"one", 1, 6), (b"", 2, 7)]
    assert (journal[0], journal[-1][1], len(journal), journal.log_bytes) == ((b"one", 1, 6), 2, 2, 3)
    assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (7, "b")
    journal.setCurrentTerm(8, None)
    journal.sync()
    assert (reopen(disk).getCurrentTerm(), reopen(disk).getVotedForNodeId()) == (8, None)


def test_one_sync_is_one_write_and_one_sync() -> None:
    disk = new_disk()
    journal = open_journal(disk)
    add(journal, 1, 1)
    disk.operations.clear()
    add(journal, 2, 9, sync=False)
    journal.setCurrentTerm(2, "a")
    journal.deleteEntriesFrom(5)
    journal.sync()
    assert [kind for kind, _ in disk.operations] == ["pwrite", "sync"]


def test_truncation_survives_and_is_overwritten() -> None:
    disk = new_disk()
    journal = open_journal(disk)
    add(journal, 1, 10)
    journal.deleteEntriesFrom(6)
    assert journal.log_bytes == 600
    add(journal, 7, 8, term=2)
    journal.deleteEntriesFrom(99)
    assert not journal.dirty
    assert [entry[1:] for entry in reopen(disk)[5:]] == [(6, 1), (7, 2), (8, 2)]


def test_an_entry_must_follow_the_last_one() -> None:
    journal = open_journal(new_disk())
    add(journal, 1, 2)
    for index in (2, 4):
        with pytest.raises(ValueError, match="cannot follow"):
            journal.add(b"", index, 1)
    assert indexes(journal) == [1, 2]
    assert not journal.dirty


def test_what_the_format_cannot_hold_is_refused() -> None:
    journal = open_journal(new_disk())
    with pytest.raises(ValueError, match="can be stored"):
        journal.add(bytes(COMMAND_BYTES_MAX + 1), 1, 1)
    with pytest.raises(ValueError, match="vote"):
        journal.setCurrentTerm(1, "x" * 2000)
    assert (journal.dirty, journal.getCurrentTerm(), len(journal)) == (False, 0, 0)


@pytest.mark.parametrize("size", [10, 700, 3900])
def test_segments_roll_and_are_read_back(size: int) -> None:
    disk = new_disk()
    journal = open_journal(disk)
    journal.setCurrentTerm(4, "c")
    add(journal, 1, 40, size=size)
    assert (len(segments(disk)) > 5) == (size > 10)
    journal = reopen(disk)
    assert indexes(journal) == list(range(1, 41))
    assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (4, "c")


@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_batch_larger_than_a_segment_gets_one_of_its_size(before: int) -> None:
    disk = new_disk()
    journal = open_journal(disk)
    add(journal, 1, before, size=900)
    journal.prepare_segment()
    add(journal, before + 1, before + 1, size=30_000)
    add(journal, before + 2, before + 9, size=900)
    assert indexes(reopen(disk)) == list(range(1, before + 10))
    assert max(len(data) for data in disk.contents().values()) > 30_000


def test_more_than_a_batch_can_hold_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftcoord.consensus.journal.BATCH_BYTES_MAX", 2500)
    disk = new_disk()
    journal = open_journal(disk)
    add(journal, 1, 30, size=1000, sync=False)
    journal.sync()
    assert "next_batch=16" in repr(journal)
    assert indexes(reopen(disk)) == list(range(1, 31))


def test_compaction_removes_whole_segments_and_keeps_the_index() -> None:
    disk = new_disk()
    journal = open_journal(disk)
    journal.setCurrentTerm(3, "a")
    add(journal, 1, 40, size=900)
    journal.compact_to(25)
    assert (journal.first_index, journal[0][1], len(journal), journal.log_bytes) == (25, 25, 16, 16 * 900)
    doomed = journal.removable_segments()
    assert doomed
    had_garbage = journal.has_garbage
    journal.collect_garbage()
    assert (had_garbage, journal.has_garbage) == (True, False)
    assert segments(disk) == list(range(len(doomed) + 1, segments(disk)[-1] + 1))
    journal.compact_to(10)
    assert journal.first_index == 25

    journal = reopen(disk, (25, 1))
    assert journal.first_index <= 25
    assert journal.last_index == 40
    assert (journal.getCurrentTerm(), journal.getVotedForNodeId(), journal.getRaftCommitIndex()) == (
        3,
        "a",
        25,
    )


def test_compaction_never_forgets_the_last_entry() -> None:
    journal = open_journal(new_disk())
    add(journal, 1, 3)
    with pytest.raises(ValueError, match="cannot forget"):
        journal.compact_to(4)
    journal.compact_to(3)
    assert indexes(journal) == [3]


def test_nothing_is_removed_before_what_replaces_it_is_synced() -> None:
    disk = new_disk()
    journal = open_journal(disk)
    add(journal, 1, 20, size=900)
    journal.reset_to(500, 3)
    assert journal.removable_segments() == ()
    journal.collect_garbage()
    assert len(segments(disk)) > 3
    journal.sync()
    journal.collect_garbage()
    assert len(segments(disk)) == 1
    assert reopen(disk, (500, 3))[:] == [(STUB, 500, 3)]


def test_compaction_of_a_log_that_is_not_synced_waits_for_the_sync() -> None:
    disk = new_disk()
    journal = open_journal(disk)
    add(journal, 1, 20, size=900)
    journal.clear()
    add(journal, 70, 72, sync=False)
    journal.compact_to(71)
    assert journal.removable_segments() == ()
    journal.sync()
    journal.collect_garbage()
    assert indexes(reopen(disk, (71, 1))) == [70, 71, 72]
    assert len(segments(disk)) == 1


@pytest.mark.parametrize("unsynced", [False, True])
def test_entries_that_were_overwritten_keep_no_file(unsynced: bool) -> None:
    disk = new_disk()
    journal = open_journal(disk)
    add(journal, 1, 8, size=900)
    assert segments(disk) == [1, 2]
    if unsynced:
        add(journal, 9, 10, size=10, sync=False)
    journal.deleteEntriesFrom(2)
    add(journal, 3, 6, size=900, term=2)
    assert segments(disk)[-1] == 3
    journal.compact_to(3)
    assert [path[-6:] for path in journal.removable_segments()] == ["01.log", "02.log"]


def test_term_and_vote_outlive_the_segment_that_they_were_written_to() -> None:
    disk = new_disk()
    journal = open_journal(disk)
    journal.setCurrentTerm(9, "replica-é")
    add(journal, 1, 60, size=900, term=9)
    journal.compact_to(59)
    journal.collect_garbage()
    assert 1 not in segments(disk)
    journal = reopen(disk, (59, 9))
    assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (9, "replica-é")


def test_the_library_may_clear_and_start_anywhere() -> None:
    disk = new_disk()
    journal = open_journal(disk)
    add(journal, 1, 5)
    journal.clear()
    journal.add(b"a", 70, 2)
    journal.add(b"b", 71, 3)
    journal.sync()
    assert reopen(disk, (71, 3))[:] == [(b"a", 70, 2), (b"b", 71, 3)]


class TestAlignment:
    """The log and the newest snapshot when the replica starts."""

    def test_a_log_that_holds_the_snapshots_entry_is_kept_whole(self) -> None:
        disk = new_disk()
        add(open_journal(disk), 1, 9, term=2)
        journal = reopen(disk, (6, 2))
        assert indexes(journal) == list(range(1, 10))
        assert journal.getRaftCommitIndex() == 6

    @pytest.mark.parametrize("snapshot", [(10, 2), (500, 2), (5, 3)])
    def test_a_log_that_ends_before_it_or_differs_is_reset_durably(self, snapshot: tuple[int, int]) -> None:
        disk = new_disk()
        journal = open_journal(disk)
        journal.setCurrentTerm(4, "b")
        add(journal, 1, 9, term=2)
        for journal in (reopen(disk, snapshot), reopen(disk, snapshot)):
            assert journal[:] == [(STUB, *snapshot)]
            assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (4, "b")
            assert not journal.dirty

    def test_a_log_that_begins_right_behind_it_is_kept(self) -> None:
        disk = new_disk()
        journal = open_journal(disk)
        journal.reset_to(50, 2)
        add(journal, 51, 55, term=2)
        journal = reopen(disk, (49, 2))
        assert indexes(journal) == list(range(49, 56))
        assert journal[0] == (STUB, 49, 2)
        journal.compact_to(52)
        add(journal, 56, 56, term=2)
        assert indexes(reopen(disk, (52, 2)))[-1] == 56

    @pytest.mark.parametrize("snapshot", [None, (1, 1), (48, 2)])
    def test_missing_entries_are_damage(self, snapshot: tuple[int, int] | None) -> None:
        disk = new_disk()
        journal = open_journal(disk)
        journal.reset_to(50, 2)
        add(journal, 51, 55, term=2)
        before = disk.contents()
        with pytest.raises(JournalDamaged, match="replace this replica"):
            reopen(disk, snapshot)
        assert disk.contents() == before

    def test_a_missing_journal_is_damage_where_there_must_be_one(self) -> None:
        with pytest.raises(JournalDamaged, match="missing"):
            open_journal(new_disk(), (5, 1))
        with pytest.raises(JournalDamaged, match="missing"):
            Journal.open(
                disk=new_disk(), directory=FOLDER, segment_bytes=8192, snapshot=None, must_exist=True
            )


class TestPreparation:
    """The next file, made while the one in use fills."""

    def test_a_prepared_file_makes_a_roll_over_free(self) -> None:
        disk = new_disk()
        journal = open_journal(disk)
        needs = [journal.needs_segment]
        add(journal, 1, 3, size=900)
        needs.append(journal.needs_segment)
        journal.prepare_segment()
        assert [*needs, journal.needs_segment] == [False, True, False]
        journal.prepare_segment()
        assert segments(disk) == [1, 2]
        disk.operations.clear()
        add(journal, 4, 6, size=900)
        assert [kind for kind, _ in disk.operations] == ["pwrite", "sync"] * 3
        assert indexes(reopen(disk)) == [1, 2, 3, 4, 5, 6]

    def test_a_prepared_file_is_found_again_after_a_restart(self) -> None:
        disk = new_disk()
        journal = open_journal(disk)
        add(journal, 1, 3, size=900)
        journal.prepare_segment()
        journal = reopen(disk)
        assert not journal.needs_segment
        disk.operations.clear()
        add(journal, 4, 6, size=900)
        assert [kind for kind, _ in disk.operations] == ["pwrite", "sync"] * 3

    def test_a_preparation_that_comes_too_late_does_nothing(self) -> None:
        disk = new_disk()
        journal = open_journal(disk)
        add(journal, 1, 5, size=900)
        assert segments(disk) == [1, 2]
        journal.prepare_segment()
        assert segments(disk) == [1, 2]

    @pytest.mark.parametrize("stop_at", ["create", "pwrite", "sync", "rename", "sync_directory"])
    def test_a_roll_over_waits_for_a_preparation_under_way(self, stop_at: str) -> None:
        disk = new_disk()
        journal = open_journal(disk)
        add(journal, 1, 3, size=900)
        reached, go_on = threading.Event(), threading.Event()
        preparation = threading.Thread(target=journal.prepare_segment)

        def on_operation(kind: str, path: str) -> None:
            if threading.current_thread() is preparation and kind == stop_at:
                reached.set()
                assert go_on.wait(10)

        disk.on_operation = on_operation
        preparation.start()
        assert reached.wait(10)
        add(journal, 4, 4, size=50)  # fits the file in use, so it does not wait
        threading.Timer(0.005, go_on.set).start()
        add(journal, 5, 12, size=900)
        preparation.join()
        assert indexes(reopen(disk)) == list(range(1, 13))

    def test_no_file_is_made_after_close(self) -> None:
        disk = new_disk()
        journal = open_journal(disk)
        add(journal, 1, 3, size=900)
        journal.close()
        journal.prepare_segment()
        assert segments(disk) == [1]


def test_a_closed_journal_refuses_changes() -> None:
    journal = open_journal(new_disk())
    add(journal, 1, 2)
    journal._destroy()
    journal.close()
    changes = [
        lambda: journal.add(b"", 3, 1),
        lambda: journal.setCurrentTerm(2, None),
        lambda: journal.deleteEntriesFrom(0),
        lambda: journal.deleteEntriesTo(1),
        journal.clear,
        journal.sync,
    ]
    for change in changes:
        with pytest.raises(JournalFailed, match="closed"):
            change()
    assert indexes(journal) == [1, 2]


@pytest.mark.parametrize("segment_bytes", [0, 8191, 1 << 31])
def test_segment_sizes_are_bounded(segment_bytes: int) -> None:
    with pytest.raises(ValueError, match="segment_bytes"):
        open_journal(new_disk(), segment_bytes=segment_bytes)
