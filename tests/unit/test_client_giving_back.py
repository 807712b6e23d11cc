"""Giving back: nothing stays held because of how, when or from where a release was called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import Any

import pytest
from client_peer import Peer, answer, lose_session, nothing, ok, play, scripted

import raftcoord
from raftcoord import aio
from raftcoord.client.errors import SemaphoreClosed
from raftcoord.protocol.errors import CallTimeout, Code, NotHolder, Overloaded
from raftcoord.protocol.operations import Operation

_O = Operation

RELEASES = frozenset(
    {
        _O.LOCK_RELEASE,
        _O.SEMAPHORE_RELEASE,
        _O.MULTILOCK_RELEASE,
        _O.RWLOCK_RELEASE,
        _O.QUEUE_ACK,
        _O.QUEUE_NACK,
    }
)


def released(peer: Peer) -> list[int]:
    """Return the fences that were given back."""
    return [request.arguments[-1] for request in peer.requests if request.operation in RELEASES]


async def held(kind: str, client: aio.Client) -> tuple[Any, Callable[..., Any]]:
    """Return a handle that holds something, and what gives it back."""
    if kind in ("ack", "nack"):
        claim = await aio.Queue("n", client=client).claim()
        return claim, getattr(claim, kind)
    if kind == "rwlock":
        rwlock = aio.RWLock("n", client)
        await rwlock.acquire_write()
        return rwlock, rwlock.release
    makes: dict[str, Callable[[], Any]] = {
        "lock": lambda: aio.Lock("n", client),
        "rlock": lambda: aio.RLock("n", client),
        "semaphore": lambda: aio.Semaphore(1, "n", client),
        "multilock": lambda: aio.MultiLock(["n"], client),
    }
    handle = makes[kind]()
    await handle.acquire()
    return handle, handle.release


KINDS = ["lock", "rlock", "semaphore", "multilock", "rwlock", "ack", "nack"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_release_with_a_timeout_that_cannot_be_read_gives_nothing_up(kind: str) -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        handle, release = await held(kind, client)
        for timeout in ("soon", -1):
            with pytest.raises(ValueError, match="timeout"):
                await release(timeout)
        assert not released(peer)
        assert handle.fence == 101
        await release()
        assert released(peer) == [101]

    play(scenario, Peer())


def test_an_inner_release_with_such_a_timeout_costs_no_level() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        lock = aio.RLock("r", client)
        await lock.acquire()
        await lock.acquire()
        with pytest.raises(ValueError, match="timeout"):
            await lock.release("soon")
        await lock.release()
        assert lock.fence == 101
        await lock.release()
        assert released(peer) == [101]
        with pytest.raises(NotHolder):
            await lock.release()

    play(scenario, Peer())


@pytest.mark.parametrize("kind", KINDS)
def test_a_release_is_not_refused_because_much_waits_to_be_sent(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        _, release = await held(kind, client)
        connection = client.core.exchange.connection
        assert connection is not None
        monkeypatch.setattr("raftcoord.client.exchange.UNSENT_MAX", 0)
        connection.writable = False
        with pytest.raises(Overloaded):
            await aio.Event("e", client).set()

        def go_on() -> None:
            connection.writable = True
            client.core.exchange._pump()

        asyncio.get_running_loop().call_later(0.01, go_on)
        await release()
        assert released(peer) == [101]

    play(scenario, Peer())


# Whose it is.


async def in_another_task(work: Coroutine[Any, Any, Any]) -> Any:
    """Have something awaited as `asyncio.wait_for` does before Python 3.12."""
    return await asyncio.ensure_future(work)


@pytest.mark.parametrize("kind", ["lock", "rlock", "semaphore", "multilock", "rwlock"])
def test_what_is_acquired_and_released_is_the_callers_whoever_awaits_it(kind: str) -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        handle, release = await held(kind, client)
        acquire = handle.acquire_read if kind == "rwlock" else handle.acquire
        await in_another_task(release())
        turn = [asyncio.Event() for _ in range(2)]

        async def first() -> int:
            await in_another_task(acquire())
            fence = handle.fence
            turn[0].set()
            await turn[1].wait()
            assert handle.fence == fence
            await in_another_task(release())
            return int(fence)

        async def second() -> int:
            await turn[0].wait()
            await in_another_task(acquire())
            fence = handle.fence
            turn[1].set()
            await one
            assert handle.fence == fence
            await in_another_task(release())
            return int(fence)

        one = asyncio.ensure_future(first())
        two = await second()
        assert released(peer) == [101, await one, two]
        assert two != one.result()

    play(scenario, Peer())


def test_what_another_task_works_under_is_not_given_back() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        multilock = aio.MultiLock(["gpu0", "gpu1"], client)

        async def acquire() -> None:
            await multilock.acquire(num_locks=1)

        working, done = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            async with multilock:
                working.set()
                await done.wait()

        worker = asyncio.ensure_future(work())
        await working.wait()
        for use in (lambda: multilock.fence, lambda: multilock.names_held):
            with pytest.raises(NotHolder, match="this task or thread"):
                use()
        with pytest.raises(NotHolder, match="this task or thread"):
            await multilock.release()
        assert not released(peer)
        await asyncio.ensure_future(acquire())
        await multilock.release()  # of one who has ended, and nothing else is left behind
        for _ in range(2):
            await asyncio.ensure_future(acquire())
        with pytest.raises(NotHolder):
            await multilock.release()  # it may be either
        assert len(released(peer)) == 1
        done.set()
        await worker
        assert len(released(peer)) == 2

    play(scenario, Peer())


@pytest.mark.parametrize("kind", ["lock", "semaphore", "multilock", "rwlock"])
def test_a_task_gives_back_for_the_one_that_started_it(kind: str) -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        handle, release = await held(kind, client)

        async def clean_up() -> None:
            assert handle.fence == 101
            await in_another_task(release())
            with pytest.raises(NotHolder):
                _ = handle.fence

        async def stranger() -> None:
            with pytest.raises(NotHolder):
                await release()

        await Context().run(asyncio.ensure_future, stranger())
        assert not released(peer)
        await in_another_task(clean_up())
        assert released(peer) == [101]

    play(scenario, Peer())


def test_a_task_does_not_choose_between_its_starters_and_what_is_left() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        semaphore = aio.Semaphore(5, "s", client)

        async def acquire() -> None:
            await semaphore.acquire()

        await semaphore.acquire()
        await asyncio.ensure_future(acquire())

        async def clean_up() -> None:
            with pytest.raises(NotHolder):
                await semaphore.release()

        await asyncio.ensure_future(clean_up())
        await semaphore.release()
        assert released(peer) == [101]
        await asyncio.ensure_future(semaphore.release())
        assert released(peer) == [101, 102]

    play(scenario, Peer())


@pytest.mark.parametrize("kind", ["lock", "rlock", "semaphore", "multilock", "rwlock"])
def test_what_was_lost_by_one_who_has_ended_is_forgotten(kind: str) -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        handle, release = await asyncio.ensure_future(held(kind, client))
        acquire = handle.acquire_read if kind == "rwlock" else handle.acquire
        await lose_session(peer, client, session=8)
        await acquire()
        assert len(list(handle._holdings)) == 1
        await release()
        with pytest.raises(NotHolder):
            await release()
        assert not list(handle._holdings)
        assert not getattr(handle, "_depth_by_hold", None)

    play(scenario, Peer())


def test_a_claim_is_used_from_any_task() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        claim, _ = await held("ack", client)

        async def work() -> None:
            assert claim.fence == 101
            await claim.ack()
            with pytest.raises(NotHolder):
                _ = claim.fence

        await asyncio.ensure_future(work())
        assert released(peer) == [101]

    play(scenario, Peer())


def test_a_thread_does_not_give_back_what_a_running_one_has() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        async with Peer() as peer:
            client = raftcoord.Client(peer.address, set_as_default=False)
            lock = raftcoord.Lock("l", client)
            with ThreadPoolExecutor(1) as other:
                with ThreadPoolExecutor(1) as owner:
                    await loop.run_in_executor(owner, lock.acquire)
                    with pytest.raises(NotHolder, match="this task or thread"):
                        await loop.run_in_executor(other, lock.release)
                    assert await loop.run_in_executor(owner, lambda: lock.fence) == 101
                await loop.run_in_executor(other, lock.release)
                assert released(peer) == [101]
                await loop.run_in_executor(other, client.close)

    asyncio.run(asyncio.wait_for(run(), 20))


# A semaphore that is closed.


def test_nothing_is_acquired_beside_a_close() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        semaphore = aio.Semaphore(1, "s", client)
        closed, acquired = await asyncio.gather(
            semaphore.close(), semaphore.acquire(), return_exceptions=True
        )
        assert closed is None
        assert isinstance(acquired, SemaphoreClosed)
        assert not peer.of(_O.SEMAPHORE_ACQUIRE)

    play(scenario, Peer())


def test_a_lease_that_is_granted_after_the_close_is_given_back() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        semaphore = aio.Semaphore(1, "s", client)
        acquiring = asyncio.ensure_future(semaphore.acquire())
        await peer.until(lambda peer: bool(peer.of(_O.SEMAPHORE_ACQUIRE)))
        await semaphore.close()
        peer.send(*ok(peer.of(_O.SEMAPHORE_ACQUIRE)[0], 33))
        with pytest.raises(SemaphoreClosed):
            await acquiring
        assert released(peer) == [33]

    play(scenario, Peer(answers=scripted({_O.SEMAPHORE_ACQUIRE: nothing})))


def test_a_release_beside_a_close_is_sent_and_done() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        semaphore = aio.Semaphore(2, "s", client)
        await semaphore.acquire()
        await semaphore.acquire()
        assert await asyncio.gather(semaphore.close(), semaphore.release()) == [None, True]
        assert released(peer) == [102]
        with pytest.raises(NotHolder):
            _ = semaphore.fence
        assert await semaphore.release(), "void since the close, and nothing to give back"
        assert released(peer) == [102]

    play(scenario, Peer(answers=scripted({_O.SEMAPHORE_RELEASE: lambda r: answer(r, Code.NOT_HOLDER)})))


def test_a_close_that_failed_leaves_everything_as_it_was() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        semaphore = aio.Semaphore(2, "s", client)
        await semaphore.acquire()
        with pytest.raises(ValueError, match="timeout"):
            await semaphore.close(timeout="soon")
        assert semaphore.fence == 101
        assert await semaphore.acquire()
        assert await semaphore.release()
        assert await semaphore.release()
        assert released(peer) == [102, 101]

    play(scenario, Peer())


def test_a_handle_that_a_release_told_of_the_close_acquires_no_more() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        semaphore = aio.Semaphore(2, "s", client)
        await semaphore.acquire()
        with pytest.raises(SemaphoreClosed, match="void"):
            await semaphore.release()
        with pytest.raises(SemaphoreClosed):
            await semaphore.acquire()
        assert len(peer.of(_O.SEMAPHORE_ACQUIRE)) == 1

    play(scenario, Peer(answers=scripted({_O.SEMAPHORE_RELEASE: lambda r: answer(r, Code.NOT_HOLDER)})))


# Claims.


def test_a_claim_that_two_tasks_await_takes_one_item() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        claim = aio.Queue("q", client=client).claim()

        async def take() -> Any:
            return (await claim).value

        first, second = await asyncio.gather(
            *(asyncio.ensure_future(take()) for _ in range(2)), return_exceptions=True
        )
        assert first == "item"
        assert isinstance(second, RuntimeError)
        assert len(peer.of(_O.QUEUE_CLAIM)) == 1
        await claim.ack()
        assert released(peer) == [101]

    play(scenario, Peer())


def test_a_claim_may_be_awaited_again_when_there_was_nothing() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        claim = aio.Queue("q", client=client).claim(0)
        with pytest.raises(CallTimeout):
            await claim
        peer.answers = scripted({})
        assert (await claim).value == "item"

    play(scenario, Peer(answers=scripted({_O.QUEUE_CLAIM: lambda r: answer(r, Code.EMPTY)})))
