"""Giving back: nothing stays held because of how, when or from where a release was called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from client_peer import Peer, play

from raftcoord import aio
from raftcoord.protocol.errors import NotHolder, Overloaded
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
