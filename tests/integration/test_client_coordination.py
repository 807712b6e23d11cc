"""Events, semaphores, multilocks, rwlocks, rlocks, claims, topics and updates on three real replicas."""

from __future__ import annotations

import asyncio
import itertools
import pickle
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from processes import eventually

import raftcoord
from raftcoord import aio
from raftcoord.testing.local_cluster import LocalCluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[raftcoord.Client]:
    with raftcoord.Client(cluster.address, name="main") as client:
        yield client


def two(cluster: LocalCluster, play: Callable[[aio.Client, aio.Client], Coroutine[Any, Any, None]]) -> None:
    """Play a scenario with two asyncio clients."""

    async def run() -> None:
        async with (
            aio.Client(cluster.address, name="one", set_as_default=False) as one,
            aio.Client(cluster.address, name="other", set_as_default=False) as other,
        ):
            await play(one, other)

    asyncio.run(asyncio.wait_for(run(), 60))


def test_an_event_wakes_all_who_wait(cluster: LocalCluster) -> None:
    async def play(one: aio.Client, other: aio.Client) -> None:
        here, there = aio.Event("start", one), aio.Event("start", other)
        waiting = [asyncio.ensure_future(event.wait("20s")) for event in [here, there] * 5]
        assert not await here.wait("100ms")
        assert not await here.is_set()
        assert await there.set()
        assert await asyncio.gather(*waiting) == [True] * 10
        assert not await here.set()
        assert await here.wait(0)
        assert await here.clear()
        assert not await there.is_set()

    two(cluster, play)


def test_a_semaphore_is_never_overbooked(client: raftcoord.Client) -> None:
    shared = raftcoord.Semaphore(3, "seats")
    inside: list[int] = []
    most = []

    def work(number: int) -> None:
        semaphore = shared if number % 2 else raftcoord.Semaphore(3, "seats")
        for _ in range(10):
            with semaphore:
                inside.append(number)
                most.append(len(inside))
                assert semaphore.get_value() <= 3
                inside.remove(number)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert max(most) <= 3
    assert len(most) == 80
    assert shared.get_value() == 0
    with pytest.raises(RuntimeError):
        shared.release()


def test_a_semaphore_has_one_bound_until_it_is_closed(cluster: LocalCluster) -> None:
    async def play(one: aio.Client, other: aio.Client) -> None:
        here, there = aio.Semaphore(1, "bound", one), aio.Semaphore(1, "bound", other)
        async with here:
            with pytest.raises(ValueError, match="max_leases"):
                await aio.Semaphore(2, "bound", other).acquire()
            assert not await there.acquire(0)
            waiting = asyncio.ensure_future(there.acquire())
            assert not await here.acquire("50ms")
            await here.close()
            with pytest.raises(raftcoord.SemaphoreClosed):
                await waiting
        with pytest.raises(raftcoord.SemaphoreClosed):
            await there.acquire()
        assert await aio.Semaphore(2, "bound", other).acquire(0)

    two(cluster, play)


def test_philosophers_who_take_their_forks_at_once_all_eat(cluster: LocalCluster) -> None:
    async def play(one: aio.Client, other: aio.Client) -> None:
        in_use: set[str] = set()

        async def philosopher(number: int) -> None:
            forks = [f"fork-{number}", f"fork-{(number + 1) % 5}"]
            multilock = aio.MultiLock(forks, one if number % 2 else other)
            for _ in range(10):
                async with multilock:
                    assert not in_use & set(forks)
                    in_use.update(forks)
                    await asyncio.sleep(0)
                    in_use.difference_update(forks)

        await asyncio.gather(*map(philosopher, range(5)))

    two(cluster, play)


def test_a_multilock_takes_as_many_as_it_is_asked_to(cluster: LocalCluster) -> None:
    async def play(one: aio.Client, other: aio.Client) -> None:
        names = [("gpu", number) for number in range(4)]
        here, there = aio.MultiLock(names, one), aio.MultiLock(names, other)
        assert await here.acquire(num_locks=3)
        assert here.names_held == (("gpu", 0), ("gpu", 1), ("gpu", 2))
        assert not await there.acquire(timeout="50ms", num_locks=2)
        assert not await there.acquire(blocking=False)
        assert await there.acquire(num_locks=1)
        assert there.names_held == (("gpu", 3),)
        assert there.fence > here.fence
        holders = await there.holders()
        assert [holders[name].name for name in names] == ["one", "one", "one", "other"]
        both = asyncio.ensure_future(there.acquire(num_locks=2))
        await here.release()
        assert await both
        await there.release()
        await there.release()
        assert await here.holders() == {}

    two(cluster, play)


