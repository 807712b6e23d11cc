"""Snapshots: written, sent and installed without losing, inventing or blocking anything."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest
from harness import STOCK_LEAVES_FILES_OPEN, Kind, both, judge, our, stock, world
from pysyncobj import replicated
from stock import StockCore, StockReplica
from world import Fate, World, body_of, diverged, kind_of, lost

from raftcoord.consensus.library import Node

pytestmark = STOCK_LEAVES_FILES_OPEN

CHUNK_BYTES = 200
DUMPS = {"fullDumpFile": True, "useFork": False, "logCompactionBatchSize": CHUNK_BYTES}
CHUNKS = {"snapshot_chunk_bytes": CHUNK_BYTES}


def values(prefix: str, count: int) -> list[bytes]:
    """Return values that no compression makes smaller."""
    rng = random.Random(prefix)
    return [f"{prefix}{number:03d}".encode() + rng.randbytes(60) for number in range(count)]


def is_chunk(message: dict[str, Any]) -> bool:
    return kind_of(message) == "snapshot_chunk" or body_of(message).get("serialized") is not None


def holds_what_is_counted(world: World, leader: str, follower: str) -> list[str]:
    """Complain when the leader counts entries that the follower does not hold as the leader does."""
    match = world[leader].match_index(follower)
    terms = {index: term for _, index, term in world[follower].log}
    for _, index, term in world[leader].log:
        if index <= match and terms.get(index, term if index < min(terms) else None) != term:
            return [f"{follower} is counted for {match}, but entry {index} is another one there"]
    return []


def deposed_leader_gets_a_snapshot(world: World) -> tuple[list[str], list[Any]]:
    """A has a tail that nobody else will ever hold, and is sent a snapshot chunk by chunk."""
    world.elect("A")
    world.settle(1)
    world.isolate("A", noticed=False)
    junk = world.write("A", *values("junk", 10))
    world.run("A")
    world.elect("B", "BC")
    world.write("B", *values("good", 30))
    world.settle(1, "BC")
    world.elect("C", "BC")
    world["C"].snapshot()
    world.join("AC", "AB")
    problems = []
    for _ in range(40):
        world.advance(0.11)
        world.run("A", "B", "C")
        while world.links["C", "A"]:
            world.deliver("C", "A", 1)
            world.run("A")
            if any(value.startswith(b"junk") for value in world["A"].applied):
                problems.append("a value that no majority ever held was applied")
        world.deliver("A", "C")
        world.deliver_all("BC")
    problems += [f"{write.value!r:.10} was acknowledged" for write in junk if write.is_acked]
    return problems, world["A"].applied


@both
def test_06k_a_chunk_commits_nothing(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path, ours=CHUNKS, stock=DUMPS) as running:
        problems, applied = deposed_leader_gets_a_snapshot(running)
        if kind is Kind.OURS:
            assert applied == running["C"].applied
        judge(kind, problems)


def chunks_are_lost_in_a_reconnect(world: World) -> list[str]:
    """The connection breaks in the middle of a transfer, and two chunks are lost with it."""
    world.elect("C")
    world.settle(1)
    world.isolate("C", noticed=False)
    world.write("C", *values("junk", 60))
    world.run("C")
    world.elect("A", "AB")
    world.write("A", *values("good", 30))
    world.settle(1, "AB")
    world["A"].snapshot()
    world.join("AC")
    problems = []
    broken = False
    for _ in range(40):
        world.advance(0.11)
        world.clock.creep_s = 0.012  # a call may spend its whole period, as it does with a large snapshot
        world.run("A")
        world.clock.creep_s = 0.0
        queue = world.links["A", "C"]
        if not broken and sum(map(is_chunk, queue)) > 3:
            broken = True
            world.deliver("A", "C", len(queue) - 2)
            world.cut("AC")
            world.join("AC")
        world.deliver("A", "C")
        world.deliver("C", "A")
        problems += holds_what_is_counted(world, "A", "C")
    assert broken
    return problems


@both
def test_06c_a_torn_transfer_is_never_acknowledged(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path, ours=CHUNKS, stock=DUMPS) as running:
        judge(kind, chunks_are_lost_in_a_reconnect(running))


def stale_resets_meet_a_compacted_log(world: World) -> list[str]:
    """B's old requests to start again arrive when the leader's log begins behind them."""
    world.elect("A")
    world.settle(1)
    world.write("A", *values("early", 20))
    world.run("A")
    world.advance(0.11)
    world.run("A")
    world.cut("AB")
    world.join("AB")  # the entries are lost with the old connection
    for _ in range(4):
        world.advance(0.11)
        world.run("A")
        world.deliver("A", "C")
        world.deliver("C", "A")
    world.deliver("A", "B")
    world.deliver("B", "A", 1)
    world.advance(0.11)
    world.run("A")
    world.deliver("A", "B")
    world["A"].snapshot()
    world.cut("AC", "BC")
    writes = world.write("A", *values("late", 10))
    for _ in range(2):
        world.advance(0.11)
        world.run("A")
        world.deliver("A", "B")
    resets = 1 + max(
        (n for n, message in enumerate(world.links["B", "A"]) if body_of(message).get("reset")), default=-1
    )
    world.deliver("B", "A", resets)
    world.advance(0.11)
    world.run("A")
    world.deliver("B", "A")
    world.run("A")
    queue = list(world.links["A", "B"])
    world.deliver("A", "B", 1 + max((n for n, message in enumerate(queue) if is_chunk(message)), default=-1))
    assert all(write.is_acked for write in writes)
    world.crash("A")
    world.links["A", "B"].clear()
    world.join("BC")
    world.elect("B", "BC")
    world.settle(1, "BC")
    return lost(writes, world["B"], world["C"])


@both
def test_06e_an_older_snapshot_never_replaces_a_newer_log(kind: Kind, tmp_path: Path) -> None:
    options = {"fullDumpFile": True, "useFork": False}
    with world(kind, tmp_path, stock=options) as running:
        judge(kind, stale_resets_meet_a_compacted_log(running))


def killed_during_a_snapshot(world: World, turns: int) -> list[str]:
    """B, which alone holds the last acknowledged entries beside A, is killed while it writes a snapshot."""
    world.elect("A")
    world.settle(1)
    world.write("A", *values("early", 10))
    world.settle(1)
    world.cut("AC", "BC")
    writes = world.write("A", *values("late", 10))
    for _ in range(2):
        world.advance(0.11)
        world.run("A")
        world.deliver("A", "B")
    world.deliver("B", "A")
    world.run("A")
    assert all(write.is_acked for write in writes)
    world["B"].begin_snapshot(turns)
    world.crash("B")
    world.links["A", "B"].clear()
    world.crash("A")
    world.restart("B", "C")
    world.run("B")
    world.elect("B", "BC")
    world.settle(1, "BC")
    return lost(writes, world["B"], world["C"])


@both
@pytest.mark.parametrize("turns", [2, 4, 6, 8, 10, 14, 18, 24, 40])
def test_06a_a_kill_between_snapshot_and_compaction_loses_nothing(
    kind: Kind, turns: int, tmp_path: Path
) -> None:
    with world(kind, tmp_path, stock={**DUMPS, "journal": "file"}) as running:
        judge(kind, killed_during_a_snapshot(running, turns))


def late_work_of_a_dead_replica(world: World) -> list[str]:
    """A replica is killed while its snapshot is being written; whatever still writes goes on to the end."""
    world.elect("A")
    world.write("A", *values("early", 10))
    world.settle(0.5)
    world["A"].begin_snapshot(3)
    dump = world.folder / "A.dump"
    if dump.exists():  # as a forked child has it that has not come to the renaming yet
        dump.rename(world.folder / "orphan")
        stock(world["A"]).private("serializer")._Serializer__useFork = True
    writes = world.write("A", *values("late", 20))
    for _ in range(3):
        world.run("A")
    assert all(write.is_acked for write in writes)
    world.crash("A")
    orphan = world.folder / "orphan"
    if orphan.exists():
        orphan.rename(dump)
    world.drain(100)
    world.restart("A")
    world.elect("A")
    return lost(writes, world["A"])


@both
def test_06b_nothing_of_a_dead_replica_changes_its_folder_later(kind: Kind, tmp_path: Path) -> None:
    options = {"fullDumpFile": True, "useFork": False, "journal": "file"}
    with world(kind, tmp_path, "A", stock=options) as running:
        judge(kind, late_work_of_a_dead_replica(running))


def compacted_and_restarted(world: World) -> list[str]:
    world.elect("A")
    writes = world.write("A", *values("v", 20))
    world.settle(1)
    for name in "ABC":
        world[name].snapshot()
    assert world["A"].log[0][1] > 10
    world.restart_all()
    world.elect("A")
    writes += world.write("A", b"after")
    world.settle(3)
    assert all(write.is_acked for write in writes[:20])
    problems = lost(writes, *(world[name] for name in "ABC"))
    return problems + ([] if writes[-1].is_acked else ["nothing is acknowledged any more"])


@both
def test_06f_a_compacted_log_never_comes_without_its_snapshot(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path, stock={"journal": "file"}) as running:
        judge(kind, compacted_and_restarted(running))


def deliver_and_count_errors(world: World, seconds: float) -> int:
    errors = 0
    for _ in range(int(seconds / 0.11)):
        world.advance(0.11)
        world.run()
        for link in sorted(world.links):
            while world.links[link]:
                try:
                    world.deliver(*link, 1)
                except Exception:
                    errors += 1
    return errors


@both
def test_06g_large_entries_arrive_whole(kind: Kind, tmp_path: Path) -> None:
    """Sizes around twice the size of a batch, where the library's last piece is cut wrongly."""
    sizes = range(1930, 1990, 3) if kind is Kind.STOCK else range(2 * 2**20 - 40, 2 * 2**20, 20)
    with world(kind, tmp_path, stock={"appendEntriesBatchSizeBytes": 1000}) as running:
        running.elect("A")
        errors, writes = 0, []
        for size in sizes:
            writes += running.write("A", bytes(size))
            errors += deliver_and_count_errors(running, 0.7)
        judge(kind, ([f"{errors} messages raised"] if errors else []) + lost(writes, running["B"]))


