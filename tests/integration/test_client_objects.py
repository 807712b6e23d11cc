"""The objects on three real replicas: what they promise, across clients and threads."""

from __future__ import annotations

import asyncio
import datetime
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import raftcoord
from raftcoord import aio
from raftcoord.testing.local_cluster import LocalCluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[raftcoord.Client]:
    with raftcoord.Client(cluster.address, session_ttl="2s") as client:
        yield client


def two(cluster: LocalCluster, play: Callable[[aio.Client, aio.Client], Coroutine[Any, Any, None]]) -> None:
    """Play a scenario with two asyncio clients."""

    async def run() -> None:
        async with (
            aio.Client(cluster.address, set_as_default=False) as one,
            aio.Client(cluster.address, set_as_default=False) as other,
        ):
            await play(one, other)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_values_come_back_equal_and_of_the_same_type(client: raftcoord.Client) -> None:
    variable = raftcoord.Variable("values")
    now = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    for value in (
        None,
        True,
        2**64 - 1,
        -(2**63),
        1.5,
        "é",
        b"\xff",
        [1, [2]],
        {"a": {1: b""}},
        (1, (2,)),
        now,
    ):
        variable.set(value)
        back = variable.get()
        assert (back, type(back)) == (value, type(value))


def test_a_variable_waits_until_it_is_set(cluster: LocalCluster) -> None:
    async def play(one: aio.Client, other: aio.Client) -> None:
        here, there = aio.Variable("late", one), aio.Variable("late", other)
        with pytest.raises(raftcoord.CallTimeout):
            await here.get(0)
        with pytest.raises(TimeoutError):
            await here.get("50ms")
        waiting = [asyncio.ensure_future(here.get()) for _ in range(3)]
        await there.set("here")
        assert await asyncio.gather(*waiting) == ["here"] * 3
        assert await here.delete()
        assert not await there.delete()

    two(cluster, play)


def test_compare_and_set_by_value_and_by_revision(client: raftcoord.Client) -> None:
    variable = raftcoord.Variable("cas")
    assert not variable.compare_and_set(1, 2)
    assert variable.compare_and_set(raftcoord.UNSET, {"a": 1, "b": 2})
    assert not variable.compare_and_set(raftcoord.UNSET, 3)
    assert variable.compare_and_set({"b": 2, "a": 1}, "next")
    value, revision = variable.get_versioned()
    assert value == "next"
    assert variable.compare_and_set(value="last", revision=revision)
    assert not variable.compare_and_set(value="too late", revision=revision)
    assert variable.get() == "last"


def test_adding_from_many_threads_loses_nothing(client: raftcoord.Client) -> None:
    variable = raftcoord.Variable("sum")
    with ThreadPoolExecutor(8) as threads:
        sums = list(threads.map(lambda _: variable.add(), range(200)))
    assert sorted(sums) == list(range(1, 201))
    assert variable.add(0.5) == 200.5
    variable.set("text")
    with pytest.raises(raftcoord.WrongType, match="sum"):
        variable.add()
    variable.set(2**64 - 1)
    with pytest.raises(raftcoord.NumberOverflow):
        variable.add()


def test_watch_sees_changes_and_deletion(client: raftcoord.Client) -> None:
    variable = raftcoord.Variable("watched")
    variable.set(1)
    changes = variable.watch(timeout="5s")
    assert next(changes).value == 1
    variable.set(2)
    assert next(changes).value == 2
    variable.delete()
    assert next(changes) == (raftcoord.UNSET, 0)
    quiet = variable.watch(timeout="50ms")
    with pytest.raises(raftcoord.CallTimeout):
        next(quiet)


def test_a_queue_hands_out_in_order(cluster: LocalCluster) -> None:
    async def play(one: aio.Client, other: aio.Client) -> None:
        here, there = aio.Queue("line", client=one), aio.Queue("line", client=other)
        await here.put_many(range(10))
        await here.put("last")
        assert await there.qsize() == 11
        assert [await there.get() for _ in range(3)] == [0, 1, 2]
        assert await there.get(batch=4) == [3, 4, 5, 6]
        assert await there.get(batch=True) == [7, 8, 9, "last"]
        assert await there.get(batch=True) == []
        with pytest.raises(raftcoord.CallTimeout):
            await there.get("50ms")
        getting = asyncio.ensure_future(there.get(batch=2))
        await here.put("a")
        await here.put("b")
        assert await getting == ["a", "b"]
        assert await here.qsize() == 0

    two(cluster, play)


