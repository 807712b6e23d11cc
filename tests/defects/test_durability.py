"""What was acknowledged is on the disk, whole, and is found there again or refused loudly."""

from __future__ import annotations

import errno
import os
import random
import struct
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from harness import STOCK_LEAVES_FILES_OPEN, Kind, both, judge, our, stock, world
from ours import OurReplica, WorstCase
from pysyncobj.journal import FileJournal
from stock import PerfectJournal
from world import World, body_of, kind_of, lost

from raftcoord.consensus.journal import Journal, JournalDamaged, JournalFailed
from raftcoord.runtime import RealDisk
from raftcoord.testing.simulation.faulty_disk import FaultyDisk, PowerFailure

pytestmark = STOCK_LEAVES_FILES_OPEN

FOLDER = "/journal"


def open_journal(disk: FaultyDisk, *, snapshot: tuple[int, int] | None = None) -> Journal:
    return Journal.open(disk=disk, directory=FOLDER, segment_bytes=8192, snapshot=snapshot)


def filled(count: int, *, command: bytes = b"x" * 50) -> tuple[FaultyDisk, Journal]:
    disk = FaultyDisk()
    disk.make_directory(FOLDER)
    journal = open_journal(disk)
    for index in range(1, count + 1):
        journal.add(command, index, 1)
        if index % 10 == 0:
            journal.sync()
    journal.sync()
    return disk, journal


