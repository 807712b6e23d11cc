"""A host's disk: what its operations take, at which moments processes die, and what they leave behind."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Any

import pytest
from little_disk import Host, fill
from little_world import finish, pass_time

from raftcoord.consensus.identity import DataFolder
from raftcoord.testing.simulation.disk import MOMENTS, OPERATION_S, THREAD_START_S
from raftcoord.testing.simulation.faulty_disk import PowerFailure
from raftcoord.testing.simulation.hosts import SimRng
from raftcoord.testing.simulation.scheduler import stream

PATH = "/data/file"
SEEDS = range(40)


class TestTime:
    """Operations take time, in which the process that waits for them does nothing else."""

    def test_a_sync_blocks_its_process(self) -> None:
        host = Host(sync_s=0.01)
        file = host.disk.open(PATH, create=True)
        write_s = host.took(lambda: file.pwrite(b"data", 0))
        times = [host.took(file.sync) for _ in range(1000)]
        assert write_s == pytest.approx(OPERATION_S)
        assert 0.006 <= min(times) < sorted(times)[900] <= 0.014
        assert max(times) > 0.1  # rarely much longer
        assert 0.006 <= host.took(lambda: host.disk.sync_directory("/data")) <= 0.28

    def test_a_slow_disk_is_slow(self) -> None:
        host = Host(sync_s=0.01)
        file = host.disk.open(PATH, create=True)
        host.host_disk.slow_factor = 100
        assert host.took(file.sync) >= 0.6
        host.host_disk.disarm()
        assert host.took(file.sync) <= 0.28

    def test_blocking_work_stops_the_event_loop_and_work_in_a_thread_does_not(self) -> None:
        host = Host(sync_s=0.1)
        file = host.disk.open(PATH, create=True)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        async def work() -> tuple[int, int, float]:
            ticker = asyncio.ensure_future(tick())
            await asyncio.sleep(0)
            file.sync()
            await asyncio.sleep(0)
            blocked, before_s = ticks, host.process.now
            await host.disk.run(file.sync)
            ticker.cancel()
            return blocked, ticks, host.process.now - before_s

        blocked, threaded, took_s = finish(host.process, work())
        assert blocked <= 1
        assert threaded >= 50
        assert took_s >= 0.06 + THREAD_START_S
        assert host.process.clock.elapsed_s == 0

    def test_work_in_the_thread_keeps_its_order_and_its_results(self) -> None:
        host = Host(sync_s=0.1)
        file = host.disk.open(PATH, create=True)
        seen: list[str] = []

        def write(name: str) -> str:
            seen.append(f"{name} begins")
            file.sync()
            return name

        async def fail() -> None:
            await host.disk.run(lambda: host.disk.remove("/data/none"))

        async def one(name: str) -> None:
            seen.append(f"{await host.disk.run(lambda: write(name))} ends")

        async def work() -> list[Any]:
            return list(await asyncio.gather(one("a"), fail(), one("b"), return_exceptions=True))

        results = finish(host.process, work())
        assert seen == ["a begins", "a ends", "b begins", "b ends"]
        assert isinstance(results[1], FileNotFoundError)

    def test_nothing_is_counted_where_no_process_runs(self) -> None:
        host = Host()
        host.host_disk.process = None
        host.store.open(PATH, create=True).sync()
        assert host.host_disk.operations == 0


def _open_folder(host: Host) -> None:
    DataFolder.open(disk=host.disk, rng=SimRng(stream(1, "rng")), path="/data", name="r1")


def _use_journal(host: Host) -> None:
    journal = host.open_journal()
    fill(journal, 1, 30)
    journal.compact_to(25)
    journal.sync()
    journal.collect_garbage()


def _use_snapshots(host: Host) -> None:
    store = host.open_snapshots()
    host.write_snapshot(store, 5)
    host.write_snapshot(store, 9)


def _install_snapshot(host: Host) -> None:
    other = Host()
    other.write_snapshot(other.open_snapshots(), 7)
    ((path, data),) = other.store.contents().items()
    store = host.open_snapshots()
    receiver = store.receive(index=7, term=1, size_bytes=len(data))
    assert receiver.add(0, data[:10])
    assert receiver.add(10, data[10:])
    finish(host.process, store.install(receiver))
    assert host.store.contents()[path] == data


WORK: dict[str, tuple[Callable[[Host], None], set[str]]] = {
    "folder": (_open_folder, {"identity_rename"}),
    "journal": (
        _use_journal,
        {"journal_write", "journal_sync", "segment_create", "segment_rename", "segment_name_sync"}
        | {"segment_remove"},
    ),
    "snapshots": (
        _use_snapshots,
        {"snapshot_begin", "snapshot_sync", "snapshot_rename", "snapshot_name_sync", "snapshot_remove"},
    ),
    "installing": (
        _install_snapshot,
        {"install_receive", "install_write", "install_sync", "install_rename", "snapshot_name_sync"},
    ),
}


class TestMoments:
    """The nemesis strikes at moments, which must exist."""

    @pytest.mark.parametrize("what", WORK)
    def test_the_moments_of_real_work_occur_and_no_others(self, what: str) -> None:
        work, expected = WORK[what]
        host = Host(sync_s=0)
        seen: set[str] = set()
        for moment in MOMENTS:
            host.host_disk.arm(moment, 1, lambda moment=moment: seen.add(moment))  # type: ignore[misc]
        work(host)
        assert seen == expected

    @pytest.mark.parametrize("what", WORK)
    def test_what_is_to_happen_after_an_operation_finds_its_effect(self, what: str) -> None:
        work, expected = WORK[what]
        for moment in sorted(expected):
            host = Host(sync_s=0)
            operations: list[tuple[str, str]] = []

            def look(host: Host = host, operations: list[tuple[str, str]] = operations) -> None:
                operations.append(host.store.operations[-1])
                assert not [
                    one for one in host.store.files.values() if operations[0][0] == "sync" and one.unsynced
                ]

            host.host_disk.arm(moment, 1, look, after=True)
            work(host)
            assert [kind for kind, _ in operations] == [MOMENTS[moment][0]]

    def test_every_moment_occurs_in_some_work(self) -> None:
        assert set().union(*(moments for _, moments in WORK.values())) == set(MOMENTS)

    def test_it_is_the_nth_time_and_only_that(self) -> None:
        host = Host()
        seen: list[int] = []
        journal = host.open_journal()
        host.host_disk.arm("journal_sync", 3, lambda: seen.append(journal.last_index))
        fill(journal, 1, 8)
        assert seen == [3]

    def test_what_was_armed_can_be_forgotten(self) -> None:
        host = Host()
        host.host_disk.arm("journal_write", 1, lambda: pytest.fail("armed"))
        host.store.capacity_bytes = 0
        host.host_disk.disarm()
        fill(host.open_journal(), 1, 3)

    def test_an_error_at_a_moment_is_the_operations_error(self) -> None:
        host = Host()
        store = host.open_snapshots()

        def fail() -> None:
            raise OSError(errno.EIO, "armed")

        host.host_disk.arm("snapshot_rename", 1, fail)
        with pytest.raises(Exception, match="snapshot failed"):
            host.write_snapshot(store, 5)
        assert store.latest is None
        assert host.write_snapshot(store, 6).index == 6


DISK_OPERATIONS: dict[str, Callable[[Any], object]] = {
    "open": lambda disk: disk.open(PATH),
    "create": lambda disk: disk.open(PATH, create=True),
    "exists": lambda disk: disk.exists(PATH),
    "list_directory": lambda disk: disk.list_directory("/data"),
    "make_directory": lambda disk: disk.make_directory("/data/new"),
    "remove": lambda disk: disk.remove(PATH),
    "rename": lambda disk: disk.rename(PATH, "/data/other"),
    "sync_directory": lambda disk: disk.sync_directory("/data"),
    "lock": lambda disk: disk.lock("/data/lock"),
}
FILE_OPERATIONS: dict[str, Callable[[Any], object]] = {
    "pwrite": lambda file: file.pwrite(b"new", 0),
    "sync": lambda file: file.sync(),
    "truncate": lambda file: file.truncate(1),
}


class TestDeath:
    """A dead process changes nothing, and what it had done is as it was."""

    @pytest.mark.parametrize("name", [*DISK_OPERATIONS, *FILE_OPERATIONS])
    def test_the_dead_are_refused_and_change_nothing(self, name: str) -> None:
        host = Host()
        file = host.disk.open(PATH, create=True)
        file.pwrite(b"before", 0)
        before = (host.store.contents(), set(host.store.folders), set(host.store.locks))
        host.process.kill()
        with pytest.raises(OSError) as caught:
            DISK_OPERATIONS[name](host.disk) if name in DISK_OPERATIONS else FILE_OPERATIONS[name](file)
        assert caught.value.errno == errno.EBADF
        assert (host.store.contents(), host.store.folders, host.store.locks) == before

    @pytest.mark.parametrize("name", ["pwrite", "sync"])
    def test_nor_do_they_change_what_can_become_durable(self, name: str) -> None:
        host = Host()
        file = host.disk.open(PATH, create=True)
        file.pwrite(b"before", 0)
        host.disk.sync_directory("/data")
        host.process.kill()
        with pytest.raises(OSError):
            FILE_OPERATIONS[name](file)
        host.restart()
        host.disk.open(PATH).sync()
        host.restart(power=True)
        assert host.store.contents() == {PATH: b"before"}

    def test_files_of_an_earlier_process_are_closed(self) -> None:
        host = Host()
        file = host.disk.open(PATH, create=True)
        host.restart()
        for operation in FILE_OPERATIONS.values():
            with pytest.raises(OSError):
                operation(file)
        assert host.disk.open(PATH).size() == 0

    def test_killed_in_a_write_it_was_written(self) -> None:
        host = Host()
        journal = host.open_journal()
        fill(journal, 1, 3)
        self._die_at(host, "journal_write", lambda: fill(journal, 4, 5))
        host.restart()
        assert host.open_journal().last_index == 4

    @pytest.mark.parametrize("moment", ["journal_write", "journal_sync"])
    def test_without_power_it_may_be_lost_but_what_was_synced_is_not(self, moment: str) -> None:
        lasts = set()
        for seed in SEEDS:
            host = Host(seed)
            journal = host.open_journal()
            fill(journal, 1, 3)
            self._die_at(host, moment, lambda journal=journal: fill(journal, 4, 5))  # type: ignore[misc]
            host.restart(power=True)
            lasts.add(host.open_journal().last_index)
        assert lasts == {3, 4}

    @pytest.mark.parametrize(("offset", "size"), [(0, 500), (200, 8), (700, 2)])
    def test_a_write_may_be_torn_by_a_loss_of_power(self, offset: int, size: int) -> None:
        parts = set()
        for seed in SEEDS:
            host = Host(seed)
            file = host.disk.open(PATH, create=True)
            file.pwrite(bytes(1000), 0)
            file.sync()
            host.disk.sync_directory("/data")
            file.pwrite(b"x" * size, offset)
            host.restart(power=True)
            data = host.store.contents()[PATH]
            written = data.count(b"x")
            assert data == (bytes(offset) + b"x" * written).ljust(1000, b"\0")
            parts.add((written > 0) + (written == size))
        assert parts == {0, 1, 2}  # nothing, a part, all

    def test_names_are_durable_when_their_folder_was_synced(self) -> None:
        found = set()
        for seed in SEEDS:
            host = Host(seed)
            host.disk.open("/data/synced", create=True)
            host.disk.sync_directory("/data")
            host.disk.open("/data/not", create=True)
            host.restart(power=True)
            found.add(tuple(sorted(host.store.contents())))
        assert found == {("/data/not", "/data/synced"), ("/data/synced",)}

    def test_what_a_dead_process_had_in_its_thread_is_not_done(self) -> None:
        host = Host(sync_s=0.1)
        file = host.disk.open(PATH, create=True)
        done: list[int] = []

        def sync(number: int) -> None:
            file.sync()
            done.append(number)

        async def work() -> None:
            await asyncio.gather(host.disk.run(lambda: sync(1)), host.disk.run(lambda: sync(2)))

        host.process.spawn(work())
        pass_time(host.scheduler, 0.05)
        host.process.kill()
        pass_time(host.scheduler, 1)
        assert done == [1]

    @staticmethod
    def _die_at(host: Host, moment: str, work: Callable[[], None]) -> None:
        def die() -> None:
            host.process.kill()
            raise PowerFailure

        async def inside() -> None:
            work()

        host.host_disk.arm(moment, 1, die)
        host.process.spawn(inside())
        pass_time(host.scheduler, 1)
        assert not host.process.is_alive, f"{moment} did not occur"