@both
def test_06h_a_lost_piece_is_noticed(kind: Kind, tmp_path: Path) -> None:
    size = 4500 if kind is Kind.STOCK else 600_000
    with world(kind, tmp_path, stock={"appendEntriesBatchSizeBytes": 1000}) as running:
        running.elect("A")
        writes = running.write("A", *(bytes([n]) * size for n in range(1 if kind is Kind.STOCK else 5)))
        running.run("A")
        running.advance(0.11)
        running.run("A")
        assert len(running.links["A", "B"]) > 3
        del running.links["A", "B"][2]
        errors = deliver_and_count_errors(running, 1.5)
        missing = [] if running["B"].applied == running["A"].applied != [] else ["B lacks an entry"]
        assert all(write.is_acked for write in writes)
        judge(kind, ([f"{errors} messages raised"] if errors else []) + missing)


def test_06i_a_snapshot_that_fails_is_reported_by_the_engine(tmp_path: Path) -> None:
    with world(Kind.OURS, tmp_path, "A", ours={"snapshot_log_entries": 50}) as running:
        replica = our(running["A"])
        replica.state_machine.begin_snapshot = lambda: iter([cast_to_bytes(threading.Lock())])  # type: ignore[method-assign]
        running.elect("A")
        running.write("A", *values("v", 60))
        running.drain(60)
        assert [type(error).__name__ for error in replica.failures] == ["SnapshotFailed"]
        (write,) = running.write("A", b"after")
        assert write.fate is Fate.REFUSED


