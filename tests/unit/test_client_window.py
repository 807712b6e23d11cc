"""The bound on calls in flight: what is over it waits to be sent, and is sent when there is room."""

from __future__ import annotations

import asyncio

import pytest
from client_peer import Peer, granted, nothing, ok, play, scripted, waiting

from raftcoord import aio
from raftcoord.client import exchange
from raftcoord.client.exchange import IN_FLIGHT_MAX
from raftcoord.protocol.operations import Operation

_O = Operation


def test_what_waits_to_be_sent_is_sent_when_grants_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        locks = [aio.Lock(name, client) for name in "abc"]
        assert await asyncio.gather(*(lock.acquire(timeout=0) for lock in locks)) == [True, True, True]

    monkeypatch.setattr(exchange, "IN_FLIGHT_MAX", 1)
    play(scenario, Peer(answers=scripted({_O.LOCK_ACQUIRE: lambda request: ok(request, request.sequence)})))


def test_what_waits_to_be_sent_is_sent_when_reads_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        queue = aio.Queue("q", client=client)
        read = asyncio.ensure_future(queue.qsize())
        await peer.until(lambda peer: bool(peer.of(_O.QUEUE_SIZE)))
        put = asyncio.ensure_future(queue.put(1))
        await asyncio.sleep(0)
        assert not peer.of(_O.QUEUE_PUT)
        read.cancel()
        await put

    monkeypatch.setattr(exchange, "IN_FLIGHT_MAX", 1)
    play(
        scenario,
        Peer(answers=scripted({_O.QUEUE_SIZE: nothing, _O.QUEUE_PUT: lambda request: ok(request, 1)})),
    )


def test_what_is_in_flight_is_bounded_and_waits_do_not_count() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        lock, variable = aio.Lock("l", client), aio.Variable("x", client)
        waits = [asyncio.ensure_future(lock.acquire()) for _ in range(50)]
        sets = [asyncio.ensure_future(variable.set(value)) for value in range(IN_FLIGHT_MAX + 500)]
        await peer.until(lambda peer: len(peer.of(_O.VARIABLE_SET)) >= IN_FLIGHT_MAX)
        assert len(client.core.session.state.blocking) == IN_FLIGHT_MAX
        peer.answers = granted
        for request in peer.of(_O.VARIABLE_SET):
            peer.send(*ok(request, 1))
        await asyncio.gather(*sets)
        assert len(peer.of(_O.VARIABLE_SET)) == IN_FLIGHT_MAX + 500
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    play(scenario, Peer(answers=scripted({_O.VARIABLE_SET: nothing, _O.LOCK_ACQUIRE: waiting})))
