"""Leases, claims, waits and subscriptions while leaders, holders and waiters are killed or give up."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest
from processes import eventually

import raftcoord
from raftcoord import aio
from raftcoord.testing.local_cluster import LocalCluster


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


def two(cluster: LocalCluster, play: Callable[[aio.Client, aio.Client], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with (
            aio.Client(cluster.address, set_as_default=False) as one,
            aio.Client(cluster.address, set_as_default=False) as other,
        ):
            await play(one, other)

    asyncio.run(asyncio.wait_for(run(), 60))


async def kill_leader(cluster: LocalCluster) -> None:
    await asyncio.get_running_loop().run_in_executor(None, lambda: cluster.kill(cluster.leader()))


def waiters(cluster: LocalCluster) -> int:
    return int(cluster.status(cluster.leader())["waiters"])


def objects(cluster: LocalCluster) -> dict[str, int]:
    counts: dict[str, int] = cluster.status(cluster.leader())["objects"]
    return {kind: count for kind, count in counts.items() if count and kind != "answers"}


def test_leases_and_waits_survive_the_leader(cluster: LocalCluster) -> None:
    async def play(one: aio.Client, other: aio.Client) -> None:
        held: list[Any] = [
            aio.Semaphore(1, "s", one),
            aio.MultiLock(["a", "b"], one),
            aio.RLock("r", one),
            aio.RWLock("rw", one),
        ]
        claims, event = aio.Queue("q", client=one), aio.Event("e", one)
        await held[3].acquire_write()
        for handle in held[:3]:
            await handle.acquire()
        fences = [handle.fence for handle in held]
        await claims.put("item")
        claim = await claims.claim()
        waiting: list[Awaitable[Any]] = [
            asyncio.ensure_future(aio.Semaphore(1, "s", other).acquire()),
            asyncio.ensure_future(aio.MultiLock(["b", "c"], other).acquire()),
            asyncio.ensure_future(aio.Lock("r", other).acquire()),
            asyncio.ensure_future(aio.RWLock("rw", other).acquire_read()),
            asyncio.ensure_future(aio.Queue("q", client=other).claim()),
            asyncio.ensure_future(aio.Event("e", other).wait()),
            asyncio.ensure_future(aio.Sub("t", 0, other).get()),
        ]
        assert await asyncio.to_thread(eventually, lambda: waiters(cluster) == 7)
        await kill_leader(cluster)
        assert await aio.Semaphore(1, "s", one).get_value() == 1
        assert [handle.fence for handle in held] == fences
        assert not any(task.done() for task in waiting)  # type: ignore[attr-defined]
        for handle in reversed(held):
            await handle.release()
        await claim.nack()
        await event.set()
        await aio.Pub("t", one).put("news")
        *granted, again, was_set, news = await asyncio.gather(*waiting)
        assert granted == [True] * 4
        assert (again.value, again.deliveries) == ("item", 2)
        assert (was_set, news) == (True, "news")
        assert waiters(cluster) == 0

    two(cluster, play)


HOLDER = """
import sys, time, raftcoord
raftcoord.Client(sys.argv[1], session_ttl="1s", name="holder")
semaphore, multilock = raftcoord.Semaphore(1, "s"), raftcoord.MultiLock(["a", "b"])
rwlock, queue = raftcoord.RWLock("rw"), raftcoord.Queue("q")
ephemeral = raftcoord.Variable("v")
if sys.argv[2] == "hold":
    semaphore.acquire(), multilock.acquire(), rwlock.acquire_write()
    claim = queue.claim()
    ephemeral.set("alive", ephemeral=True)
    print("ready", flush=True)
    time.sleep(60)
else:
    print("ready", flush=True)
    import threading
    threading.Thread(target=rwlock.acquire_read).start()
    threading.Thread(target=multilock.acquire).start()
    semaphore.acquire()
