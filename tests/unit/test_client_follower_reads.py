"""Subscriptions that read from followers: which replica is asked, when it is left, and what a call sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from client_peer import Answers, Peer, ok, play, refusal, scripted, welcome
from server_harness import LoopClock, run, serving_three, until

from raftcoord import aio
from raftcoord.client import follower_reads
from raftcoord.client.errors import TopicDeleted
from raftcoord.protocol.errors import BadRequest, CallTimeout, ClientClosed, Code
from raftcoord.protocol.operations import Operation
from raftcoord.protocol.values import pack_value
from raftcoord.runtime import Runtime
from raftcoord.server.replica import ReplicaServer


@asynccontextmanager
async def connected(servers: list[ReplicaServer]) -> AsyncIterator[aio.Client]:
    """A client of all replicas, once these know their leader."""
    await until(lambda: all(server.gateway.leader_hint() for server in servers))
    addresses = [server.config.listen for server in servers]
    async with aio.Client(addresses, set_as_default=False, runtime=Runtime(clock=LoopClock())) as client:
        yield client


def serving_followed(servers: list[ReplicaServer]) -> list[ReplicaServer]:
    """The replicas at which a subscriber waits."""
    return [server for server in servers if server.gateway.followers._waits]


def test_messages_come_from_a_follower_and_from_another_one_when_it_stops(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving_three(tmp_path) as servers, connected(servers) as client:
            pub = aio.Pub("t", client)
            sub = aio.Sub("t", "start", client, read_from_followers=True)
            await pub.put(0)
            assert await sub.get() == 0  # where the topic begins is for the leader to say
            for number in (1, 2):
                waiting = asyncio.create_task(sub.get())
                await until(lambda: len(serving_followed(servers)) == 1)
                [follower] = serving_followed(servers)
                assert not follower.gateway.is_serving
                if number == 2:
                    await follower.stop()
                    await until(lambda stopped=follower: serving_followed(servers) not in ([], [stopped]))  # type: ignore[misc]
                await pub.put(number)
                assert await waiting == number
            assert (sub.missed, sub.offset) == (0, (await pub.status()).next_offset)

    run(scenario())


def test_a_change_of_leader_and_a_replica_alone_lose_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving_three(tmp_path) as servers, connected(servers) as client:
            pub = aio.Pub("t", client)
            await pub.put(0)
            sub = await aio.Sub("t", client=client, read_from_followers=True)
            reading = asyncio.create_task(_take(sub, 30))
            for number in range(30):
                await pub.put(number)
                if number == 10:
                    [leader] = [server for server in servers if server.gateway.is_serving]
                    await leader.stop(graceful=False)
            assert await reading == list(range(30))

    run(scenario())


async def _take(sub: aio.Sub, count: int) -> list[Any]:
    return [await sub.get() for _ in range(count)]


def test_what_one_call_did_not_wait_for_is_there_for_the_next(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving_three(tmp_path) as servers, connected(servers) as client:
            pub = aio.Pub("t", client)
            await pub.put(0)
            sub = await aio.Sub("t", client=client, read_from_followers=True)
            for _ in range(3):
                with pytest.raises(CallTimeout):
                    await sub.get("50ms")
            cancelled = asyncio.create_task(sub.get())
            await until(lambda: len(serving_followed(servers)) == 1)
            cancelled.cancel()
            [follower] = serving_followed(servers)
            assert [len(waits) for waits in follower.gateway.followers._waits.values()] == [1]
            await pub.put_many([1, 2, 3])
            assert sorted(await asyncio.gather(*(sub.get() for _ in range(3)))) == [1, 2, 3]
            with pytest.raises(CallTimeout):
                await sub.get(0)  # which asks the leader
            await pub.put(4)
            assert await sub.get(0) == 4
            await pub.put(5)
            assert await sub.get() == 5  # and not again what a follower said of an earlier place

    run(scenario())


def test_a_deleted_topic_and_a_closed_client_end_the_wait(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving_three(tmp_path) as servers, connected(servers) as client:
            pub = aio.Pub("t", client)
            await pub.put(0)
            deleted = asyncio.create_task((await aio.Sub("t", client=client, read_from_followers=True)).get())
            await until(lambda: len(serving_followed(servers)) == 1)
            await pub.delete()
            with pytest.raises(TopicDeleted):
                await deleted
            await pub.put(1)
            closed = asyncio.create_task((await aio.Sub("t", client=client, read_from_followers=True)).get())
            await until(lambda: len(serving_followed(servers)) == 1)
            await client.close()
            with pytest.raises(ClientClosed):
                await closed

    run(scenario())


def test_a_pickled_subscription_still_reads_from_followers() -> None:
    client = aio.Client("localhost:1", set_as_default=False)
    sub = aio.Sub("t", 7, client, read_from_followers=True)
    assert sub._options()["read_from_followers"] is True


# Against replicas that misbehave.


def serve_offsets(message: list[Any]) -> Answers:
    """Answer like a topic of numbers that are their own offsets."""
    identifier, _, _, offset, count_max = message
    values = [pack_value(number) for number in range(offset, offset + count_max)]
    return [[identifier, int(Code.OK), [offset + count_max, 0, values]]]


def sub_of(client: aio.Client) -> aio.Sub:
    return aio.Sub("t", 40, client, prefetch=2, read_from_followers=True)


def test_every_message_is_taken_once_and_in_order() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        sub = sub_of(client)
        assert await _take(sub, 5) == [40, 41, 42, 43, 44]
        assert [message[3] for message in peer.follows] == [40, 42, 44]

    play(scenario, Peer(follow=serve_offsets))


def test_a_busy_replica_is_asked_again_and_one_that_refuses_raises() -> None:
    async def scenario(peer: Peer, client: aio.Client) -> None:
        with pytest.raises(BadRequest, match="no such thing"):
            await sub_of(client).get()
        assert len(peer.follows) == 3
        assert len({message[0] for message in peer.follows}) == 3

    codes = iter([(Code.BUSY, "busy"), (Code.BUSY, "busy"), (Code.UNKNOWN_OPERATION, "no such thing")])

    def follow(message: list[Any]) -> Answers:
        code, text = next(codes)
        return [[message[0], int(code), text]]

    play(scenario, Peer(follow=follow))


@pytest.mark.parametrize("kind", ["out of touch", "closes", "babbles", "refuses", "silent"])
def test_a_replica_that_disappoints_is_left_for_another_one(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_reads, "ANSWER_LIMIT_S", 0.5)

    async def scenario() -> None:
        def disappoint(message: list[Any]) -> Answers:
            if kind == "closes":
                bad.connections[-1].transport.abort()
            answers = {"out of touch": [[message[0], int(Code.NOT_LEADER), None]], "babbles": [[7]]}
            return answers.get(kind, [])

        bad, good, leader = Peer(follow=disappoint), Peer(follow=serve_offsets), Peer()
        not_leader = refusal(Code.NOT_LEADER)
        bad.hello = lambda number, options: not_leader if options or kind == "refuses" else welcome(session=0)
        good.hello = lambda number, options: not_leader if options else welcome(session=0)
        leader.hello = lambda number, options: welcome()
        leader.answers = scripted({Operation.CLOSE_SESSION: ok})
        async with AsyncExitStack() as stack:
            for peer in (bad, good, leader):
                await stack.enter_async_context(peer)
            client = aio.Client([bad.address, good.address, leader.address], set_as_default=False)
            await stack.enter_async_context(client)
            reads = client.core.follower_reads
            reads._left = good.address  # so that the bad one is first
            assert await sub_of(client).get() == 40
            assert bad.follows or kind == "refuses"
            assert len(good.follows) == 1
            assert not leader.follows

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_without_any_replica_the_timeout_holds() -> None:
    async def scenario() -> None:
        client = aio.Client("127.0.0.1:1", set_as_default=False)
        try:
            with pytest.raises(CallTimeout):
                await sub_of(client).get("200ms")
        finally:
            await client.close()

    asyncio.run(scenario())
