"""Snapshots: written, read, sent and received whole, or not at all."""

from __future__ import annotations

import asyncio
import errno
import random
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from snapshot_helpers import FOLDER, SEED, SLICES, new_disk, open_store, small, write

from raftcoord.consensus.interface import FatalError
from raftcoord.consensus.snapshot_store import (
    SnapshotDamaged,
    SnapshotFailed,
    SnapshotMeta,
    SnapshotReceiver,
    SnapshotStore,
)
from raftcoord.consensus.snapshot_transfer import SNAPSHOT_BYTES_MAX
from raftcoord.testing.simulation.faulty_disk import FaultyDisk, PowerFailure

_T = TypeVar("_T")


def transfer(source: SnapshotStore, target: SnapshotStore, piece_bytes: int = 1000) -> SnapshotReceiver:
    reader = source.open_reader()
    receiver = target.receive(index=reader.index, term=reader.term, size_bytes=reader.size_bytes)
    while not receiver.complete:
        assert receiver.add(receiver.received_bytes, reader.read(receiver.received_bytes, piece_bytes))
    reader.close()
    return receiver


def install(store: SnapshotStore, receiver: SnapshotReceiver, *, now: bool) -> SnapshotMeta:
    return store.install_now(receiver) if now else asyncio.run(store.install(receiver))


def test_a_new_store_has_no_snapshot() -> None:
    store = open_store(new_disk())
    assert store.latest is None
    with pytest.raises(SnapshotFailed, match="no snapshot"):
        store.open_reader()
    with pytest.raises(SnapshotFailed, match="no snapshot"):
        next(store.read())


def test_slices_come_back_as_they_were_but_empty_ones() -> None:
    disk = new_disk()
    store = open_store(disk)
    meta = write(store, 12, 3)
    assert (meta.index, meta.term, store.latest) == (12, 3, meta)
    assert meta.size_bytes == len(disk.contents()[meta.path])
    assert list(store.read()) == [data for data in SLICES if data]
    disk.lose_power(random.Random(SEED))
    store = open_store(disk)
    assert store.latest == meta
    assert list(store.read()) == [data for data in SLICES if data]


def test_a_state_without_slices_is_a_snapshot_too() -> None:
    disk = new_disk()
    write(open_store(disk), 5, slices=[])
    disk.kill()
    assert list(open_store(disk).read()) == []


def test_a_newer_snapshot_replaces_the_older_one() -> None:
    disk = new_disk()
    store = open_store(disk)
    for index in (5, 9, 20):
        write(store, index, slices=small(index))
    assert disk.list_directory(FOLDER) == ["snapshot-00000000000000000020-0000000001.snap"]
    assert b"".join(store.read()) == b"".join(small(20))


def test_writing_what_the_latest_covers_returns_that_one() -> None:
    disk = new_disk()
    store = open_store(disk)
    latest = write(store, 9)
    closed = []

    def slices() -> Iterator[bytes]:
        try:
            yield b"unwanted"
        finally:
            closed.append(True)

    iterator = slices()
    assert next(iterator) == b"unwanted"
    assert asyncio.run(store.write(8, 1, iterator)) == latest
    assert closed == [True]
    assert len(disk.files) == 1


def test_the_loop_gets_its_turn_while_slices_are_taken() -> None:
    async def main() -> int:
        store = open_store(new_disk())
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counter = asyncio.ensure_future(count())
        await store.write(1, 1, iter([bytes(40_000)] * 50))
        counter.cancel()
        return turns

    assert asyncio.run(main()) >= 50


def test_a_slice_that_raises_leaves_the_old_snapshot() -> None:
    disk = new_disk()
    store = open_store(disk)
    latest = write(store, 4)

    def broken() -> Iterator[bytes]:
        yield b"z" * 400_000
        raise KeyError("lost object")

    with pytest.raises(SnapshotFailed, match=r"KeyError.*lost object"):
        asyncio.run(store.write(9, 1, broken()))
    assert store.latest == latest
    assert list(disk.files) == [latest.path]


