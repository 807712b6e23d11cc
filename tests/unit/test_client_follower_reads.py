"""Subscriptions that read from followers: which replica is asked, when it is left, and what a call sees."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from client_peer import Answers, Peer, play, refusal, welcome
from server_harness import LoopClock, run, serving_three, until

from raftcoord import aio
from raftcoord.client import follower_reads
from raftcoord.client.errors import TopicDeleted
from raftcoord.machine import Machine
from raftcoord.protocol.errors import BadRequest, CallTimeout, Code, SessionLost, UnsupportedVersion
from raftcoord.protocol.values import pack_value
from raftcoord.runtime import Runtime, SystemRng
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


def test_a_change_of_leader_loses_nothing(tmp_path: Path) -> None:
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
            assert len(follower.gateway.followers._waits) == 1
            await pub.put_many([1, 2, 3])
            assert sorted(await asyncio.gather(*(sub.get() for _ in range(3)))) == [1, 2, 3]
            with pytest.raises(CallTimeout):
                await sub.get(0)  # which asks the leader
            await pub.put(4)
            assert await sub.get(0) == 4
            await pub.put(5)
            assert await sub.get() == 5  # and not again what a follower said of an earlier place
            with pytest.raises(CallTimeout):
                await sub.get("50ms")
            await until(lambda: len(serving_followed(servers)) == 1)
            [follower] = serving_followed(servers)
            follower.gateway.followers._machine = Machine()  # it does not move on
            await pub.put_many([6, 7])
            assert await sub.get(0) == 6
            assert await sub.get() == 7

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
            with pytest.raises(SessionLost):
                await closed

    run(scenario())


def test_a_leader_is_left_when_others_can_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_reads, "STAY_S", 1.0)

    async def scenario() -> None:
        async with serving_three(tmp_path) as servers, connected(servers) as client:
            pub = aio.Pub("t", client)
            await pub.put(0)
            reading = asyncio.create_task(
                _take(await aio.Sub("t", client=client, read_from_followers=True), 40)
            )
            await until(lambda: len(serving_followed(servers)) == 1)
            [follower] = serving_followed(servers)
            await next(s for s in servers if s.gateway.is_serving)._engine.transfer_leadership(
                follower.config.name
            )
            await until(lambda: follower.gateway.is_serving)
            for number in range(40):
                await pub.put(number)
                await asyncio.sleep(0.1)
                if number == 30:
                    assert serving_followed(servers) not in ([], [follower])
            assert await reading == list(range(40))

    run(scenario())


def test_an_offset_of_another_store_is_no_endless_wait(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving_three(tmp_path) as servers, connected(servers) as client:
            with pytest.raises(TopicDeleted):
                await aio.Sub("never", 1000, client, read_from_followers=True).get()
            offset = await aio.Pub("t", client).put(0)
            sub = aio.Sub("t", offset, client, read_from_followers=True)
            assert await sub.get() == 0
            assert not serving_followed(servers)
            with pytest.raises(CallTimeout):
                await sub.get("50ms")
            assert serving_followed(servers)
            woken = pickle.loads(pickle.dumps(sub))  # noqa: S301  # ours
            assert woken._read_from_followers
            await woken.client.close()

    run(scenario())


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


class Constant(SystemRng):
    """Lets addresses be tried in their own order."""

    def random(self) -> float:
        return 0.5


@asynccontextmanager
async def reading_from(*peers: Peer) -> AsyncIterator[aio.Client]:
    """A client whose session is at the last peer, and which asks the others first, in this order."""
    for number, peer in enumerate(peers):
        greet(peer, f"r{number}", leads=peer is peers[-1])
    async with AsyncExitStack() as stack:
        for peer in peers:
            await stack.enter_async_context(peer)
        addresses = [peer.address for peer in peers]
        client = aio.Client(addresses, set_as_default=False, runtime=Runtime(rng=Constant()))
        yield await stack.enter_async_context(client)


def greet(peer: Peer, name: str, *, leads: bool) -> None:
    hello = peer.hello

    def named(number: int, options: dict[str, Any]) -> list[Any] | None:
        if options and not leads:
            return refusal(Code.NOT_LEADER)
        answer = hello(number, options)
        if answer is not None and answer[2] == Code.OK:
            answer[3]["server"] = name
        return answer

    peer.hello = named


@pytest.mark.parametrize("kind", ["out of touch", "closes", "babbles", "refuses", "silent"])
@pytest.mark.parametrize("alternative", ["another follower", "the leader"])
def test_a_replica_that_disappoints_is_left_for_another_one(
    kind: str, alternative: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_reads, "ANSWER_LIMIT_S", 0.3)

    async def scenario() -> None:
        def disappoint(message: list[Any]) -> Answers:
            if kind == "closes":
                bad.connections[-1].transport.abort()
            answers = {"out of touch": [[message[0], int(Code.NOT_LEADER), None]], "babbles": [[7]]}
            return answers.get(kind, [])

        bad, good, leader = Peer(follow=disappoint), Peer(follow=serve_offsets), Peer(follow=serve_offsets)
        if kind == "refuses":
            bad.hello = lambda number, options: refusal(Code.LIMIT)
        peers = (bad, good, leader) if alternative == "another follower" else (bad, leader)
        async with reading_from(*peers) as client:
            sub = sub_of(client)
            assert await _take(sub, 4) == [40, 41, 42, 43]
            assert len(bad.follows) == (kind != "refuses")
            assert [len(good.follows), len(leader.follows)] == ([2, 0] if good in peers else [0, 2])

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_many_subscriptions_share_one_attempt_and_its_pauses() -> None:
    async def scenario() -> None:
        away = Peer(follow=lambda message: [[message[0], int(Code.NOT_LEADER), None]])
        leader = Peer(follow=lambda message: [[message[0], int(Code.NOT_LEADER), None]])
        async with reading_from(away, leader) as client:
            subs = [aio.Sub("t", 40, client, read_from_followers=True) for _ in range(200)]
            results = await asyncio.gather(*(sub.get("600ms") for sub in subs), return_exceptions=True)
            assert {type(result) for result in results} == {CallTimeout}
            assert 2 <= len(away.connections) + len(leader.connections) < 100

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_refusal_for_good_is_raised() -> None:
    async def scenario() -> None:
        def hello(number: int, options: dict[str, Any]) -> list[Any]:
            return welcome() if options else refusal(Code.UNSUPPORTED_VERSION, "speaks version 9")

        async with reading_from(Peer(hello=hello)) as client:
            with pytest.raises(UnsupportedVersion, match="speaks version 9"):
                await sub_of(client).get()

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_connection_that_nobody_reads_from_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_reads, "IDLE_S", 0.05)

    async def scenario() -> None:
        follower, leader = Peer(follow=serve_offsets), Peer()
        async with reading_from(follower, leader) as client:
            sub = sub_of(client)
            assert await _take(sub, 2) == [40, 41]
            await follower.until(lambda peer: not any(connection.open for connection in peer.connections))
            assert await _take(sub, 2) == [42, 43]
            assert len(follower.connections) == 3  # the first one asked for a session
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
