"""Requests on an open connection: answers, refusals that leave no trace, and connection-level requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from server_harness import NAME, VALUE, RawClient, let_pass, run, serving

from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation
from raftcoord.protocol.values import NAME_BYTES_MAX, VALUE_BYTES_MAX, pack_name

SET, GET = int(Operation.VARIABLE_SET), int(Operation.VARIABLE_GET)
QUEUE_PUT, QUEUE_GET = int(Operation.QUEUE_PUT), int(Operation.QUEUE_GET)
QUEUE = pack_name("a queue")


def test_what_was_set_is_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server)
            sequence, code, revision = await client.ask([1, 0, SET, NAME, VALUE])
            assert (sequence, code) == (1, Code.OK)
            assert await client.ask([2, 1, GET, NAME, False]) == [2, Code.OK, [VALUE, revision]]
            await client.close()

    run(scenario())


def test_reads_do_not_grow_the_log(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server)
            await client.ask([1, 0, SET, NAME, VALUE])
            before = server.engine_status().last_index
            for sequence in range(2, 50):
                assert (await client.ask([sequence, 1, GET, NAME, True]))[1] == Code.OK
                assert (await client.ask([-sequence, "keep_alive"]))[1] == Code.OK
            assert server.engine_status().last_index == before
            await client.close()

    run(scenario())


def test_many_requests_in_one_write_are_all_answered_and_share_entries(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server)
            before = server.engine_status().last_index
            for sequence in range(1, 1001):
                client.send([sequence, 0, SET, NAME, VALUE])
            answers = [await client.receive() for _ in range(1000)]
            assert sorted(answer[0] for answer in answers) == list(range(1, 1001))
            assert {answer[1] for answer in answers} == {Code.OK}
            assert len({answer[2] for answer in answers}) == 1000
            assert server.engine_status().last_index - before < 100
            await client.close()

    run(scenario())


def test_a_wait_is_announced_and_served_on_the_connection_that_its_session_has_then(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            getter = await RawClient.with_session(server, nonce=b"g" * 16)
            putter = await RawClient.with_session(server, nonce=b"p" * 16)
            request = [1, 0, QUEUE_GET, QUEUE, 0, 1, True]
            assert await getter.ask(request) == [1, Code.WAITING, None]
            moved = await RawClient.with_session(server, nonce=b"g" * 16, session=getter.session)
            assert await moved.ask(request) == [1, Code.WAITING, None]
            assert (await putter.ask([1, 0, QUEUE_PUT, QUEUE, 0, [VALUE], False]))[1] == Code.OK
            assert await moved.receive() == [1, Code.OK, [VALUE]]
            await moved.close()
            again = await RawClient.with_session(server, nonce=b"g" * 16, session=getter.session)
            assert await again.ask(request) == [1, Code.OK, [VALUE]]  # stored until it is confirmed
            await again.close()
            await putter.close()

    run(scenario())


def test_a_wait_served_in_its_own_batch_is_announced_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server)
            client.send([1, 0, QUEUE_GET, QUEUE, 0, 1, True])
            client.send([2, 0, QUEUE_PUT, QUEUE, 0, [VALUE], False])
            answers = [await client.receive() for _ in range(3)]
            of_the_wait = [answer for answer in answers if answer[0] == 1]
            assert of_the_wait == [[1, Code.WAITING, None], [1, Code.OK, [VALUE]]]
            await client.close()

    run(scenario())


def test_a_get_of_an_unset_variable_waits_in_the_log(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server)
            assert (await client.ask([1, 0, GET, NAME, False]))[1] == Code.UNSET
            assert await client.ask([2, 0, GET, NAME, True]) == [2, Code.WAITING, None]
            client.send([3, 0, SET, NAME, VALUE])
            answers = {(await client.receive())[0] for _ in range(2)}
            assert answers == {2, 3}
            await client.close()

    run(scenario())


@pytest.mark.parametrize(
    ("request_tail", "code"),
    [
        ([0, SET, NAME], Code.MALFORMED),
        ([0, SET, NAME, VALUE, 1], Code.MALFORMED),
        ([0, SET, "name", VALUE], Code.MALFORMED),
        ([0, SET, b"", VALUE], Code.MALFORMED),
        ([0, SET, b"x" * (NAME_BYTES_MAX + 1), VALUE], Code.MALFORMED),
        ([0, SET, NAME, b"x" * (VALUE_BYTES_MAX + 1)], Code.TOO_LARGE),
        ([0, QUEUE_PUT, QUEUE, 0, [b"x" * (VALUE_BYTES_MAX + 1)], True], Code.TOO_LARGE),
        ([0, QUEUE_PUT, QUEUE, 0, [], True], Code.MALFORMED),
        ([0, QUEUE_GET, QUEUE, 0, 0, True], Code.MALFORMED),
        ([0, 9999], Code.UNKNOWN_OPERATION),
        ([0, "set"], Code.UNKNOWN_OPERATION),
        ([0, None], Code.UNKNOWN_OPERATION),
        ([0, [], NAME], Code.UNKNOWN_OPERATION),
        ([0, int(Operation.OPEN_SESSION), b"n" * 16, 1000, ""], Code.UNKNOWN_OPERATION),
        ([0, int(Operation.EXPIRE_SESSIONS), [1]], Code.UNKNOWN_OPERATION),
        (["0", SET, NAME, VALUE], Code.MALFORMED),
        ([-1, SET, NAME, VALUE], Code.MALFORMED),
        ([[], SET, NAME, VALUE], Code.MALFORMED),
        ([0], Code.MALFORMED),
    ],
)
def test_a_bad_request_is_answered_and_leaves_no_trace(
    request_tail: list[Any], code: Code, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server)
            before = server.engine_status().last_index
            answer = await client.ask([1, *request_tail])
            assert answer[:2] == [1, code]
            assert isinstance(answer[2], str)
            assert server.engine_status().last_index == before
            assert (await client.ask([1, 0, SET, NAME, VALUE]))[1] == Code.OK  # and the session goes on
            await client.close()

    run(scenario())


@pytest.mark.parametrize(
    "message", [5, None, "text", {}, [], [1], ["1", 0, SET], [1.0, 0], [0, 0], [2**63, 0, 1]]
)
def test_what_cannot_be_answered_closes_the_connection(message: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server)
            client.send(message)
            assert await client.rest() == []
            assert server.metrics.rejected == {"request": 1}

    run(scenario())


def test_observers_ask_about_the_replica_and_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            observer = await RawClient.observer(server)
            sequence, code, status = await observer.ask([-7, "status"])
            assert (sequence, code) == (-7, Code.OK)
            assert (status["name"], status["role"], status["leader"]) == ("r1", "leader", "r1")
            assert status["leader_address"] == server.config.listen
            assert status["connections"] == 1
            assert status["applied_index"] == status["commit_index"]
            assert (await observer.ask([1, 0, SET, NAME, VALUE]))[:2] == [1, Code.MALFORMED]
            assert (await observer.ask([-8, "keep_alive"]))[:2] == [-8, Code.MALFORMED]
            await observer.close()

    run(scenario())


@pytest.mark.parametrize(
    ("tail", "code"),
    [
        (["dance"], Code.UNKNOWN_OPERATION),
        ([5], Code.UNKNOWN_OPERATION),
        ([["status"]], Code.UNKNOWN_OPERATION),
        (["status", 1], Code.MALFORMED),
        (["transfer"], Code.MALFORMED),
        (["transfer", 5], Code.MALFORMED),
    ],
)
def test_bad_connection_level_requests(tail: list[Any], code: Code, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            observer = await RawClient.observer(server)
            assert (await observer.ask([-1, *tail]))[:2] == [-1, code]
            assert (await observer.ask([-2, "status"]))[1] == Code.OK
            await observer.close()

    run(scenario())


def test_a_snapshot_on_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server)
            await client.ask([1, 0, SET, NAME, VALUE])
            applied = server.engine_status().applied_index
            _, code, index = await client.ask([-1, "snapshot"])
            assert (code, index) == (Code.OK, applied)
            assert server.engine_status().snapshot_index == applied
            await client.close()

    run(scenario())


def test_a_restarted_replica_has_what_was_acknowledged(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server)
            await client.ask([1, 0, SET, NAME, VALUE])
            session = client.session
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server, session=session)
            assert (await client.ask([2, 1, GET, NAME, False]))[2][0] == VALUE
            await client.close()

    run(scenario())


def test_losing_the_leadership_sends_sessions_away_and_leaves_observers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client, observer = await RawClient.with_session(server), await RawClient.observer(server)
            client.send([1, 0, SET, NAME, VALUE])
            client.send([2, 0, GET, NAME, False])
            await let_pass(0)
            server.on_leadership_lost()
            messages = await client.rest()
            assert messages[-1][:2] == [0, Code.NOT_LEADER]
            assert (await observer.ask([-1, "status"]))[1] == Code.OK
            await observer.close()

    run(scenario())
