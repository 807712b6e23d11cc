"""Everything that a client can make a replica hold is bounded, and reaching a bound has a defined answer."""

from __future__ import annotations

import contextlib
from pathlib import Path

from server_harness import NAME, VALUE, RawClient, jumping_loop, run, serving, session_options, until

from raftcoord.protocol.errors import Code
from raftcoord.protocol.frames import FRAME_BYTES_MAX
from raftcoord.protocol.operations import Operation
from raftcoord.protocol.values import pack_name
from raftcoord.server import connection as connection_module
from raftcoord.server import gateway as gateway_module
from raftcoord.server.connection import HELLO_TIMEOUT_S, OBSERVER_SILENCE_S

SET, GET = int(Operation.VARIABLE_SET), int(Operation.VARIABLE_GET)
OTHER = pack_name("another name")


def test_silence_instead_of_a_hello_is_cut_off(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            started = jumping_loop().time()
            silent, half = await RawClient.connect(server), await RawClient.connect(server)
            half.send_bytes(b"\x00\x00\x00\x20\x94")
            assert await silent.rest() == []
            assert await half.rest() == []
            assert HELLO_TIMEOUT_S <= jumping_loop().time() - started < HELLO_TIMEOUT_S + 1
            assert server.metrics.rejected == {"hello_timeout": 2}

    run(scenario())


def test_half_a_frame_and_silence_ends_with_the_session(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server, ttl_ms=1000)
            client.send_bytes(b"\x00\x00\x10\x00" + b"x" * 100)
            assert await client.rest() == []
            assert server.counts()["sessions"] == 0
            assert server.gateway.buffered_bytes == 0

    run(scenario())


def test_a_silent_connection_ends_even_if_its_session_cannot(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            before = jumping_loop().time()
            client = await RawClient.with_session(server, ttl_ms=8000)
            server.gateway.session_clock.stop_leading()
            assert await client.rest() == []
            assert jumping_loop().time() - before >= 9.0
            assert server.metrics.rejected == {"silence": 1}

    run(scenario())


def test_a_silent_observer_is_cut_off_late(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            observer = await RawClient.observer(server)
            started = jumping_loop().time()
            assert await observer.rest() == []
            assert jumping_loop().time() - started >= OBSERVER_SILENCE_S

    run(scenario())


def test_a_frame_over_the_limit_closes_only_its_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            good, bad = await RawClient.with_session(server), await RawClient.observer(server)
            early = await RawClient.connect(server)
            bad.send_bytes((FRAME_BYTES_MAX + 1).to_bytes(4, "big"))
            early.send_bytes((connection_module.HELLO_BYTES_MAX + 1).to_bytes(4, "big"))
            assert await bad.rest() == []
            assert await early.rest() == []
            assert server.metrics.rejected == {"frame": 2}
            assert (await good.ask([1, 0, SET, NAME, VALUE]))[1] == Code.OK

    run(scenario())


def test_values_of_the_largest_size_pass(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server)
            value = b"\xc6" + b"x" * (1024 * 1024 - 1)
            assert (await client.ask([1, 0, SET, NAME, value]))[1] == Code.OK
            assert (await client.ask([2, 1, GET, NAME, False]))[2][0] == value

    run(scenario())


def test_connections_over_the_limit_are_told_and_the_others_go_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, limits={"connections_max": 20}) as server:
            client = await RawClient.with_session(server)
            idle = [await RawClient.observer(server) for _ in range(19)]
            surplus = await RawClient.connect(server)
            answer = await surplus.hello("session", session_options(b"s" * 16))
            assert answer[2] == Code.LIMIT
            assert await surplus.rest() == []
            assert (await client.ask([1, 0, SET, NAME, VALUE]))[1] == Code.OK
            await idle[0].close()
            await until(lambda: len(server.gateway.connections) < 20)
            assert (await RawClient.with_session(server, nonce=b"t" * 16)).session > 0

    run(scenario())


def test_far_too_many_connections_are_cut_off_without_a_word(tmp_path: Path) -> None:
    async def scenario() -> None:
        surplus_max = gateway_module.SURPLUS_CONNECTIONS_MAX
        async with serving(tmp_path, limits={"connections_max": 1}) as server:
            client = await RawClient.with_session(server)
            waiting = [await RawClient.connect(server) for _ in range(surplus_max)]
            beyond = await RawClient.connect(server)
            assert await beyond.rest() == []
            assert server.metrics.rejected["too_many"] == 1
            assert (await waiting[0].hello("session", session_options(b"s" * 16)))[2] == Code.LIMIT
            assert (await client.ask([1, 0, SET, NAME, VALUE]))[1] == Code.OK

    run(scenario())


def test_too_many_requests_in_flight_are_put_off_and_none_is_lost(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, limits={"in_flight_max": 8}) as server:
            client = await RawClient.with_session(server)
            for sequence in range(1, 101):
                client.send([sequence, 0, SET, NAME, VALUE])
            answers = {}
            for _ in range(100):
                sequence, code, _ = await client.receive()
                answers[sequence] = code
            assert set(answers.values()) == {Code.OK, Code.BUSY}
            put_off = [sequence for sequence, code in answers.items() if code == Code.BUSY]
            for sequence in put_off:
                assert (await client.ask([sequence, 0, SET, NAME, VALUE]))[:2] == [sequence, Code.OK]
            assert not server.gateway.batcher.pending_bytes

    run(scenario())


def test_a_client_that_does_not_read_neither_fills_memory_nor_stops_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            good = await RawClient.with_session(server, nonce=b"g" * 16)
            value = b"\xc6" + b"x" * (1024 * 1024 - 1)
            await good.ask([1, 0, SET, NAME, value])
            greedy = await RawClient.with_session(server, nonce=b"d" * 16)
            greedy.writer.transport.pause_reading()  # type: ignore[attr-defined]
            for sequence in range(1, 101):
                greedy.send([sequence, 0, GET, NAME, False])
            for sequence in range(2, 30):
                assert (await good.ask([sequence, 1, SET, OTHER, VALUE]))[1] == Code.OK
            [its_connection] = [
                c for c in server.gateway.connections if c.entry and c.entry.identifier == greedy.session
            ]
            assert its_connection.is_congested or not its_connection.unanswered
            greedy.writer.transport.resume_reading()  # type: ignore[attr-defined]
            codes = [(await greedy.receive())[1] for _ in range(100)]
            assert set(codes) == {Code.OK, Code.BUSY}

    run(scenario())


def test_commands_over_the_pending_bound_are_put_off(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, limits={"pending_bytes_max": 16 * 1024 * 1024}) as server:
            value = b"\xc6" + b"x" * (1024 * 1024 - 1)
            clients = [await RawClient.with_session(server, nonce=bytes([n]) * 16) for n in range(4)]
            for client in clients:
                for sequence in range(1, 11):
                    client.send([sequence, 0, SET, NAME, value])
            codes = [(await client.receive())[1] for client in clients for _ in range(10)]
            assert set(codes) <= {Code.OK, Code.BUSY}
            assert server.gateway.batcher.pending_bytes == 0
            assert (await clients[0].ask([11, 0, SET, NAME, VALUE]))[1] == Code.OK

    run(scenario())


def test_idle_connections_do_not_slow_others_down(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server, contextlib.AsyncExitStack() as stack:
            for _ in range(400):
                client = await RawClient.observer(server)
                stack.push_async_callback(client.close)
            client = await RawClient.with_session(server)
            for sequence in range(1, 200):
                assert (await client.ask([sequence, sequence - 1, SET, NAME, VALUE]))[1] == Code.OK

    run(scenario())
