"""Opening a connection: who is let in, who is told what, and that a session has one connection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from server_harness import NAME, VALUE, RawClient, run, serving, session_options

from raftcoord.protocol.errors import Code
from raftcoord.protocol.frames import MAGIC, PROTOCOL_VERSION
from raftcoord.protocol.operations import Operation


def test_a_new_session_is_welcomed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.connect(server)
            answer = await client.hello("session", session_options(ttl_ms=3000))
            assert answer[:3] == [MAGIC, PROTOCOL_VERSION, Code.OK]
            assert answer[3]["session"] > 0
            assert (answer[3]["ttl_ms"], answer[3]["server"]) == (3000, "r1")
            assert answer[3]["frame_bytes_max"] == server.config.limits.frame_bytes_max
            await client.close()

    run(scenario())


@pytest.mark.parametrize(("asked_ms", "given_ms"), [(0, 10_000), (1, 500), (10**9, 3_600_000)])
def test_the_time_to_live_is_kept_within_bounds(asked_ms: int, given_ms: int, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.connect(server)
            answer = await client.hello("session", session_options(ttl_ms=asked_ms))
            assert answer[3]["ttl_ms"] == given_ms
            await client.close()

    run(scenario())


def test_a_repeated_hello_opens_one_session(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            first = await RawClient.with_session(server, nonce=b"a" * 16)
            again = await RawClient.with_session(server, nonce=b"a" * 16)
            other = await RawClient.with_session(server, nonce=b"b" * 16)
            assert first.session == again.session != other.session
            assert server.counts()["sessions"] == 2
            assert await first.rest() == []  # the newest connection has taken over
            for client in (again, other):
                await client.close()

    run(scenario())


def test_attaching_closes_the_older_connection_and_keeps_the_session(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            older = await RawClient.with_session(server)
            assert (await older.ask([1, 0, Operation.VARIABLE_SET, NAME, VALUE]))[:2] == [1, Code.OK]
            newer = await RawClient.with_session(server, session=older.session)
            assert await older.rest() == []
            repeated = await newer.ask([1, 0, Operation.VARIABLE_SET, NAME, VALUE])
            assert repeated[:2] == [1, Code.OK]
            await newer.close()

    run(scenario())


def test_an_unknown_session_is_lost(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.connect(server)
            answer = await client.hello("session", session_options(session=12345))
            assert answer[2] == Code.SESSION_LOST
            assert await client.rest() == []

    run(scenario())


def test_another_clients_session_cannot_be_taken(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            owner = await RawClient.with_session(server, nonce=b"a" * 16)
            stranger = await RawClient.connect(server)
            options = session_options(b"b" * 16, session=owner.session)
            assert (await stranger.hello("session", options))[2] == Code.SESSION_LOST
            assert (await owner.ask([-1, "keep_alive"])) == [-1, Code.OK, None]
            await owner.close()

    run(scenario())


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (["raftcoord", 2, "session", session_options()], Code.UNSUPPORTED_VERSION),
        (["raftcoord", "1", "session", session_options()], Code.UNSUPPORTED_VERSION),
        (["raftcoord", True, "session", session_options()], Code.UNSUPPORTED_VERSION),
        (["raftcoord", 1, "spectator", {}], Code.MALFORMED),
        (["raftcoord", 1, {}, {}], Code.MALFORMED),
        (["raftcoord", 1, "session"], Code.MALFORMED),
        (["raftcoord", 1, "observer", []], Code.MALFORMED),
        (["raftcoord", 1, "session", 5], Code.MALFORMED),
        (["raftcoord", 1, "session", session_options(b"short")], Code.MALFORMED),
        (["raftcoord", 1, "session", {**session_options(), "session": -1}], Code.MALFORMED),
        (["raftcoord", 1, "session", {**session_options(), "session": 2**63}], Code.MALFORMED),
        (["raftcoord", 1, "session", {**session_options(), "ttl_ms": 1.5}], Code.MALFORMED),
        (["raftcoord", 1, "session", {**session_options(), "name": "x" * 129}], Code.MALFORMED),
        (["raftcoord", 1, "session", {**session_options(), "name": b"x"}], Code.MALFORMED),
        (["raftcoord"], Code.MALFORMED),
        (["zookeeper", 1, "session", {}], Code.MALFORMED),
        ([], Code.MALFORMED),
        ({"raftcoord": 1}, Code.MALFORMED),
        (17, Code.MALFORMED),
        (None, Code.MALFORMED),
    ],
)
def test_a_wrong_hello_is_refused_and_the_connection_closed(message: Any, code: Code, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.connect(server)
            answer = await client.ask(message)
            assert answer[:3] == [MAGIC, PROTOCOL_VERSION, code]
            assert isinstance(answer[3], str)
            assert await client.rest() == []
            assert sum(server.metrics.rejected.values()) == 1
            assert server.counts()["sessions"] == 0

    run(scenario())


def test_a_request_before_the_answer_to_the_hello_closes_the_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.connect(server)
            client.send(["raftcoord", 1, "session", session_options()])
            client.send([1, 0, Operation.VARIABLE_SET, NAME, VALUE])
            assert await client.rest() == []
            assert server.metrics.rejected == {"early": 1}

    run(scenario())


def test_a_stopping_replica_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.connect(server)
            observer = await RawClient.observer(server)
            server.gateway.is_stopping = True
            answer = await client.hello("session", session_options())
            assert answer[2] == Code.SHUTTING_DOWN
            assert await client.rest() == []
            await server.stop()
            assert await observer.rest() == []

    run(scenario())


def test_a_replica_that_does_not_lead_points_elsewhere(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            server.on_leadership_lost()
            client = await RawClient.connect(server)
            answer = await client.hello("session", session_options())
            assert answer[:3] == [MAGIC, PROTOCOL_VERSION, Code.NOT_LEADER]
            assert await client.rest() == []

    run(scenario())