"""


def start(cluster: LocalCluster, what: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, cluster.address, what], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_what_a_killed_process_held_passes_on_after_its_time(cluster: LocalCluster) -> None:
    with raftcoord.Client(cluster.address, set_as_default=False) as client:
        queue = raftcoord.Queue("q", client=client)
        queue.put("item")
        holder = start(cluster, "hold")
        semaphore = raftcoord.Semaphore(1, "s", client)
        multilock = raftcoord.MultiLock(["b", "c"], client)
        rwlock = raftcoord.RWLock("rw", client)
        assert raftcoord.Variable("v", client).get("5s") == "alive"
        assert multilock.holders()["b"].name == "holder"
        assert not semaphore.acquire(0)
        end(holder)
        started = time.monotonic()
        assert semaphore.acquire("10s")
        assert 0.3 < time.monotonic() - started < 5
        assert multilock.acquire(blocking=False)
        assert rwlock.acquire_write(blocking=False)
        claim = queue.claim(0)
        assert (claim.value, claim.deliveries) == ("item", 2)
        with pytest.raises(raftcoord.CallTimeout):
            raftcoord.Variable("v", client).get(0)


def test_a_waiter_that_died_is_never_granted(cluster: LocalCluster) -> None:
    with raftcoord.Client(cluster.address, set_as_default=False) as client:
        semaphore = raftcoord.Semaphore(1, "s", client)
        multilock = raftcoord.MultiLock(["a"], client)
        rwlock = raftcoord.RWLock("rw", client)
        semaphore.acquire()
        multilock.acquire()
        rwlock.acquire_write()
        dying = start(cluster, "wait")
        assert eventually(lambda: waiters(cluster) == 3)
        end(dying)
        assert eventually(lambda: waiters(cluster) == 0)
        for release in (semaphore.release, multilock.release, rwlock.release):
            release()
        assert semaphore.get_value() == 0
        assert multilock.holders() == {}
        assert not rwlock.locked()


def test_two_subscribers_get_ten_messages_in_order_across_the_death_of_the_leader(
    cluster: LocalCluster,
) -> None:
    async def play(one: aio.Client, other: aio.Client) -> None:
        async def read(sub: aio.Sub) -> list[int]:
            return [await sub.get("20s") for _ in range(10)]

        subs = [await aio.Sub("ten", client=client) for client in (one, other)]
        reading = [asyncio.ensure_future(read(sub)) for sub in subs]
        pub = aio.Pub("ten", one)
        for number in range(10):
            if number == 5:
                await kill_leader(cluster)
            await pub.put(number)
        assert await asyncio.gather(*reading) == [list(range(10))] * 2
        assert [sub.missed for sub in subs] == [0, 0]

    two(cluster, play)


def test_a_subscriber_of_followers_gets_all_in_order_while_replicas_are_killed_and_stopped(
    cluster: LocalCluster,
) -> None:
    async def play(one: aio.Client, other: aio.Client) -> None:
        pub = aio.Pub("followed", one)
        first = await pub.put("first")
        sub = await aio.Sub("followed", client=other, read_from_followers=True)

        def serving() -> int:
            follower = other.core.follower_reads._follower
            assert follower is not None
            return cluster.addresses.index(follower.connection.address)

        async def put(numbers: range) -> None:
            for number in numbers:
                await pub.put(number)
            assert [await sub.get("20s") for _ in numbers] == list(numbers)

        await put(range(10))
        killed = serving()
        assert killed != cluster.leader()
        await asyncio.to_thread(cluster.kill, killed)
        await put(range(10, 20))
        await asyncio.to_thread(cluster.restart, killed)
        paused = serving()
        await asyncio.to_thread(cluster.pause, paused)
        await put(range(20, 30))
        assert serving() != paused
        await asyncio.to_thread(cluster.resume, paused)
        await kill_leader(cluster)
        await put(range(30, 40))
        assert (sub.missed, sub.offset) == (0, first + 41)

    two(cluster, play)


def test_a_subscription_outlives_its_session(cluster: LocalCluster) -> None:
    async def play(one: aio.Client, other: aio.Client) -> None:
        pub, sub = aio.Pub("outlived", one), await aio.Sub("outlived", client=other)
        reading = asyncio.ensure_future(collect(sub, 30))
        for number in range(30):
            await pub.put(number)
            if number % 10 == 5:
                other.core.on_session_lost(other.core.session, "the test says so")
        assert await reading == list(range(30))

    async def collect(sub: aio.Sub, count: int) -> list[int]:
        return [await sub.get("20s") for _ in range(count)]

    two(cluster, play)


def test_a_guarded_block_ends_when_nobody_can_be_reached(cluster: LocalCluster) -> None:
    killed_at: list[float] = []

    async def work(client: aio.Client) -> None:
        async with aio.Lock("guarded", client).guard():
            for replica in range(3):
                cluster.kill(replica)
            killed_at.append(time.monotonic())
            await asyncio.sleep(60)

    async def run() -> None:
        async with aio.Client(cluster.address, session_ttl="1s", set_as_default=False) as client:
            with pytest.raises(raftcoord.LockLost):
                await work(client)
            assert time.monotonic() - killed_at[0] < 3

    asyncio.run(asyncio.wait_for(run(), 30))


def test_calls_that_are_given_up_leave_nothing_behind(cluster: LocalCluster) -> None:
    async def play(one: aio.Client, other: aio.Client) -> None:
        semaphore, multilock = aio.Semaphore(1, "s", one), aio.MultiLock(["a", "b"], one)
        rwlock, lock = aio.RWLock("rw", one), aio.Lock("l", one)
        for handle in (semaphore, multilock, lock):
            await handle.acquire()
        await rwlock.acquire_write()
        before = objects(cluster)
        for round_number in range(3):
            given_up: list[asyncio.Task[Any]] = []
            for _ in range(10):
                given_up += [
                    asyncio.ensure_future(call)
                    for call in (
                        aio.Semaphore(1, "s", other).acquire(),
                        aio.MultiLock(["b", "c"], other).acquire(),
                        aio.RWLock("rw", other).acquire_read(),
                        aio.RLock("l", other).acquire(),
                        aio.Event("e", other).wait(),
                        aio.Sub("t", 0, other).get(),
                        aio.Variable("v", other).update(lambda value: value),
                        _claim(other),
                    )
                ]
            await asyncio.sleep(0.02 * round_number)
            for task in given_up:
                task.cancel()
            await asyncio.wait(given_up)
        assert await asyncio.to_thread(eventually, lambda: waiters(cluster) == 0)
        assert objects(cluster) == before
        await semaphore.release()
        await multilock.release()
        await rwlock.release()
        await lock.release()
        await semaphore.close()
        assert await asyncio.to_thread(eventually, lambda: not objects(cluster)), objects(cluster)

    async def _claim(client: aio.Client) -> aio.Claim:
        return await aio.Queue("q", client=client).claim()

    two(cluster, play)