def test_a_cancelled_write_leaves_the_old_snapshot() -> None:
    disk = new_disk()
    store = open_store(disk)
    latest = write(store, 4)

    async def main(turns: int) -> bool:
        task = asyncio.ensure_future(store.write(9, 1, iter([b"z" * 100_000] * 9)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return True
        return False

    cancelled = 0
    for turns in range(1, 200):
        if not asyncio.run(main(turns)):
            break
        cancelled += 1
        assert store.latest is not None
        if store.latest == latest:
            assert list(disk.files) == [latest.path], f"after {turns} turns"
        else:  # too late: it is stored, and only the older one may still be there
            assert {store.latest.path} <= set(disk.files) <= {latest.path, store.latest.path}
            assert len(list(store.read())) == 9
            store = open_store(disk)
    assert cancelled > 10
    assert store.latest is not None
    assert store.latest.index == 9
    assert list(disk.files) == [store.latest.path]


class ThreadDisk(FaultyDisk):
    """Runs disk work in a thread, as the real disk does."""

    async def run(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(None, function)


def test_a_cancelled_write_waits_for_the_thread_that_uses_its_file() -> None:
    disk = ThreadDisk()
    disk.make_directory(FOLDER)
    store = open_store(disk)
    reached, go_on = threading.Event(), threading.Event()

    def on_operation(kind: str, path: str) -> None:
        if kind == "sync":
            reached.set()
            assert go_on.wait(10)

    disk.on_operation = on_operation

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(store.write(9, 1, iter([b"z"])))
        await loop.run_in_executor(None, reached.wait, 10)
        for _ in range(3):
            task.cancel()
            for _ in range(20):
                await asyncio.sleep(0)
            assert not task.done()
            assert disk.list_directory(FOLDER) == ["write-1.tmp"]
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert store.latest is None
    assert disk.files == {}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_anything_leaves_a_good_snapshot(number: int) -> None:
    """Fail every disk operation of a write and of an install in turn."""
    other = open_store(new_disk())
    write(other, 9, slices=small(9))
    for action in ("write", "install", "install now"):
        for after in range(100):
            disk = new_disk()
            store = open_store(disk)
            write(store, 4, slices=small(4))
            receiver = transfer(other, store)
            disk.fail_with(number, after=after)
            try:
                if action == "write":
                    write(store, 9, slices=small(9))
                else:
                    install(store, receiver, now=action == "install now")
            except SnapshotFailed as error:
                if errno.errorcode[number] not in str(error):
                    pytest.fail(f"unclear: {error}")
            else:
                assert store.latest is not None
                assert store.latest.index == 9
            disk.heal()
            assert store.latest is not None
            assert b"".join(store.read()) == b"".join(small(store.latest.index)), (action, after)
            finished = after > 0 and len(disk.operations) < after
            disk.lose_power(random.Random(after))
            again = open_store(disk)
            assert again.latest is not None
            assert again.latest.index in {store.latest.index, 9}, (action, after)
            assert b"".join(again.read()) == b"".join(small(again.latest.index)), (action, after)
            if finished:
                break


def test_a_full_disk_is_named() -> None:
    disk = new_disk()
    store = open_store(disk)
    disk.capacity_bytes = 200_000
    with pytest.raises(SnapshotFailed, match=r"ENOSPC\); free space") as raised:
        write(store, 4)
    assert isinstance(raised.value, FatalError)
    assert disk.files == {}


def test_power_failures_at_every_moment() -> None:
    """A snapshot that was reported stays; another one may be found only if it was being written."""
    for seed in range(150):
        rng = random.Random(seed)
        disk = new_disk()
        store = open_store(disk)
        index, reported, begun = 0, 0, 0
        for _ in range(12):
            index += rng.randint(1, 3)
            if rng.random() < 0.5:
                disk.fail(PowerFailure(), after=rng.randint(0, 14))
            begun = index
            try:
                reported = write(store, index, slices=small(index)).index
            except PowerFailure:
                if rng.random() < 0.7:
                    disk.lose_power(rng)
                else:
                    disk.kill()
                store = open_store(disk)
            disk.heal()
            found = store.latest.index if store.latest else 0
            assert found in {reported, begun}, f"seed {seed}"
            assert found == 0 or b"".join(store.read()) == b"".join(small(found)), f"seed {seed}"
            reported = found
            names = disk.list_directory(FOLDER)
            assert len(names) == (found > 0), f"seed {seed}: {names}"


@pytest.mark.parametrize("now", [False, True])
class TestReceiving:
    """From one store to another, piece by piece."""

    def test_a_snapshot_arrives_as_it_is(self, now: bool) -> None:
        disk = new_disk()
        source, target = open_store(new_disk()), open_store(disk)
        sent = write(source, 30, 4)
        write(target, 10)
        meta = install(target, transfer(source, target, 65_536), now=now)
        assert meta == target.latest == sent
        disk.lose_power(random.Random(SEED))
        assert list(disk.files) == [meta.path]
        assert list(open_store(disk).read()) == [data for data in SLICES if data]

    def test_a_damaged_one_never_replaces_the_good_one(self, now: bool) -> None:
        source = open_store(new_disk())
        write(source, 30, 4, small(30))
        reader = source.open_reader()
        good = reader.read(0, reader.size_bytes)
        rng = random.Random(SEED)
        for offset in range(len(good)):
            disk = new_disk()
            target = open_store(disk)
            write(target, 10, slices=small(10))
            data = bytearray(good)
            data[offset] ^= 1 << rng.randrange(8)
            receiver = target.receive(index=30, term=4, size_bytes=len(data))
            assert receiver.add(0, bytes(data))
            with pytest.raises(SnapshotDamaged):
                install(target, receiver, now=now)
            assert target.latest is not None
            assert target.latest.index == 10
            assert list(disk.files) == [target.latest.path], f"byte {offset}, seed {SEED}"

    def test_one_that_is_not_what_was_announced_is_refused(self, now: bool) -> None:
        source, target = open_store(new_disk()), open_store(new_disk())
        write(source, 30, 4, small(30))
        reader = source.open_reader()
        for index, term in ((31, 4), (30, 5)):
            receiver = target.receive(index=index, term=term, size_bytes=reader.size_bytes)
            receiver.add(0, reader.read(0, reader.size_bytes))
            with pytest.raises(SnapshotDamaged, match="header says"):
                install(target, receiver, now=now)
        assert target.latest is None

    def test_an_incomplete_or_discarded_one_is_refused(self, now: bool) -> None:
        disk = new_disk()
        source, target = open_store(new_disk()), open_store(disk)
        write(source, 30, 4, small(30))
        half = target.receive(index=30, term=4, size_bytes=source.open_reader().size_bytes)
        half.add(0, b"x")
        discarded = transfer(source, target)
        discarded.discard()
        twice = transfer(source, target)
        install(target, twice, now=now)
        for receiver in (half, discarded, twice):
            with pytest.raises(SnapshotDamaged, match="not complete"):
                install(target, receiver, now=now)
        assert len(disk.files) == 1

    def test_an_older_one_never_replaces_a_newer_one(self, now: bool) -> None:
        disk = new_disk()
        source, target = open_store(new_disk()), open_store(disk)
        write(source, 30, 4, small(30))
        receiver = transfer(source, target)
        newer = write(target, 31, 4, small(31))
        assert install(target, receiver, now=now) == newer == target.latest
        assert list(disk.files) == [newer.path]

    def test_nonsense_about_size_and_order_is_refused(self, now: bool) -> None:
        target = open_store(new_disk())
        receiver = target.receive(index=3, term=1, size_bytes=10)
        assert receiver.add(0, b"12345")
        for offset, data in ((0, b"12345"), (4, b"x"), (6, b"x"), (-1, b"x"), (5, b"123456")):
            assert not receiver.add(offset, data)
        assert receiver.received_bytes == 5
        assert not target.receive(index=3, term=1, size_bytes=SNAPSHOT_BYTES_MAX + 1).add(0, b"x")
        with pytest.raises(SnapshotDamaged):
            install(target, target.receive(index=3, term=1, size_bytes=0), now=now)


def test_a_transfer_goes_on_when_a_newer_snapshot_comes() -> None:
    disk = new_disk()
    source, target = open_store(disk), open_store(new_disk())
    meta = write(source, 10, slices=small(10))
    good = disk.contents()[meta.path]
    reader = source.open_reader()
    first = reader.read(0, 20)
    write(source, 20)
    assert meta.path not in disk.files
    assert first + reader.read(20, 10_000) == good
    assert (reader.index, reader.size_bytes) == (10, len(good))
    receiver = target.receive(index=10, term=1, size_bytes=len(good))
    receiver.add(0, good)
    assert target.install_now(receiver).index == 10


def test_an_install_while_a_snapshot_is_being_written_wins() -> None:
    """Whichever moment of the write it hits, the newer one is the latest, and the only one kept."""
    source = open_store(new_disk())
    write(source, 50, 2, small(50))

    async def main(turns: int) -> bool:
        disk = new_disk()
        store = open_store(disk)
        task = asyncio.ensure_future(store.write(40, 1, iter([b"z" * 50_000] * 9)))
        for _ in range(turns):
            await asyncio.sleep(0)
        was_done = task.done()
        newest = store.install_now(transfer(source, store))
        assert (await task).index == (40 if was_done else 50)
        assert store.latest == newest
        assert list(disk.files) == [newest.path], f"after {turns} turns"
        return was_done

    for turns in range(200):
        if asyncio.run(main(turns)):
            assert turns > 10
            return
    pytest.fail("the write never ended")