def test_readers_share_and_a_writer_that_waits_is_not_overtaken(cluster: LocalCluster) -> None:
    async def play(one: aio.Client, other: aio.Client) -> None:
        here, there = aio.RWLock("table", one), aio.RWLock("table", other)
        done: list[str] = []

        async def write() -> None:
            async with there.write():
                assert await here.status() == (1, 0, 2)
                done.append("write")

        async def read(number: int) -> None:
            async with here.read():
                done.append(f"read {number}")

        async with here.read(), there.read("5s"):
            assert await here.status() == (0, 2, 0)
            tasks = [asyncio.ensure_future(write())]
            await until(here, 1)
            for number in range(2):
                tasks.append(asyncio.ensure_future(read(number)))
                await until(here, 2 + number)
            assert not await there.acquire_read(blocking=False)
            assert not await there.acquire_write(timeout="50ms")
        await asyncio.gather(*tasks)
        assert done[0] == "write"
        assert sorted(done[1:]) == ["read 0", "read 1"]
        assert not await here.locked()
        async with there.write():
            with pytest.raises(raftcoord.CallTimeout):
                async with here.read("50ms"):
                    raise AssertionError

    async def until(lock: aio.RWLock, waiting: int) -> None:
        for _ in range(1000):
            if (await lock.status()).waiting == waiting:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(await lock.status())

    two(cluster, play)


def test_an_rwlock_among_threads(client: raftcoord.Client) -> None:
    lock = raftcoord.RWLock("threads")
    state = {"readers": 0, "writers": 0}
    seen = []

    def work(number: int) -> None:
        for turn in range(8):
            if (number + turn) % 4:
                with lock.read():
                    state["readers"] += 1
                    seen.append((state["readers"], state["writers"]))
                    state["readers"] -= 1
            else:
                with lock.write() as same:
                    assert same is lock
                    state["writers"] += 1
                    seen.append((state["readers"], state["writers"]))
                    state["writers"] -= 1

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))
    assert all(writers == 0 or (readers, writers) == (0, 1) for readers, writers in seen)
    assert len(seen) == 48


def test_an_rlock_is_the_threads_that_took_it(client: raftcoord.Client) -> None:
    lock = raftcoord.RLock("deep")

    def other() -> tuple[bool, str]:
        granted = lock.acquire(blocking=False)
        try:
            lock.release()
        except raftcoord.NotHolder:
            return granted, "refused"
        return granted, "released"

    with lock:
        with lock:
            fence = lock.fence
            with ThreadPoolExecutor(1) as threads:
                assert threads.submit(other).result() == (False, "refused")
        assert lock.fence == fence
        assert not raftcoord.Lock("deep").acquire(blocking=False), "the same lock in the store"
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(other).result() == (True, "released")
    assert not lock.locked()


def test_who_holds_a_lock_and_who_waits(cluster: LocalCluster, client: raftcoord.Client) -> None:
    lock = raftcoord.Lock("asked")
    assert lock.holder() is None
    assert lock.waiters() == []
    second = raftcoord.Client(cluster.address, name="second", set_as_default=False)
    with ThreadPoolExecutor(2) as threads, lock:
        waiting = [threads.submit(raftcoord.Lock("asked", second).acquire) for _ in range(2)]
        assert eventually(lambda: len(lock.waiters()) == 2)
        assert [info.name for info in lock.waiters()] == ["second", "second"]
        assert lock.holder() == raftcoord.ClientInfo(client.session_id or 0, "main")
        lock.release()
        assert eventually(lambda: len(lock.waiters()) == 1)
        holder = lock.holder()
        assert holder is not None
        assert holder.name == "second"
        second.close()
        granted, ended = sorted(waiting, key=lambda future: future.exception() is not None)
        assert granted.result()
        assert isinstance(ended.exception(), raftcoord.SessionLost)
        assert lock.acquire(timeout="5s")


def test_a_claim_is_handed_out_again_until_its_item_is_dead(cluster: LocalCluster) -> None:
    async def play(one: aio.Client, other: aio.Client) -> None:
        queue = aio.Queue("jobs", client=one, deliveries_max=3, dead_letter="dead jobs")
        await queue.put_many(["poison", "good"])
        for delivery in (1, 2, 3):
            with pytest.raises(ZeroDivisionError):
                await fail(queue, delivery)
        assert await aio.Queue("dead jobs", client=other).get("5s") == "poison"
        async with queue.claim() as claim:
            assert (claim.value, claim.deliveries) == ("good", 1)
            assert await queue.qsize() == 0
            with pytest.raises(raftcoord.CallTimeout):
                await queue.claim("50ms")
        with pytest.raises(raftcoord.CallTimeout):
            await queue.claim(0)

    async def fail(queue: aio.Queue, delivery: int) -> None:
        async with queue.claim("5s") as claim:
            assert (claim.value, claim.deliveries) == ("poison", delivery)
            raise ZeroDivisionError

    two(cluster, play)


def test_the_claims_of_a_client_that_ends_go_back(cluster: LocalCluster, client: raftcoord.Client) -> None:
    queue = raftcoord.Queue("handed back")
    queue.put_many([1, 2, 3])
    other = raftcoord.Client(cluster.address, set_as_default=False)
    claims = [raftcoord.Queue("handed back", client=other).claim() for _ in range(2)]
    claims[1].ack()
    with queue.claim() as third:
        assert (third.value, third.deliveries) == (3, 1)
    other.close()
    with queue.claim("5s") as first:
        assert (first.value, first.deliveries) == (1, 2)
    assert queue.qsize() == 0
    with pytest.raises(raftcoord.LockLost):
        claims[0].ack()