def test_a_full_queue_makes_putters_wait(cluster: LocalCluster) -> None:
    async def play(one: aio.Client, other: aio.Client) -> None:
        small, same = aio.Queue("small", 2, one), aio.Queue("small", 2, other)
        await small.put_many([1, 2])
        with pytest.raises(raftcoord.CallTimeout):
            await small.put(3, timeout=0)
        with pytest.raises(raftcoord.CallTimeout):
            await small.put(3, timeout="50ms")
        with pytest.raises(raftcoord.ValueTooLarge):
            await small.put_many([1, 2, 3])
        putting = asyncio.ensure_future(small.put("waited"))
        assert [await same.get(), await same.get(), await same.get()] == [1, 2, "waited"]
        await putting
        getting = asyncio.ensure_future(same.get())
        await small.qsize()
        await same.qsize()
        await small.close()
        with pytest.raises(raftcoord.QueueClosed):
            await getting

    two(cluster, play)


def test_a_drain_takes_everything_however_much_it_is(client: raftcoord.Client) -> None:
    queue = raftcoord.Queue("many")
    for start in range(0, 25_000, 5_000):
        queue.put_many(range(start, start + 5_000))
    assert queue.get(batch=True) == list(range(25_000))
    for number in range(12):
        queue.put(bytes([number]) * 1_000_000)
    items = queue.get(batch=True)
    assert [(item[0], len(item)) for item in items] == [(number, 1_000_000) for number in range(12)]
    assert queue.qsize() == 0


def test_an_item_whose_getter_was_cancelled_is_not_lost(cluster: LocalCluster) -> None:
    async def play(one: aio.Client, other: aio.Client) -> None:
        here, there = aio.Queue("cancelled", client=one), aio.Queue("cancelled", client=other)
        for number in range(40):
            getting = asyncio.ensure_future(here.get())
            putting = asyncio.ensure_future(there.put(number))
            await asyncio.sleep(0.0005 * (number % 8))
            if getting.cancel():
                await putting
            got = (await asyncio.gather(getting, return_exceptions=True))[0]
            if isinstance(got, asyncio.CancelledError):
                got = await there.get("5s")  # back at the head as soon as the cancellation is through
            assert got == number
            await putting
        assert await here.qsize() == 0

    two(cluster, play)


def test_one_holds_a_lock_and_the_next_gets_it(cluster: LocalCluster) -> None:
    async def play(one: aio.Client, other: aio.Client) -> None:
        here, there = aio.Lock("door", one), aio.Lock("door", other)
        async with here:
            assert await there.locked()
            assert not await there.acquire(blocking=False)
            assert not await there.acquire(timeout="50ms")
            with pytest.raises(raftcoord.NotHolder):
                await there.release()
            first = here.fence
            acquiring = asyncio.ensure_future(there.acquire())
        assert await acquiring
        assert there.fence > first
        with pytest.raises(raftcoord.NotHolder):
            _ = here.fence
        await there.release()
        assert not await here.locked()

    two(cluster, play)


def test_a_lock_excludes_the_threads_of_one_client(client: raftcoord.Client) -> None:
    inside: list[int] = []
    most = []

    def work(number: int) -> None:
        for _ in range(10):
            with raftcoord.Lock("threads"):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    with ThreadPoolExecutor(5) as threads:
        list(threads.map(work, range(5)))
    assert most == [1] * 50


def test_closing_a_client_lets_its_locks_go_at_once(cluster: LocalCluster, client: raftcoord.Client) -> None:
    other = raftcoord.Client(cluster.address, session_ttl="1h", set_as_default=False)
    raftcoord.Lock("left", other).acquire()
    waiting = threading.Thread(target=other.close)
    lock = raftcoord.Lock("left")
    assert not lock.acquire(timeout="50ms")
    waiting.start()
    assert lock.acquire(timeout="5s")
    waiting.join()