def test_02a_a_kill_inside_compaction_empties_the_stock_journal(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    journal = FileJournal(path)
    for index in range(1, 1001):
        journal.add(b"x" * 50, index, 1)
    added, add = 0, journal.add

    def killed(*entry: Any) -> None:
        nonlocal added
        added += 1
        if added > 10:
            raise KeyboardInterrupt
        add(*entry)

    journal.add = killed
    with pytest.raises(KeyboardInterrupt):
        journal.deleteEntriesTo(500)
    assert FileJournal(path)[-1][1] < 600


def test_02a_compaction_can_be_interrupted_anywhere() -> None:
    for after in range(60):
        rng = random.Random(after)
        disk, journal = filled(1000)
        disk.fail(PowerFailure(), after=after)
        try:
            journal.compact_to(500)
            journal.sync()
            journal.collect_garbage()
        except PowerFailure:
            pass
        disk.lose_power(rng)
        recovered = open_journal(disk, snapshot=(600, 1))
        assert recovered.last_index == 1000, f"interrupted at operation {after}, seed {after}"


def count_syncs_of_process(patch: pytest.MonkeyPatch) -> list[str]:
    """Note every call by which this process could make the stock library's files durable."""
    calls: list[str] = []
    for name in ("fsync", "fdatasync", "sync"):
        patch.setattr(os, name, lambda *_, name=name: calls.append(name))
    from pysyncobj.journal import ResizableFile

    patch.setattr(ResizableFile, "flush", lambda _: calls.append("flush"))
    return calls


@both
def test_02b_nothing_is_acknowledged_and_no_vote_given_without_a_sync(kind: Kind, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        calls = count_syncs_of_process(patch)
        with world(kind, tmp_path, stock={"journal": "file"}) as running:

            def syncs(name: str) -> int:
                if kind is Kind.STOCK:
                    return len(calls)
                return sum(what == "sync" for what, _ in our(running[name]).disk.operations)

            before = {name: syncs(name) for name in "ABC"}
            running.candidacy("A", "ABC")
            running.deliver("A", "B")
            problems = [] if syncs("B") > before["B"] and syncs("A") > before["A"] else ["vote without sync"]
            running.deliver_all()
            running.settle(0.5)
            before = {name: syncs(name) for name in "ABC"}
            (write,) = running.write("A", b"value")
            running.settle(0.5)
            assert write.is_acked
            synced = sum(syncs(name) > before[name] for name in "ABC")
            judge(kind, problems + ([] if synced >= 2 else [f"acknowledged with {synced} syncs"]))


class WatchedJournal(PerfectJournal):
    """A journal with a call that makes it durable, and a note of how far that was used."""

    def __init__(self) -> None:
        super().__init__()
        self.durable_index = 1

    def flush(self) -> None:
        self.durable_index = self[-1][1]


def durable_index(world: World, name: str) -> int:
    """Return how much of a replica's log a power cut at this moment would leave."""
    replica = world[name]
    if isinstance(replica, OurReplica):
        copy = deepcopy(replica.disk)
        copy.lose_power(WorstCase())
        directory = replica.parts.folder.journal_directory
        return Journal.open(disk=copy, directory=directory, segment_bytes=1 << 16, snapshot=None).last_index
    watched = stock(replica)._perfect
    assert isinstance(watched, WatchedJournal)
    return watched.durable_index


@both
def test_08_an_answer_leaves_only_after_the_entry_is_durable(kind: Kind, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stock.PerfectJournal", WatchedJournal)
        with world(kind, tmp_path) as running:
            problems: list[str] = []

            def look(sender: str, _receiver: str, message: dict[str, Any]) -> bool:
                body = body_of(message)
                if kind_of(message) == "next_node_idx" and body["success"]:
                    durable = durable_index(running, sender)
                    if durable < body["next_node_idx"] - 1:
                        problems.append(f"{body['next_node_idx'] - 1} answered, {durable} durable")
                return True

            running.elect("A")
            running.on_send = look
            (write,) = running.write("A", b"value")
            running.settle(0.5)
            assert write.is_acked
            if durable_index(running, "A") < running["A"].commit_index:
                problems.append("the leader counted itself before its own entry was durable")
            judge(kind, problems)


@both
def test_08_acknowledged_writes_survive_the_power_loss_of_all(kind: Kind, tmp_path: Path) -> None:
    """With the stock library, all that was never synced is lost: here, the whole journal."""
    with world(kind, tmp_path, stock={"journal": "file"}) as running:
        running.elect("A")
        writes = running.write("A", *(b"value %d" % number for number in range(20)))
        running.settle(1)
        assert all(write.is_acked for write in writes)
        for name in "ABC":
            running.crash(name, power=False)
            if kind is Kind.STOCK:
                Path(stock(running[name]).journal_path).unlink()
        for name in "ABC":
            running.restart(name)
        running.join()
        running.elect("B")
        running.settle(1)
        judge(kind, lost(writes, *(running[name] for name in "ABC")))


def test_02c_the_stock_journal_ends_at_4_gib(tmp_path: Path) -> None:
    journal = FileJournal(str(tmp_path / "journal"))
    journal._FileJournal__currentOffset = 2**32 - 50

    class Header:
        def write(self, _offset: int, _data: bytes) -> None:
            """Keep nothing: only the offset matters here."""

    journal._FileJournal__journalFile = Header()
    with pytest.raises(struct.error):
        journal.add(b"x" * 40, 1, 1)
    assert len(journal) == 1, "held in memory, and not on the disk"


def test_02c_the_journal_has_no_end_and_indexes_have_64_bits() -> None:
    disk, journal = filled(0)
    journal.reset_to(2**40, 7)
    for offset in range(1, 400):
        journal.add(b"x" * 500, 2**40 + offset, 7)
        journal.sync()
    assert journal.log_bytes > 20 * 8192, "many times what one file holds"
    disk.kill()
    recovered = open_journal(disk, snapshot=(2**40, 7))
    assert recovered.last_index == 2**40 + 399


def test_02d_the_stock_journal_reads_a_flipped_bit_as_data(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = FileJournal(str(path))
    for index in range(1, 200):
        journal.add(b"amount=100;" + b"p" * 40, index, 1)
    journal._destroy()
    data = bytearray(path.read_bytes())
    data[data.find(b"amount=100") + 7] ^= 0x08
    path.write_bytes(data)
    assert FileJournal(str(path))[0][0].startswith(b"amount=900")
    data[4096:8192] = bytes(4096)
    path.write_bytes(data)
    with pytest.raises(struct.error):
        FileJournal(str(path))


def test_02d_damage_is_refused_with_advice() -> None:
    disk, journal = filled(200, command=b"amount=100;" + b"p" * 40)
    journal.close()
    contents = disk.contents()
    path = sorted(contents)[0]
    flipped = bytearray(contents[path])
    flipped[flipped.find(b"amount=100") + 7] ^= 0x08
    lost_page = contents[path][:4096] + bytes(4096)
    for damage in (bytes(flipped), lost_page):
        disk.put({**contents, path: damage})
        with pytest.raises(JournalDamaged, match="replace this replica by a new member"):
            open_journal(disk)


def unallocated_bytes(path: Path) -> int:
    """Return how much of a file is a promise without blocks behind it."""
    stat = path.stat()
    return max(stat.st_size - 512 * stat.st_blocks, 0)


def test_02f_the_stock_journal_writes_through_a_mapping_without_space_behind_it(tmp_path: Path) -> None:
    """Writing there when the disk is full is a SIGBUS: the process dies, and nothing can be caught."""
    path = tmp_path / "journal"
    journal = FileJournal(str(path))
    for index in range(1, 4):
        journal.add(b"x" * 600_000, index, 1)
    assert unallocated_bytes(path) > 400_000
    journal._destroy()


def test_02f_the_journal_has_its_space_before_it_uses_it(tmp_path: Path) -> None:
    journal = Journal.open(disk=RealDisk(), directory=str(tmp_path), segment_bytes=1 << 20, snapshot=None)
    (path,) = tmp_path.glob("*.log")
    assert path.stat().st_size == 1 << 20
    assert unallocated_bytes(path) == 0
    journal.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("operation", ["pwrite", "sync"])
def test_02f_a_full_or_failing_disk_stops_the_replica_and_acknowledges_nothing(
    number: int, operation: str, tmp_path: Path
) -> None:
    with world(Kind.OURS, tmp_path) as running:
        running.elect("A")
        our(running["A"]).disk.fail_with(number, kind=operation)
        writes = running.write("A", b"value")
        running.settle(0.5)
        (failure,) = our(running["A"]).failures
        assert isinstance(failure, JournalFailed)
        assert errno.errorcode[number] in str(failure)
        writes += running.write("A", b"later")
        running.settle(0.5)
        assert not any(write.is_acked for write in writes)
        assert all(len(write.answers) == 1 for write in writes)
        running.elect("B", "BC")
        (write,) = running.write("B", b"elsewhere")
        running.settle(0.5, "BC")
        assert write.is_acked


def tail_lost_by_all(world: World, kind: Kind) -> list[str]:
    """All replicas lose the end of their journals, but not what they remember of the commit index."""
    world.elect("A")
    world.settle(0.3)
    older = {name: world[name].disk_state() for name in "ABC"}
    world.write("A", *(b"value %d" % number for number in range(50)))
    world.settle(3)
    for name in "ABC":
        world.crash(name)
        if kind is Kind.OURS:
            world[name].set_disk_state(older[name])
        else:
            journal = FileJournal(stock(world[name]).journal_path)
            journal.deleteEntriesFrom(2)
            journal._destroy()
    for name in "ABC":
        world.restart(name)
    world.join()
    world.elect("A")
    world.isolate("A")
    writes = world.write("A", *(b"new %d" % number for number in range(10)))
    for _ in range(2):
        world.run("A")
    return [f"{write.value!r} was acknowledged by one of three" for write in writes if write.is_acked]


@both
def test_02g_nothing_beyond_the_log_counts_as_committed(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path, stock={"journal": "file"}) as running:
        judge(kind, tail_lost_by_all(running, kind))