def test_values_end_with_their_time_or_their_session(cluster: LocalCluster, client: raftcoord.Client) -> None:
    short, bound, kept = (raftcoord.Variable(name) for name in ("short", "bound", "kept"))
    started = time.monotonic()
    short.set("here", ttl="400ms")
    assert short.get(0) == "here"
    changes = short.watch("5s")
    assert [next(changes).value, next(changes).value] == ["here", raftcoord.UNSET]
    assert 0.35 < time.monotonic() - started < 3
    with raftcoord.Client(cluster.address, set_as_default=False) as other:
        raftcoord.Variable("bound", other).set("mine", ephemeral=True)
        raftcoord.Variable("kept", other).set("mine", ephemeral=True)
        kept.set("ours")
        assert bound.get(0) == "mine"
    with pytest.raises(raftcoord.CallTimeout):
        bound.get(0)
    assert kept.get(0) == "ours"


def test_updates_from_many_threads_lose_nothing(client: raftcoord.Client) -> None:
    variable = raftcoord.Variable("log")
    threads_seen = set()

    def append(number: int) -> None:
        def add(items: list[int]) -> list[int]:
            threads_seen.add(threading.get_ident())
            return [*items, number]

        new = variable.update(add, default=[])
        assert new[-1] == number

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(append, range(40)))
    assert sorted(variable.get()) == list(range(40))
    assert len(threads_seen) <= 4
    variable.delete()
    with pytest.raises(raftcoord.CallTimeout):
        variable.update(lambda items: items, "100ms")


def test_subscriptions_begin_where_they_are_told(client: raftcoord.Client) -> None:
    pub = raftcoord.Pub("news", retention_count=5)
    early = raftcoord.Sub("news")
    first = pub.put(0)
    assert pub.put_many(range(1, 10)) == range(first + 1, first + 10)
    late = raftcoord.Sub("news")
    oldest, exact = raftcoord.Sub("news", "start"), raftcoord.Sub("news", first + 7)
    all_of_it = raftcoord.Sub("news", first)
    assert [exact.get(0) for _ in range(3)] == [7, 8, 9]
    assert list(itertools.islice(oldest, 5)) == [5, 6, 7, 8, 9]
    assert oldest.missed == 0
    assert [all_of_it.get(0) for _ in range(5)] == [5, 6, 7, 8, 9]
    assert all_of_it.missed == 5
    assert (early.get("5s"), early.missed) == (5, 5), "it read nothing before"
    with pytest.raises(raftcoord.CallTimeout):
        late.get("50ms")
    pub.put("last")
    assert late.get("5s") == "last"
    status = pub.status()
    assert (status.first_offset, status.next_offset) == (first + 6, first + 11)


def test_a_gap_is_told_and_messages_grow_old(client: raftcoord.Client) -> None:
    told: list[int] = []
    sub = raftcoord.Sub("aging", on_missed=told.append)
    pub = raftcoord.Pub("aging", retention_age="300ms")
    pub.put_many("abc")
    assert sub.get(0) == "a"
    assert eventually(lambda: pub.status().bytes == 0, within_s=5)
    pub.put("d")
    assert [sub.get(0) for _ in range(3)] == ["b", "c", "d"], "fetched in time"
    pub.put_many("ef")
    assert eventually(lambda: pub.status().bytes == 0, within_s=5)
    pub.put("g")
    assert sub.get("5s") == "g"
    assert sub.missed == 2
    assert eventually(lambda: told == [2])


def test_a_deleted_topic_ends_subscriptions_and_starts_anew(cluster: LocalCluster) -> None:
    async def play(one: aio.Client, other: aio.Client) -> None:
        pub = aio.Pub("gone", one)
        await pub.put("old")
        waiting = await aio.Sub("gone", client=other)
        idle = await aio.Sub("gone", client=other)
        getting = asyncio.ensure_future(waiting.get())
        await asyncio.sleep(0.1)
        assert await pub.delete()
        assert not await pub.delete()
        with pytest.raises(raftcoord.TopicDeleted):
            await getting
        await pub.put("new")
        with pytest.raises(raftcoord.TopicDeleted):
            await idle.get("5s")
        assert await (await aio.Sub("gone", "start", other)).get(0) == "new"

    two(cluster, play)


def test_a_pickled_subscription_goes_on_where_it_stands(client: raftcoord.Client) -> None:
    sub = raftcoord.Sub("moving")
    raftcoord.Pub("moving").put_many(range(4))
    assert sub.get(0) == 0
    moved = pickle.loads(pickle.dumps(sub))  # noqa: S301 - our own
    assert [moved.get(0) for _ in range(3)] == [1, 2, 3]
    assert sub.get(0) == 1
