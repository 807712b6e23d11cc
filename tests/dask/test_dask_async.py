"""The objects under asynchronous Dask clients: awaitables, `async with`, and callers who give up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from dask_world import in_async_client
from distributed import Client
from distributed import LocalCluster as DaskCluster

from raftcoord.dask import Event, Lock, MultiLock, Pub, Queue, Semaphore, Sub, Variable
from raftcoord.testing.local_cluster import LocalCluster

pytest_plugins = ["dask_fixtures"]


def test_every_method_returns_an_awaitable(dask_cluster: DaskCluster, name: str) -> None:
    async def body(client: Client) -> None:
        variable, queue, event = Variable(name), await Queue(name), await Event(name)
        await variable.set([1])
        assert await asyncio.create_task(variable.get()) == [1]
        await queue.put((2,))
        assert await queue.qsize() == 1
        assert await queue.get(timeout="5s") == (2,)
        assert await queue.get(batch=True) == []
        assert await event.wait(timeout="50ms") is False
        assert await event.set() is None
        assert await event.is_set() is True
        assert await event.clear() is None
        variable.delete()
        queue.close()
        with pytest.raises(TimeoutError):
            await variable.get(timeout=0)

    in_async_client(dask_cluster, body)


def test_locks(dask_cluster: DaskCluster, name: str) -> None:
    async def body(client: Client) -> None:
        lock, other = Lock(name), await Lock(name)
        assert await lock.acquire() is True
        assert await lock.locked() is True
        assert await other.acquire(timeout="50ms") is False
        assert await other.acquire(blocking=False) is False
        assert await lock.release() is True
        async with other as held:
            assert held is other
        with pytest.raises(RuntimeError):
            other.release()  # at once, as in Dask
        with pytest.raises(RuntimeError, match="async with"), lock:
            pass
        both = MultiLock([name, "other"])
        async with both:
            assert both.locked()
            assert await MultiLock([name]).acquire(timeout="50ms") is False
        seats = await Semaphore(2, name)
        async with seats:
            assert await seats.get_value() == 1
        with pytest.raises(ValueError, match="leases"):
            await Semaphore(3, name)
        await seats.close()
        with pytest.raises(RuntimeError):
            await seats.acquire()

    in_async_client(dask_cluster, body)


def test_topics(dask_cluster: DaskCluster, name: str) -> None:
    async def body(client: Client) -> None:
        pub, first, second = Pub(name), Sub(name), Sub(name)
        for number in range(10):
            pub.put(number)  # not awaited: Dask's returns None as well
        assert [await first.get() for _ in range(10)] == list(range(10))
        found = []
        async for message in second:
            found.append(message)
            if message == 9:
                break
        assert found == list(range(10))
        with pytest.raises(TimeoutError):
            await first.get(timeout="50ms")

    in_async_client(dask_cluster, body)


def test_tasks_wait_for_each_other(dask_cluster: DaskCluster, name: str) -> None:
    async def body(client: Client) -> None:
        queue, lock, total = await Queue(name, maxsize=1), Lock(name), Variable(name)
        await total.set(0)

        async def work() -> None:
            async with lock:
                await total.set(await total.get() + await queue.get())

        workers = [asyncio.create_task(work()) for _ in range(10)]
        for _ in range(10):
            await queue.put(1)
        await asyncio.gather(*workers)
        assert await total.get() == 10

    in_async_client(dask_cluster, body)


@pytest.mark.parametrize("pause_s", [0, 0.0002, 0.0005, 0.001, 0.002, 0.005])
def test_a_getter_that_gives_up_eats_no_item(dask_cluster: DaskCluster, name: str, pause_s: float) -> None:
    async def body(client: Client) -> None:
        queue, taken = await Queue(name), []
        for item in range(30):
            getting = asyncio.create_task(queue.get())
            await asyncio.sleep(0.005)
            await queue.put(item)
            await asyncio.sleep(pause_s)
            getting.cancel()
            try:
                taken.append(await getting)
            except asyncio.CancelledError:
                taken.append(await queue.get(timeout=5))
        assert taken == list(range(30))
        assert await queue.qsize() == 0

    in_async_client(dask_cluster, body)


@pytest.mark.parametrize("pause_s", [0, 0.0005, 0.001, 0.002])
def test_an_acquirer_that_gives_up_holds_nothing(
    dask_cluster: DaskCluster, name: str, pause_s: float
) -> None:
    async def body(client: Client) -> None:
        lock, other = Lock(name), Lock(name)
        for _ in range(30):
            acquiring = asyncio.create_task(lock.acquire())
            await asyncio.sleep(pause_s)
            acquiring.cancel()
            await asyncio.wait([acquiring])
            if not acquiring.cancelled():
                await lock.release()
            assert await other.acquire(timeout=5), "the one that was cancelled holds it"
            await other.release()

    in_async_client(dask_cluster, body)


def test_a_lease_belongs_to_the_task_that_asked_for_it(dask_cluster: DaskCluster, name: str) -> None:
    async def body(client: Client) -> None:
        lock, seats, both_have_one = Lock(name), Semaphore(2, name), asyncio.Barrier(2)

        async def work() -> None:
            # wait_for and gather may await what they are given in tasks of their own.
            assert await asyncio.wait_for(seats.acquire(), 5)
            await both_have_one.wait()
            (released,) = await asyncio.gather(seats.release())
            assert released

        await asyncio.gather(work(), work())
        assert await seats.get_value() == 0

        async def hold(acquiring: Awaitable[Any]) -> None:
            await acquiring
            assert await asyncio.create_task(release(lock)), "a clean-up in a task of its own"

        await hold(lock.acquire())
        await hold(lock.__aenter__())
        assert not await lock.locked()

    async def release(lock: Lock) -> bool:
        return bool(await lock.release())

    in_async_client(dask_cluster, body)


def test_an_address_is_enough(raftcoord_cluster: LocalCluster, name: str) -> None:
    async def body() -> Any:
        queue = Queue(name, address=raftcoord_cluster.address)
        await queue.put(1)
        return await queue.get(timeout=5)

    assert asyncio.run(body()) == 1