def test_06i_the_stock_library_says_nothing_and_its_log_grows(tmp_path: Path) -> None:
    options = {"fullDumpFile": True, "useFork": False, "logCompactionMinEntries": 50}
    with world(Kind.STOCK, tmp_path, "A", stock=options) as running:
        stock(running["A"]).core.lock = threading.Lock()
        running.elect("A")
        for value in values("v", 200):
            (write,) = running.write("A", value)
            running.run("A")
            running.run("A")
            assert write.is_acked
        assert len(running["A"].log) > 200
        assert not (tmp_path / "A.dump").exists()


def cast_to_bytes(thing: Any) -> bytes:
    """Pass off a thing that no snapshot can hold as a slice of one."""
    slice_: bytes = thing
    return slice_


class _Versioned(StockCore):
    @replicated
    def mark(self) -> None:
        self.applied.append(b"old")

    @replicated(ver=1)  # type: ignore[no-redef]
    def mark(self) -> None:  # noqa: F811
        self.applied.append(b"new")


def test_06j_the_stock_library_forgets_the_version_of_its_methods(tmp_path: Path) -> None:
    options = {"fullDumpFile": True, "useFork": False, "journal": "file"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StockReplica, "core_class", _Versioned)
        with world(Kind.STOCK, tmp_path, "A", stock=options) as running:
            running.elect("A")
            replica = stock(running["A"])

            def call(method: str, *arguments: Any) -> None:
                with replica.running():
                    getattr(replica.core, method)(*arguments)
                running.run("A")
                running.run("A")

            call("setCodeVersion", 1)
            call("mark")
            call("put", b"v")
            assert replica.applied[0] == b"new"
            replica.snapshot()
            running.crash("A")
            running.restart("A")
            running.elect("A")
            call("mark")
            assert replica.core.getCodeVersion() == 1
            assert replica.applied[-1] == b"old"


