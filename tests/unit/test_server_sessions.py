"""Sessions live while they are heard of; once their end is proposed nobody says otherwise."""

from __future__ import annotations

from pathlib import Path

from server_harness import NAME, VALUE, RawClient, jumping_loop, let_pass, run, serving, session_options

from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation
from raftcoord.protocol.values import pack_name
from raftcoord.server.replica import ReplicaServer

SET = int(Operation.VARIABLE_SET)
LOCK_ACQUIRE = int(Operation.LOCK_ACQUIRE)
LOCK = pack_name("a lock")


async def attach_code(server: ReplicaServer, session: int, nonce: bytes = b"n" * 16) -> int:
    client = await RawClient.connect(server)
    answer = await client.hello("session", session_options(nonce, session=session))
    await client.close()
    return int(answer[2])


def test_a_silent_session_expires_after_its_time_to_live_and_not_before(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server, ttl_ms=2000)
            started = jumping_loop().time()
            assert await client.rest() == []
            assert 2.0 <= jumping_loop().time() - started < 2.5
            assert server.counts()["sessions"] == 0
            assert server.metrics.sessions_expired == 1
            assert await attach_code(server, client.session) == Code.SESSION_LOST

    run(scenario())


def test_keep_alives_and_requests_renew(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server, ttl_ms=1000)
            for number in range(1, 6):
                await let_pass(0.7)
                assert await client.ask([-number, "keep_alive"]) == [-number, Code.OK, None]
                await let_pass(0.7)
                assert (await client.ask([number, number - 1, SET, NAME, VALUE]))[1] == Code.OK
            await client.close()
            assert server.counts()["sessions"] == 1

    run(scenario())


def test_a_session_without_connection_expires_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server, ttl_ms=1000)
            await client.close()
            await let_pass(0.8)
            assert server.counts()["sessions"] == 1
            await let_pass(0.5)
            assert server.counts()["sessions"] == 0

    run(scenario())


def test_a_lock_passes_on_when_its_holder_expires(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            holder = await RawClient.with_session(server, nonce=b"h" * 16, ttl_ms=1000)
            waiter = await RawClient.with_session(server, nonce=b"w" * 16, ttl_ms=60_000)
            _, _, fence = await holder.ask([1, 0, LOCK_ACQUIRE, LOCK, True])
            assert (await waiter.ask([1, 0, LOCK_ACQUIRE, LOCK, True]))[1] == Code.WAITING
            answer = await waiter.receive()
            assert answer[:2] == [1, Code.OK]
            assert answer[2] > fence
            await waiter.close()

    run(scenario())


def test_what_is_open_when_a_session_ends_is_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            holder = await RawClient.with_session(server, nonce=b"h" * 16, ttl_ms=60_000)
            await holder.ask([1, 0, LOCK_ACQUIRE, LOCK, True])
            waiter = await RawClient.with_session(server, nonce=b"w" * 16, ttl_ms=1000)
            assert (await waiter.ask([1, 0, LOCK_ACQUIRE, LOCK, True]))[1] == Code.WAITING
            messages = await waiter.rest()
            assert [message[:2] for message in messages] == [[1, Code.SESSION_LOST]]
            await holder.close()

    run(scenario())


def test_closing_a_session_answers_before_the_connection_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server)
            client.send([1, 0, int(Operation.CLOSE_SESSION)])
            assert await client.rest() == [[1, Code.OK, None]]
            assert server.counts()["sessions"] == 0
            assert server.metrics.sessions_expired == 0

    run(scenario())


def test_once_its_expiry_is_proposed_a_session_is_not_said_to_live(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server, ttl_ms=1000)
            entry = server.gateway.session_clock.entries[client.session]
            newcomer = await RawClient.connect(server)
            entry.expiring = True
            assert (await client.ask([-1, "keep_alive"]))[:2] == [-1, Code.SESSION_LOST]
            answer = await newcomer.hello("session", session_options(session=client.session))
            assert answer[2] == Code.SESSION_LOST

    run(scenario())


def test_a_keep_alive_that_waited_out_a_stall_counts(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server, ttl_ms=1000)
            silent = await RawClient.with_session(server, nonce=b"s" * 16, ttl_ms=1000)
            client.send([-1, "keep_alive"])
            jumping_loop().stall(30.0)  # the bytes are in the socket, every timer is overdue
            assert await client.receive() == [-1, Code.OK, None]
            await let_pass(0.5)
            assert set(server.gateway.session_clock.entries) == {client.session}
            assert await silent.rest() == []
            await client.close()

    run(scenario())


def test_a_new_leader_gives_every_session_its_full_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server, ttl_ms=2000)
            await client.close()
            await let_pass(1.5)
            server.on_leadership_lost()
            server.on_leader_ready(server.engine_status().term)
            await let_pass(1.5)
            assert server.counts()["sessions"] == 1
            await let_pass(1.0)
            assert server.counts()["sessions"] == 0

    run(scenario())


def test_sessions_survive_a_restart_for_their_time_to_live(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server, ttl_ms=5000)
        async with serving(tmp_path) as server:
            assert await attach_code(server, client.session) == Code.OK
            await let_pass(6)
            assert await attach_code(server, client.session) == Code.SESSION_LOST

    run(scenario())


def test_many_sessions_expire_together(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            for number in range(300):
                client = await RawClient.with_session(server, nonce=number.to_bytes(16, "big"), ttl_ms=60_000)
                await client.close()
            assert server.counts()["sessions"] == 300
            # A new leadership gives all of them the same deadline, however long it took to open them.
            server.on_leadership_lost()
            server.on_leader_ready(server.engine_status().term)
            before = server.engine_status().last_index
            await let_pass(65)
            assert server.counts()["sessions"] == 0
            assert not server.gateway.session_clock.entries
            assert server.engine_status().last_index - before == 1

    run(scenario())
