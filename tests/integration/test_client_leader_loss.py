"""A client while its leader is killed, stopped or paused, and while no replica is there at all."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import raftcoord
from raftcoord import aio
from raftcoord.testing.local_cluster import LocalCluster

WRITERS = 10
PAUSE_MAX_S = 5.0  # far above what is promised: other processes may keep this machine busy


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


def with_client(
    cluster: LocalCluster, play: Callable[[aio.Client], Coroutine[Any, Any, None]], **options: Any
) -> None:
    async def run() -> None:
        async with aio.Client(cluster.address, set_as_default=False, **options) as client:
            await play(client)

    asyncio.run(asyncio.wait_for(run(), 60))


async def write_while(client: aio.Client, disturb: Callable[[], None]) -> float:
    """Add from many tasks while something happens; each add must count once. Return the longest pause."""
    variable = aio.Variable("counter", client)
    before = await variable.add(0)
    sums: list[int] = []
    finished: list[float] = [time.monotonic()]
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            sums.append(await variable.add(1))
            finished.append(time.monotonic())

    writers = [asyncio.ensure_future(write()) for _ in range(WRITERS)]
    await asyncio.get_running_loop().run_in_executor(None, disturb)
    reached = len(sums) + 10 * WRITERS
    while len(sums) < reached:
        assert not any(writer.done() for writer in writers), [writer for writer in writers if writer.done()]
        await asyncio.sleep(0.01)
    stop.set()
    await asyncio.gather(*writers)
    assert sorted(sums) == list(range(before + 1, before + 1 + len(sums))), "an add was lost or counted twice"
    assert await variable.get() == before + len(sums)
    return max(later - earlier for earlier, later in itertools.pairwise(finished))


@pytest.mark.parametrize("how", ["kill", "stop", "pause"])
def test_calls_go_on_under_the_next_leader_and_count_once(cluster: LocalCluster, how: str) -> None:
    async def play(client: aio.Client) -> None:
        states: list[raftcoord.ClientState] = []
        lock = aio.Lock("kept", client, on_lost=lambda: pytest.fail("the lock was lost"))
        assert await lock.acquire()
        session = client.session_id
        client.add_listener(states.append)
        leader = cluster.leader()

        def disturb() -> None:
            time.sleep(0.2)
            getattr(cluster, how)(leader)

        try:
            pause_s = await write_while(client, disturb)
        finally:
            if how == "pause":
                cluster.resume(leader)
        assert pause_s < PAUSE_MAX_S
        assert client.session_id == session, "the session survives the leader"
        assert states == [raftcoord.ClientState.SUSPENDED, raftcoord.ClientState.CONNECTED]
        assert lock.fence
        await lock.release()

    with_client(cluster, play, session_ttl="6s")


def test_waits_survive_the_leader(cluster: LocalCluster) -> None:
    async def play(client: aio.Client) -> None:
        async with aio.Client(cluster.address, set_as_default=False) as other:
            held = aio.Lock("waited", other)
            await held.acquire()
            lock, queue = aio.Lock("waited", client), aio.Queue("waited", client=client)
            acquiring = asyncio.ensure_future(lock.acquire())
            getting = [asyncio.ensure_future(queue.get()) for _ in range(5)]
            await queue.qsize()
            await asyncio.get_running_loop().run_in_executor(None, cluster.kill, cluster.leader())
            await aio.Queue("waited", client=other).put_many(range(6))
            assert sorted(await asyncio.gather(*getting)) == [0, 1, 2, 3, 4]
            assert not acquiring.done()
            await held.release()
            assert await acquiring
            assert await queue.get() == 5

    with_client(cluster, play)


def test_without_any_replica_calls_end_and_the_lock_is_given_up_in_time(cluster: LocalCluster) -> None:
    async def play(client: aio.Client) -> None:
        lost = asyncio.Event()
        lock = aio.Lock("gone", client, on_lost=lost.set)
        await lock.acquire()
        variable = aio.Variable("gone", client)
        for replica in range(3):
            cluster.kill(replica)
        started = time.monotonic()
        with pytest.raises(raftcoord.RaftcoordError) as failure:
            await variable.set(1, timeout="200ms")
        assert isinstance(failure.value, TimeoutError)
        with pytest.raises(raftcoord.CallTimeout):
            await variable.get(timeout="200ms")
        await lost.wait()
        assert time.monotonic() - started < 2.0
        with pytest.raises(raftcoord.LockLost):
            await lock.release()
        for replica in range(3):
            cluster.restart(replica)
        await variable.set(2)
        assert await variable.get() == 2
        assert await lock.acquire(timeout="10s"), "the old session ends, and its lock passes on"

    with_client(cluster, play, session_ttl="1s")