def test_06j_a_restored_replica_applies_as_the_others_do(tmp_path: Path) -> None:
    with world(Kind.OURS, tmp_path) as running:
        running.elect("A")
        running.write("A", *values("v", 10))
        running.settle(0.5)
        running["C"].snapshot()
        running.crash("C")
        running.restart("C", "A", "B")
        running.write("A", b"after")
        running.settle(1)
        assert running["C"].applied == running["A"].applied
        assert running["C"].applied[-1] == b"after"
        assert not diverged(running["A"], running["B"], running["C"])


@both
def test_14_a_follower_is_not_flooded_while_a_snapshot_is_written(kind: Kind, tmp_path: Path) -> None:
    options = {"fullDumpFile": True, "useFork": False}
    with world(kind, tmp_path, stock=options) as running:
        running.elect("A")
        running.cut("AC", "BC")
        running.write("A", *values("v", 50))
        running.settle(0.3, "AB")
        running["A"].snapshot()
        running.write("A", *values("w", 50))
        running.settle(0.3, "AB")
        running["A"].begin_snapshot(3)
        if kind is Kind.STOCK:
            stock(running["A"]).private("raftNextIndex")[Node("C")] = 3
            stock(running["A"]).private("serializer")._Serializer__pid = 999_999  # a child is at work
        running.join("AC")
        running.clock.creep_s = 1e-4
        before = running.sent["A", "C", "append_entries"] + running.sent["A", "C", "snapshot_chunk"]
        running.advance(0.11)
        running.run("A")
        after = running.sent["A", "C", "append_entries"] + running.sent["A", "C", "snapshot_chunk"]
        running.clock.creep_s = 0.0
        if kind is Kind.STOCK:
            stock(running["A"]).private("serializer")._Serializer__pid = 0
        judge(kind, [f"{after - before} messages in one turn"] if after - before > 20 else [])


def truncated_under_a_snapshot(world: World) -> list[str]:
    """A late copy of the leader's first messages arrives while B's snapshot is not yet compacted behind."""
    world.elect("A")
    writes = world.write("A", *values("v", 12))
    for _ in range(2):
        world.advance(0.11)
        world.run("A")
    early = list(world.links["A", "B"])[:2]
    world.settle(1)
    world["B"].begin_snapshot(3)
    for message in early:
        world["B"].receive("A", message)
    problems = []
    for _ in range(4):
        try:
            world.settle(0.1)
        except IndexError as error:
            problems.append(f"a turn raised {error!r}")
    writes += world.write("A", b"after")
    try:
        world.settle(0.5)
    except IndexError as error:
        problems.append(f"a turn raised {error!r}")
    return problems or lost(writes, world["B"])


@both
def test_15_a_log_is_never_emptied(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path, stock={"appendEntriesBatchSizeBytes": 200}) as running:
        judge(kind, truncated_under_a_snapshot(running))
