"""What handles hold: whose it is, what becomes of it when nobody wants it, and how a loss is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from client_peer import Peer, lose_session, nothing, ok, play, scripted, waiting

from raftcoord import aio
from raftcoord.protocol.errors import (
    CallTimeout,
    Code,
    LockLost,
    NotHolder,
    OutcomeUnknown,
    SessionLost,
)
from raftcoord.protocol.operations import Operation

_O = Operation

Acquire = Callable[[aio.Client], Coroutine[Any, Any, Any]]


async def claim(client: aio.Client) -> aio.Claim:
    return await aio.Queue("n", client=client).claim("30ms")


ACQUIRES: list[tuple[Operation, Acquire, Any, Operation, list[Any]]] = [
    # what asks, how, what is granted, what gives it back
    (
        _O.LOCK_ACQUIRE,
        lambda c: aio.Lock("n", c).acquire(timeout="30ms"),
        17,
        _O.LOCK_RELEASE,
        [b"\xa1n", 17],
    ),
    (
        _O.LOCK_ACQUIRE,
        lambda c: aio.RLock("n", c).acquire(timeout="30ms"),
        17,
        _O.LOCK_RELEASE,
        [b"\xa1n", 17],
    ),
    (
        _O.SEMAPHORE_ACQUIRE,
        lambda c: aio.Semaphore(2, "n", c).acquire("30ms"),
        17,
        _O.SEMAPHORE_RELEASE,
        [b"\xa1n", 17],
    ),
    (
        _O.RWLOCK_ACQUIRE,
        lambda c: aio.RWLock("n", c).acquire_read(timeout="30ms"),
        17,
        _O.RWLOCK_RELEASE,
        [b"\xa1n", 17],
    ),
    (
        _O.MULTILOCK_ACQUIRE,
        lambda c: aio.MultiLock(["n"], c).acquire(timeout="30ms"),
        [17, [b"\xa1n"]],
        _O.MULTILOCK_RELEASE,
        [17],
    ),
    (_O.QUEUE_CLAIM, claim, [17, b"\x01", 1], _O.RETURN, [1]),
]
IDS = ["lock", "rlock", "semaphore", "rwlock", "multilock", "claim"]


@pytest.mark.parametrize(("ask", "acquire", "grant", "undo", "arguments"), ACQUIRES, ids=IDS)
def test_what_a_cancelled_task_was_granted_is_given_back(
    ask: Operation, acquire: Acquire, grant: Any, undo: Operation, arguments: list[Any]
) -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        task = asyncio.ensure_future(acquire(client))
        await peer.until(lambda peer: bool(peer.of(ask)))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await peer.until(lambda peer: bool(peer.of(undo)))
        assert peer.of(_O.CANCEL)[0].arguments == [1]
        assert peer.of(undo)[0].arguments == arguments

    play(scenario, Peer(answers=scripted({ask: waiting, _O.CANCEL: lambda r: ok(r, [0, grant])})))


@pytest.mark.parametrize(("ask", "acquire", "grant", "undo", "arguments"), ACQUIRES, ids=IDS)
def test_what_meets_the_cancellation_of_its_task_is_given_back(
    ask: Operation, acquire: Acquire, grant: Any, undo: Operation, arguments: list[Any]
) -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        task = asyncio.ensure_future(acquire(client))
        await peer.until(lambda peer: bool(peer.of(ask)))
        client.core.exchange.on_answer(1, Code.OK, grant)  # delivered, and the task cancelled before it runs
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await peer.until(lambda peer: bool(peer.of(undo)))
        assert not peer.of(_O.CANCEL)
        assert peer.of(undo)[0].arguments == arguments

    play(scenario, Peer(answers=scripted({ask: nothing})))


@pytest.mark.parametrize(("ask", "acquire", "grant", "undo", "arguments"), ACQUIRES, ids=IDS)
def test_what_is_granted_after_its_time_is_given_back(
    ask: Operation, acquire: Acquire, grant: Any, undo: Operation, arguments: list[Any]
) -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("raftcoord.client.exchange.CANCEL_GRACE_S", 0.03)
            try:
                assert not await acquire(client)
            except CallTimeout:
                assert ask is _O.QUEUE_CLAIM
        cancel = peer.of(_O.CANCEL)[0]
        peer.send(*ok(cancel, [0, grant]))
        await peer.until(lambda peer: bool(peer.of(undo)))
        assert peer.of(undo)[0].arguments == arguments

    play(scenario, Peer(answers=scripted({ask: waiting, _O.CANCEL: nothing})))


@pytest.mark.parametrize(("ask", "acquire", "grant", "undo", "arguments"), ACQUIRES, ids=IDS)
def test_a_grant_of_an_unexpected_shape_does_not_end_the_connection(
    ask: Operation, acquire: Acquire, grant: Any, undo: Operation, arguments: list[Any]
) -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        task = asyncio.ensure_future(acquire(client))
        await peer.until(lambda peer: bool(peer.of(ask)))
        task.cancel()
        await asyncio.wait([task])
        await peer.until(lambda peer: bool(peer.of(undo)))
        await aio.Variable("x", client).set(1)
        assert len(peer.connections) == 1

    play(scenario, Peer(answers=scripted({ask: waiting, _O.CANCEL: lambda r: ok(r, [0, []])})))


def test_no_wait_is_longer_than_its_timeout_without_a_replica() -> None:
    async def run() -> None:
        client = aio.Client("127.0.0.1:1", timeout="50ms", set_as_default=False)
        loop = asyncio.get_running_loop()
        started = loop.time()
        for _, acquire, _, _, _ in ACQUIRES[:-1]:
            assert not await acquire(client)
        calls: list[Coroutine[Any, Any, Any]] = [
            claim(client),
            aio.Lock("n", client).holder(),
            aio.Lock("n", client).waiters(),
            aio.Semaphore(1, "n", client).get_value(),
            aio.Semaphore(1, "n", client).acquire(0),
            aio.MultiLock(["a", "b"], client).holders(),
            aio.RWLock("n", client).status(),
            aio.Event("n", client).set(),
            aio.Event("n", client).is_set(),
            aio.Pub("n", client).put(1),
            aio.Sub("n", client=client).subscribe(),
            aio.Sub("n", client=client).get("30ms"),
            aio.Sub("n", 4, client).get("30ms"),
            aio.Variable("n", client).update(lambda value: value, "30ms"),
            aio.Variable("n", client).update(lambda value: value, default=1),
            aio.Variable("n", client).set(1, ttl=1),
        ]
        for call in calls:
            with pytest.raises(CallTimeout):
                await call
        assert not await aio.Event("n", client).wait("30ms")
        assert loop.time() - started < 5
        await client.close()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_the_timeout_of_who_holds_and_who_waits_is_for_all_its_calls() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        lock, multilock = aio.Lock("n", client), aio.MultiLock(["n"], client)
        calls: list[Coroutine[Any, Any, Any]] = [
            lock.holder("2s"),
            lock.waiters("2s"),
            multilock.holders("2s"),
        ]
        asking = asyncio.gather(*calls, return_exceptions=True)
        await peer.until(lambda peer: len(peer.requests) == 3)
        answers = [message for request in peer.requests for message in ok(request, [4, 99])]
        loop.call_later(1.7, lambda: peer.send(*answers))
        assert [type(failure) for failure in await asking] == [CallTimeout] * 3
        assert len(peer.of(_O.SESSION_NAMES)) == 3
        assert loop.time() - started < 3

    play(scenario, Peer(answers=nothing), timeout="1h")


def test_each_task_gives_back_its_own() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        semaphore = aio.Semaphore(5, "s", client)
        turn = [asyncio.Event() for _ in range(3)]

        async def first() -> tuple[int, ...]:
            async with semaphore:
                fence = semaphore.fence
                turn[0].set()
                await turn[1].wait()
                assert semaphore.fence == fence, "another task's lease is newer, but it is not this one's"
            turn[2].set()
            return (fence,)

        async def second() -> tuple[int, ...]:
            await turn[0].wait()
            fences = []
            for _ in range(2):
                await semaphore.acquire()
                fences.append(semaphore.fence)
            turn[1].set()
            await turn[2].wait()
            await semaphore.release()
            await semaphore.release()
            return tuple(reversed(fences))

        fences = await asyncio.gather(first(), second())
        assert [r.arguments[1] for r in peer.of(_O.SEMAPHORE_RELEASE)] == [*fences[0], *fences[1]]
        with pytest.raises(RuntimeError, match="semaphore 's'"):
            await semaphore.release()

    play(scenario, Peer())


def test_a_task_may_give_back_what_another_one_acquired() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        lock = aio.Lock("l", client)
        await asyncio.ensure_future(lock.acquire())
        assert lock.fence == 101
        await asyncio.ensure_future(lock.release())
        assert peer.of(_O.LOCK_RELEASE)[0].arguments[1] == 101

    play(scenario, Peer())


@pytest.mark.parametrize("kind", ["lock", "semaphore", "multilock"])
def test_a_late_holder_does_not_release_what_the_next_one_has_on_the_same_handle(kind: str) -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        handles: dict[str, Any] = {
            "lock": aio.Lock("n", client),
            "semaphore": aio.Semaphore(1, "n", client),
            "multilock": aio.MultiLock(["n"], client),
        }
        handle = handles[kind]
        acquired, entered, leave = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def late() -> None:
            async with handle:
                acquired.set()
                await entered.wait()

        async def next_one() -> int:
            async with handle:
                entered.set()
                await leave.wait()
                return int(handle.fence)

        holder = asyncio.ensure_future(late())
        await acquired.wait()
        await lose_session(peer, client, session=8)
        follower = asyncio.ensure_future(next_one())
        with pytest.raises(LockLost):
            await holder
        assert [request.operation for request in peer.requests] == [peer.requests[0].operation] * 2
        leave.set()
        fence = await follower
        assert peer.requests[-1].arguments[-1] == fence

    play(scenario, Peer())


def test_several_lost_leases_are_told_once_and_each_raises() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        told: list[str] = []
        semaphore = aio.Semaphore(3, "s", client, on_lost=lambda: told.append("lost"))
        for _ in range(3):
            await semaphore.acquire()
        await semaphore.release()
        await lose_session(peer, client, session=8)
        assert told == ["lost"]
        with pytest.raises(LockLost, match=r"semaphore 's' \(fence 102\)"):
            _ = semaphore.fence
        assert await semaphore.acquire()
        assert await semaphore.release()
        for _ in range(2):
            with pytest.raises(LockLost):
                await semaphore.release()
        with pytest.raises(NotHolder):
            await semaphore.release()
        await semaphore.acquire()
        await lose_session(peer, client, session=9)
        assert told == ["lost"] * 2

    play(scenario, Peer())


@pytest.mark.parametrize("kind", ["lock", "rlock", "semaphore", "multilock", "rwlock", "claim"])
def test_a_loss_is_told_and_raised(kind: str) -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        told: list[str] = []

        def on_lost() -> None:
            told.append(kind)
            raise ZeroDivisionError  # logged; it must not keep others from being told

        blocks: dict[str, Callable[[], Any]] = {
            "lock": lambda: aio.Lock("n", client, on_lost=on_lost),
            "rlock": lambda: aio.RLock("n", client, on_lost=on_lost),
            "semaphore": lambda: aio.Semaphore(1, "n", client, on_lost=on_lost),
            "multilock": lambda: aio.MultiLock(["n"], client, on_lost=on_lost),
            "rwlock": lambda: aio.RWLock("n", client, on_lost=on_lost).write(),
            "claim": lambda: aio.Queue("n", client=client).claim(on_lost=on_lost),
        }
        other = aio.Lock("other", client, on_lost=lambda: told.append("other"))
        held = blocks[kind]()

        async def work(error: type[Exception] | None) -> None:
            async with held as handle:
                assert handle.fence
                await other.acquire()
                await lose_session(peer, client, session=(client.session_id or 0) + 1)
                with pytest.raises(LockLost):
                    _ = handle.fence
                if error is not None:
                    raise error

        with pytest.raises(LockLost):
            await work(None)
        assert told == [kind, "other"]
        held = blocks[kind]()
        with pytest.raises(KeyError):  # and not LockLost, which would hide it
            await work(KeyError)

    play(scenario, Peer())


def test_a_release_that_is_not_answered_is_repeated_for_every_kind() -> None:
    releases = {
        _O.LOCK_RELEASE,
        _O.SEMAPHORE_RELEASE,
        _O.RWLOCK_RELEASE,
        _O.MULTILOCK_RELEASE,
        _O.QUEUE_ACK,
        _O.QUEUE_NACK,
    }

    async def scenario(peer: Peer, client: aio.Client) -> None:
        rwlock, multilock = aio.RWLock("n", client), aio.MultiLock(["n"], client)
        semaphore, lock = aio.Semaphore(1, "n", client), aio.Lock("n", client)
        queue = aio.Queue("n", client=client)
        await lock.acquire()
        await rwlock.acquire_write()
        await multilock.acquire()
        await semaphore.acquire()
        done, undone = await queue.claim(), await queue.claim()
        assert not await semaphore.release("20ms"), "as in Dask: False says that it is released later"
        for call in (
            lock.release("20ms"),
            rwlock.release("20ms"),
            multilock.release("20ms"),
            done.ack("20ms"),
            undone.nack("20ms"),
        ):
            with pytest.raises(OutcomeUnknown):
                await call
        peer.connections[-1].transport.abort()
        await peer.until(lambda peer: all(len(peer.of(release)) == 2 for release in releases))
        assert not peer.of(_O.CANCEL)

    play(scenario, Peer(answers=scripted(dict.fromkeys(releases, nothing))))


def test_an_acquire_that_ends_with_its_session_raises() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        semaphore = aio.Semaphore(1, "s", client)
        acquiring = asyncio.ensure_future(semaphore.acquire())
        await peer.until(lambda peer: bool(peer.requests))
        await lose_session(peer, client, session=8)
        with pytest.raises(SessionLost):
            await acquiring
        with pytest.raises(NotHolder):
            _ = semaphore.fence

    play(scenario, Peer(answers=scripted({_O.SEMAPHORE_ACQUIRE: waiting})))
