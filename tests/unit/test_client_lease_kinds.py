"""What each kind of handle that holds something adds: guards, levels, bounds, names, readers, claims."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from client_peer import Peer, answer, lose_session, ok, play, scripted

from raftcoord import aio
from raftcoord.client.errors import SemaphoreClosed
from raftcoord.protocol.errors import (
    CallTimeout,
    Code,
    LockLost,
    NotHolder,
    QueueClosed,
    RaftcoordError,
)
from raftcoord.protocol.operations import Operation

_O = Operation


# Guards.


def test_a_guard_cancels_its_task_when_the_lock_is_lost() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        reached: list[str] = []

        async def work(handle: Any, guard: Any, entered: asyncio.Event) -> None:
            async with guard as same:
                assert same is handle
                entered.set()
                await asyncio.sleep(60)
                reached.append("the end of the block")

        rwlock, claim = aio.RWLock("n", client), aio.Queue("n", client=client).claim()
        handles: list[Any] = [
            aio.Lock("n", client),
            aio.RLock("n", client),
            aio.Semaphore(1, "n", client),
            aio.MultiLock(["n"], client),
            claim,
        ]
        guards: list[tuple[Any, Any]] = [
            *((handle, handle.guard()) for handle in handles),
            (rwlock, rwlock.guard_read()),
            (rwlock, rwlock.guard_write("5s")),
        ]
        for handle, guard in guards:
            entered = asyncio.Event()
            task = asyncio.ensure_future(work(handle, guard, entered))
            await entered.wait()
            await lose_session(peer, client, session=(client.session_id or 0) + 1)
            with pytest.raises(LockLost) as failure:
                await task
            assert isinstance(failure.value.__cause__, asyncio.CancelledError)
            assert not task.cancelling()
        assert not reached

    play(scenario, Peer())


def test_a_guard_that_ends_in_peace_releases_and_cancels_nobody() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        lock = aio.Lock("n", client)
        async with lock.guard("5s"):
            assert lock.fence == 101
        assert peer.of(_O.LOCK_RELEASE)
        with pytest.raises(ZeroDivisionError):
            async with lock.guard():
                raise ZeroDivisionError
        assert len(peer.of(_O.LOCK_RELEASE)) == 2
        await lose_session(peer, client, session=8)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
        guard = lock.guard()
        async with guard:
            with pytest.raises(RuntimeError, match="one block"):
                async with guard:
                    pass

    play(scenario, Peer())


def test_a_guard_gives_back_as_its_block_does() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        rwlock, queue = aio.RWLock("n", client), aio.Queue("n", client=client)
        async with rwlock.guard_read(), rwlock.guard_write():
            assert rwlock.fence == 102
        assert [r.arguments for r in peer.of(_O.RWLOCK_ACQUIRE)] == [
            [b"\xa1n", s, True] for s in (True, False)
        ]
        assert [r.arguments[1] for r in peer.of(_O.RWLOCK_RELEASE)] == [102, 101]
        async with queue.claim().guard() as claim:
            assert claim.value == "item"
        with pytest.raises(ZeroDivisionError):
            async with queue.claim().guard():
                raise ZeroDivisionError
        async with queue.claim().guard() as claim:
            await claim.nack()
            await lose_session(peer, client, session=8)
            await asyncio.sleep(0)  # nothing is held, and nobody is cancelled
        settled = [r.operation for r in peer.requests if r.operation in (_O.QUEUE_ACK, _O.QUEUE_NACK)]
        assert settled == [_O.QUEUE_ACK, _O.QUEUE_NACK, _O.QUEUE_NACK]

    play(scenario, Peer())


def test_a_guard_does_not_cancel_the_close_of_its_own_client() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        entered = asyncio.Event()

        async def work() -> None:
            async with aio.Lock("other", client).guard():
                entered.set()
                await asyncio.sleep(60)

        other = asyncio.ensure_future(work())
        await entered.wait()
        closed: list[bool] = []

        async def close() -> None:
            async with aio.Lock("n", client).guard():
                await client.close()
                await asyncio.sleep(0)
                closed.append(True)

        with pytest.raises(LockLost):
            await close()
        assert closed
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
        with pytest.raises(LockLost):
            await other

    play(scenario, Peer())


def test_a_guard_that_is_not_granted_in_time_raises() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        with pytest.raises(CallTimeout, match="not to be had in time"):
            async with aio.Lock("n", client).guard(0):
                raise AssertionError

    play(scenario, Peer(answers=scripted({_O.LOCK_ACQUIRE: lambda r: answer(r, Code.HELD)})))


def test_a_cancellation_from_elsewhere_is_not_taken_for_a_loss() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        async def work() -> None:
            async with aio.Lock("n", client).guard():
                entered.set()
                await asyncio.sleep(60)

        for also_lost in (False, True):
            entered = asyncio.Event()
            task = asyncio.ensure_future(work())
            await entered.wait()
            if also_lost:
                client.core.on_session_lost(client.core.session, "test")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            if not also_lost:
                assert peer.of(_O.LOCK_RELEASE)

    play(scenario, Peer())


# RLock.


def test_an_rlock_is_one_lock_in_the_store() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        lock = aio.RLock("r", client)
        async with lock:
            async with lock:
                assert await lock.acquire(blocking=False)
                assert lock.fence == 101
                await lock.release()
            assert not peer.of(_O.LOCK_RELEASE)
        assert [r.operation for r in peer.requests] == [_O.LOCK_ACQUIRE, _O.LOCK_RELEASE]
        with pytest.raises(NotHolder):
            await lock.release()
        with pytest.raises(NotHolder):
            _ = lock.fence

    play(scenario, Peer())


def test_an_rlock_belongs_to_one_task() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        lock = aio.RLock("r", client)
        await lock.acquire()

        async def other() -> None:
            with pytest.raises(NotHolder, match="this task"):
                await lock.release()
            with pytest.raises(NotHolder):
                _ = lock.fence
            assert not await lock.acquire(blocking=False), "the store was asked"

        peer.answers = scripted({_O.LOCK_ACQUIRE: lambda r: answer(r, Code.HELD)})
        await asyncio.ensure_future(other())
        assert lock.fence == 101
        await lock.release()
        assert len(peer.of(_O.LOCK_RELEASE)) == 1

    play(scenario, Peer())


def test_every_level_of_a_lost_rlock_raises() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        lock = aio.RLock("r", client)
        await lock.acquire()
        await lock.acquire()
        await lose_session(peer, client, session=8)
        with pytest.raises(LockLost):
            await lock.acquire()
        with pytest.raises(LockLost):
            _ = lock.fence
        for _ in range(2):
            with pytest.raises(LockLost):
                await lock.release()
        with pytest.raises(NotHolder):
            await lock.release()
        assert await lock.acquire()
        assert lock.fence
        await lock.release()

    play(scenario, Peer())


# Semaphore, MultiLock, RWLock.


def test_a_semaphore_that_is_closed_is_not_used_any_more() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        semaphore = aio.Semaphore(2, "s", client)
        async with semaphore:
            await semaphore.close()
        with pytest.raises(RuntimeError, match="closed"):
            await semaphore.acquire()
        assert not peer.of(_O.SEMAPHORE_RELEASE), "the lease was void"
        assert len(peer.of(_O.SEMAPHORE_ACQUIRE)) == 1
        told = aio.Semaphore(2, "s", client)
        peer.answers = scripted({_O.SEMAPHORE_ACQUIRE: lambda r: answer(r, Code.CLOSED)})
        for _ in range(2):
            with pytest.raises(SemaphoreClosed):
                await told.acquire()
        assert len(peer.of(_O.SEMAPHORE_ACQUIRE)) == 2
        unaware = aio.Semaphore(2, "s", client)
        peer.answers = scripted({_O.SEMAPHORE_RELEASE: lambda r: answer(r, Code.NOT_HOLDER)})
        await unaware.acquire()
        with pytest.raises(SemaphoreClosed, match="void"):
            await unaware.release()

    play(scenario, Peer())


def test_a_semaphore_with_another_bound_is_a_value_error() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        with pytest.raises(ValueError, match="another max_leases"):
            await aio.Semaphore(2, "s", client).acquire()
        assert peer.requests[0].arguments == [b"\xa1s", 2, True]

    play(scenario, Peer(answers=lambda r: answer(r, Code.CONFLICT, [3])))


def test_a_multilock_says_what_it_holds() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        multilock = aio.MultiLock(["a", ("b", 1), "a", b"c"], client)
        assert multilock.names == ("a", ("b", 1), b"c")
        assert not multilock.locked()
        assert await multilock.acquire(num_locks=2)
        keys = peer.requests[0].arguments[0]
        assert peer.requests[0].arguments == [keys, 2, True]
        assert len(keys) == 3
        assert multilock.names_held == (("b", 1),), "see the script"
        assert multilock.locked()
        await multilock.release()
        assert peer.of(_O.MULTILOCK_RELEASE)[0].arguments == [77]
        assert not multilock.locked()
        with pytest.raises(NotHolder):
            _ = multilock.names_held

    def grant(request: Any) -> Any:
        return ok(request, [77, [request.arguments[0][1]]])

    play(scenario, Peer(answers=scripted({_O.MULTILOCK_ACQUIRE: grant})))


def test_an_rwlock_asks_for_what_the_block_does() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        rwlock = aio.RWLock("rw", client)
        async with rwlock.read() as same, rwlock.write("5s"):
            assert same is rwlock
            assert rwlock.fence == 102
        assert await rwlock.acquire_read(blocking=False)
        await rwlock.release()
        name = b"\xa2rw"
        assert [r.arguments for r in peer.of(_O.RWLOCK_ACQUIRE)] == [
            [name, True, True],
            [name, False, True],
            [name, True, False],
        ]
        assert [r.arguments[1] for r in peer.of(_O.RWLOCK_RELEASE)] == [102, 101, 105]
        peer.answers = scripted({_O.RWLOCK_ACQUIRE: lambda r: answer(r, Code.HELD)})
        with pytest.raises(CallTimeout, match="rwlock 'rw'"):
            async with rwlock.read(0):
                raise AssertionError
        peer.answers = scripted({_O.RWLOCK_RELEASE: lambda r: answer(r, Code.NOT_HOLDER)})
        with pytest.raises(RaftcoordError):
            async with rwlock.read():
                pass
        with pytest.raises(KeyError):
            async with rwlock.write():
                raise KeyError
        peer.answers = scripted({_O.RWLOCK_STATUS: lambda r: ok(r, [None, [4, 5], 6])})
        assert await rwlock.status() == (0, 2, 6)
        assert await rwlock.locked()

    play(scenario, Peer())


# Claims.


def test_a_claim_is_settled_once_by_its_block_or_inside() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        queue = aio.Queue("q", 9, client, deliveries_max=3, dead_letter="dead")
        async with queue.claim("5s") as claim:
            assert (claim.value, claim.deliveries, claim.fence) == ("item", 1, 101)
        assert peer.requests[0].arguments == [b"\xa1q", 9, [3, b"\xa4dead"], True]
        with pytest.raises(NotHolder):
            await claim.ack()
        with pytest.raises(ZeroDivisionError):
            async with queue.claim():
                raise ZeroDivisionError
        async with queue.claim() as claim:
            await claim.nack()
        claim = await queue.claim(0)
        assert await claim is claim
        await claim.ack()
        settled = [r for r in peer.requests if r.operation in (_O.QUEUE_ACK, _O.QUEUE_NACK)]
        assert [r.operation for r in settled] == [_O.QUEUE_ACK, _O.QUEUE_NACK, _O.QUEUE_NACK, _O.QUEUE_ACK]
        assert len(peer.of(_O.QUEUE_CLAIM)) == 4
        with pytest.raises(RuntimeError, match="not taken"):
            _ = queue.claim().value
        assert not peer.of(_O.CONFIRM), "a claim is no loan"
        peer.answers = scripted({_O.QUEUE_ACK: lambda r: answer(r, Code.NOT_HOLDER)})
        with pytest.raises(QueueClosed, match="void"):
            async with queue.claim():
                pass
        peer.answers = scripted({_O.QUEUE_CLAIM: lambda r: answer(r, Code.EMPTY)})
        with pytest.raises(CallTimeout):
            await queue.claim(0)

    play(scenario, Peer())


def test_a_claim_whose_task_is_cancelled_is_put_back() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        async def work() -> None:
            async with aio.Queue("q", client=client).claim():
                await asyncio.sleep(60)

        task = asyncio.ensure_future(work())
        await peer.until(lambda peer: bool(peer.of(_O.QUEUE_CLAIM)))
        await aio.Variable("x", client).set(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert peer.requests[-1].operation is _O.QUEUE_NACK

    play(scenario, Peer())


def test_who_holds_and_who_waits_is_told_by_name() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        lock = aio.Lock("l", client)
        assert await lock.holder() == aio.ClientInfo(4, "worker-4")
        assert await lock.waiters() == [(7, "worker-7"), (5, "worker-5"), (7, "worker-7")]
        peer.answers = scripted({_O.LOCK_STATUS: lambda r: ok(r, None), _O.LOCK_WAITERS: lambda r: ok(r, [])})
        before = len(peer.requests)
        assert await lock.holder() is None
        assert await lock.waiters() == []
        assert len(peer.requests) == before + 2

    script = {
        _O.LOCK_STATUS: lambda r: ok(r, [4, 99, 3]),
        _O.LOCK_WAITERS: lambda r: ok(r, [7, 5, 7]),
        _O.SESSION_NAMES: lambda r: ok(r, [f"worker-{session}" for session in r.arguments[0]]),
    }
    play(scenario, Peer(answers=scripted(script)))
