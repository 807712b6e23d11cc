"""What clients of three replicas see: followers, hand-over, a leader that stops, one that cannot go on."""

from __future__ import annotations

from pathlib import Path

from server_harness import (
    NAME,
    VALUE,
    RawClient,
    let_pass,
    run,
    serving,
    serving_three,
    session_options,
    until,
)

from raftcoord.machine import MachineError
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation
from raftcoord.protocol.values import pack_name
from raftcoord.server.replica import ReplicaServer

SET, GET = int(Operation.VARIABLE_SET), int(Operation.VARIABLE_GET)
QUEUE_PUT, QUEUE_GET = int(Operation.QUEUE_PUT), int(Operation.QUEUE_GET)
QUEUE = pack_name("a queue")


def leader_of(servers: list[ReplicaServer]) -> ReplicaServer:
    [leader] = [server for server in servers if server.gateway.is_serving]
    return leader


async def wait_until_known(servers: list[ReplicaServer]) -> None:
    await until(lambda: all(server.gateway.leader_hint() for server in servers))


def test_followers_name_the_leader_and_answer_observers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving_three(tmp_path) as servers:
            await wait_until_known(servers)
            leader = leader_of(servers)
            for server in servers:
                if server is leader:
                    continue
                client = await RawClient.connect(server)
                answer = await client.hello("session", session_options())
                assert answer[2:] == [Code.NOT_LEADER, leader.config.listen]
                observer = await RawClient.observer(server)
                status = (await observer.ask([-1, "status"]))[2]
                assert (status["role"], status["leader"]) == ("follower", leader.config.name)
                assert (await observer.ask([-2, "transfer", None]))[:2] == [-2, Code.NOT_LEADER]

    run(scenario())


def test_a_hand_over_moves_sessions_with_their_waits(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving_three(tmp_path) as servers:
            await wait_until_known(servers)
            leader = leader_of(servers)
            client = await RawClient.with_session(leader)
            request = [1, 0, QUEUE_GET, QUEUE, 0, 1, True]
            assert await client.ask(request) == [1, Code.WAITING, None]
            observer = await RawClient.observer(leader)
            assert await observer.ask([-1, "transfer", None]) == [-1, Code.OK, True]
            assert (await client.rest())[-1][:2] == [0, Code.NOT_LEADER]
            await until(lambda: any(s.gateway.is_serving for s in servers if s is not leader))
            successor = leader_of(servers)
            moved = await RawClient.with_session(successor, session=client.session)
            assert await moved.ask(request) == [1, Code.WAITING, None]
            moved.send([2, 0, QUEUE_PUT, QUEUE, 0, [VALUE], False])
            answers = [await moved.receive(), await moved.receive()]
            assert sorted(answers, key=lambda answer: int(answer[0]))[0] == [1, Code.OK, [VALUE]]

    run(scenario())


def test_a_leader_that_stops_tells_its_clients_who_leads_next(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving_three(tmp_path) as servers:
            await wait_until_known(servers)
            leader = leader_of(servers)
            client = await RawClient.with_session(leader)
            assert (await client.ask([1, 0, SET, NAME, VALUE]))[1] == Code.OK
            await leader.stop()
            messages = await client.rest()
            assert messages[-1][:2] == [0, Code.NOT_LEADER]
            others = [server for server in servers if server is not leader]
            await until(lambda: any(server.gateway.is_serving for server in others))
            successor = leader_of(others)
            assert messages[-1][2] in (successor.config.listen, None)
            moved = await RawClient.with_session(successor, session=client.session)
            assert (await moved.ask([2, 1, GET, NAME, False]))[2][0] == VALUE

    run(scenario())


def test_without_a_majority_nothing_is_answered_ok(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving_three(tmp_path) as servers:
            leader = leader_of(servers)
            client = await RawClient.with_session(leader, ttl_ms=60_000)
            await client.ask([1, 0, SET, NAME, VALUE])
            for server in servers:
                if server is not leader:
                    await server.stop(graceful=False)
            client.send([2, 1, SET, NAME, b"\xa1x"])
            client.send([3, 1, GET, NAME, False])
            client.send([-1, "keep_alive"])
            messages = await client.rest()
            assert [message[:2] for message in messages] == [[0, Code.NOT_LEADER]]

    run(scenario())


def test_an_entry_that_cannot_be_applied_stops_the_replica(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server)
            server.gateway.engine.propose(b"this is no batch", lambda outcome: None)
            error = await server.wait_fatal()
            assert isinstance(error.__cause__ or error, MachineError) or "apply" in str(error)
            assert await client.rest() == [[0, Code.NOT_LEADER, None]]
            await let_pass(1)
            assert not server.gateway.is_serving

    run(scenario())
