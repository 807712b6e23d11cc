"""Subscribers that any replica serves: what they are given, when they are turned away, what is bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from server_harness import NAME, VALUE, RawClient, run, serving, serving_three, until

from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import FOLLOW_HOLD_S, Operation
from raftcoord.protocol.values import pack_name
from raftcoord.server import connection, followers
from raftcoord.server.replica import ReplicaServer

PUBLISH, DELETE = int(Operation.TOPIC_PUBLISH), int(Operation.TOPIC_DELETE)
KEEP = [1000, 10**9, 0]


async def publish(client: RawClient, sequence: int, *values: bytes) -> int:
    """Publish, and return the offset of the first."""
    _, code, payload = await client.ask([sequence, sequence - 1, PUBLISH, NAME, KEEP, list(values)])
    assert code == Code.OK
    return int(payload[0])


async def leader_and_followers(servers: list[ReplicaServer]) -> tuple[ReplicaServer, list[ReplicaServer]]:
    await until(lambda: all(server.gateway.leader_hint() for server in servers))
    [leader] = [server for server in servers if server.gateway.is_serving]
    return leader, [server for server in servers if server is not leader]


def waiting_at(server: ReplicaServer) -> int:
    return len(server.gateway.followers._waits)


def test_every_replica_serves_the_same_messages(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving_three(tmp_path) as servers:
            leader, _ = await leader_and_followers(servers)
            publisher = await RawClient.with_session(leader)
            offset = await publish(publisher, 1, VALUE, b"\x01", b"\x02")
            subscribers = [await RawClient.observer(server) for server in servers]
            for server, subscriber in zip(servers, subscribers, strict=True):
                answer = await subscriber.ask([-1, "follow", NAME, offset, 2])
                assert answer == [-1, Code.OK, [offset + 2, 0, [VALUE, b"\x01"]]]
                subscriber.send([-2, "follow", NAME, offset + 3, 2])
                await until(lambda server=server: waiting_at(server) == 1)  # type: ignore[misc]
            await publish(publisher, 2, b"\x03")
            for subscriber in subscribers:
                assert await subscriber.receive() == [-2, Code.OK, [offset + 4, 0, [b"\x03"]]]

    run(scenario())


def test_a_deleted_topic_ends_the_waits_of_its_subscribers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving_three(tmp_path) as servers:
            leader, (follower, _) = await leader_and_followers(servers)
            publisher = await RawClient.with_session(leader)
            offset = await publish(publisher, 1, VALUE)
            subscriber = await RawClient.observer(follower)
            subscriber.send([-1, "follow", NAME, offset + 1, 1])
            await until(lambda: waiting_at(follower) == 1)
            await publisher.ask([2, 1, DELETE, NAME])
            assert await subscriber.receive() == [-1, Code.CLOSED, None]

    run(scenario())


def test_a_wait_ends_with_nothing_after_a_while(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            publisher = await RawClient.with_session(server)
            offset = await publish(publisher, 1, VALUE)
            subscriber = await RawClient.observer(server)
            began_at = server.gateway.clock.now()
            assert await subscriber.ask([-1, "follow", NAME, offset + 1, 1]) == [-1, Code.EMPTY, None]
            assert FOLLOW_HOLD_S <= server.gateway.clock.now() - began_at < FOLLOW_HOLD_S + 1
            assert repr(server.gateway.followers) == "<Followers waiting=0 topics=0>"

    run(scenario())


def test_a_replica_out_of_touch_turns_subscribers_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving_three(tmp_path) as servers:
            leader, (follower, other) = await leader_and_followers(servers)
            offset = await publish(await RawClient.with_session(leader), 1, VALUE)
            subscriber = await RawClient.observer(follower)
            assert (await subscriber.ask([-1, "follow", NAME, offset, 1]))[1] == Code.OK
            subscriber.send([-2, "follow", NAME, offset + 1, 1])
            await until(lambda: waiting_at(follower) == 1)
            await leader.stop(graceful=False)
            await other.stop(graceful=False)
            assert (await subscriber.receive())[:2] == [-2, Code.NOT_LEADER]
            assert (await subscriber.ask([-3, "follow", NAME, offset, 1]))[:2] == [-3, Code.NOT_LEADER]

    run(scenario())


@pytest.mark.parametrize(
    "arguments",
    [[NAME, 0, 1], [NAME, -1, 1], [NAME, 1, 0], ["text", 1, 1], [b"", 1, 1], [NAME, None, 1], [NAME], []],
)
def test_what_cannot_be_followed_is_refused(tmp_path: Path, arguments: list[Any]) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            subscriber = await RawClient.observer(server)
            assert (await subscriber.ask([-1, "follow", *arguments]))[:2] == [-1, Code.MALFORMED]
            assert (await subscriber.ask([-2, "status"]))[1] == Code.OK

    run(scenario())


def test_waits_are_bounded_and_those_of_closed_connections_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "WAITS_MAX", 2)
    monkeypatch.setattr(followers, "WAITS_IN_ALL_MAX", 3)

    async def scenario() -> None:
        async with serving(tmp_path) as server:
            first, second = await RawClient.observer(server), await RawClient.observer(server)
            for identifier in (-1, -2):
                first.send([identifier, "follow", NAME, 99, 1])
            assert (await first.ask([-3, "follow", NAME, 99, 1]))[:2] == [-3, Code.BUSY]
            second.send([-1, "follow", NAME, 99, 1])
            assert (await second.ask([-2, "follow", NAME, 99, 1]))[:2] == [-2, Code.BUSY]
            assert waiting_at(server) == 3
            await first.close()
            await until(lambda: waiting_at(server) == 1)
            second.send([-2, "follow", NAME, 99, 1])
            await until(lambda: waiting_at(server) == 2)
            assert repr(server.gateway.followers) == "<Followers waiting=2 topics=1>"

    run(scenario())


def test_an_id_that_waits_is_not_taken_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            subscriber = await RawClient.observer(server)
            subscriber.send([-1, "follow", NAME, 99, 1])
            assert (await subscriber.ask([-1, "follow", NAME, 99, 1]))[:2] == [-1, Code.MALFORMED]
            assert waiting_at(server) == 1

    run(scenario())


def test_a_replica_that_stays_behind_a_subscriber_turns_it_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            offset = await publish(await RawClient.with_session(server), 1, VALUE)
            subscriber = await RawClient.observer(server)
            for identifier, name in ((-1, NAME), (-2, pack_name("there is no such topic"))):
                answer = await subscriber.ask([identifier, "follow", name, offset + 2, 1])
                assert answer == [identifier, Code.NOT_LEADER, None]

    run(scenario())


def test_answers_of_one_turn_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            publisher = await RawClient.with_session(server)
            offset = await publish(publisher, 1, VALUE)
            subscriber = await RawClient.observer(server)
            for identifier in (-1, -2):
                subscriber.send([identifier, "follow", NAME, offset + 1, 1])
            await until(lambda: waiting_at(server) == 2)
            monkeypatch.setattr(connection, "READ_ANSWERS_BYTES_MAX", 0)
            await publish(publisher, 2, VALUE)
            assert await subscriber.receive() == [-1, Code.OK, [offset + 2, 0, [VALUE]]]
            assert (await subscriber.receive())[:2] == [-2, Code.BUSY]

    run(scenario())


def test_a_restored_state_serves_those_who_wait(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            publisher = await RawClient.with_session(server)
            machine = server.gateway.machine
            offset = await publish(publisher, 1, VALUE)
            older = list(machine.begin_snapshot())
            await publish(publisher, 2, b"\x01")
            newer = list(machine.begin_snapshot())
            machine.restore(older)
            subscriber = await RawClient.observer(server)
            subscriber.send([-1, "follow", NAME, offset + 1, 1])
            await until(lambda: waiting_at(server) == 1)
            machine.restore(newer)
            assert await subscriber.receive() == [-1, Code.OK, [offset + 2, 0, [b"\x01"]]]

    run(scenario())
