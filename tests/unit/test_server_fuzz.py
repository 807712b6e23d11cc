"""Whatever a client sends, nothing escapes into the event loop and the other clients go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server_harness import NAME, VALUE, JumpingLoop, RawClient, close_clients, let_pass, make_config, until

from raftcoord.protocol.errors import Code
from raftcoord.protocol.frames import HEADER_BYTES, MAGIC, encode_frame
from raftcoord.protocol.operations import OPERATIONS, Operation
from raftcoord.runtime import Runtime
from raftcoord.server.replica import ReplicaServer

CLOSE_SESSION = int(Operation.CLOSE_SESSION)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=40)
    | st.sampled_from([NAME, VALUE, "raftcoord", "session", "observer", "status", "keep_alive", "transfer"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
OPERATION = st.sampled_from(sorted(OPERATIONS)) | st.integers(-5, 70)
REQUEST = st.builds(
    lambda sequence, acked, operation, arguments: [sequence, acked, operation, *arguments],
    st.integers(-3, 50),
    st.integers(-1, 60) | st.lists(st.integers(-1, 60), max_size=4) | JUNK,
    OPERATION,
    st.lists(st.sampled_from([NAME, VALUE, True, False, 0, 1, -1]) | JUNK, max_size=5),
)
FRAME = (REQUEST | JUNK).map(encode_frame)
PIECES = st.lists(FRAME | st.binary(max_size=60), max_size=8)
OPENINGS = st.sampled_from(["none", "observer", "session"])


@contextlib.contextmanager
def running_server(folder: Path) -> Iterator[tuple[asyncio.Runner, JumpingLoop, ReplicaServer, RawClient]]:
    loop = JumpingLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        # The loop's clock jumps while no example runs, so the witness lives as long as a session can.
        server = ReplicaServer(make_config(folder), Runtime())

        async def start() -> RawClient:
            await server.start()
            await until(lambda: server.gateway.is_serving)
            return await RawClient.with_session(server, nonce=b"w" * 16, ttl_ms=3_600_000)

        witness = runner.run(start())
        yield runner, loop, server, witness
        runner.run(server.stop())
        runner.run(close_clients())


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with running_server(tmp_path_factory.mktemp("fuzz")) as parts:
        yield (*parts, [0])


async def opened(server: ReplicaServer, opening: str, nonce: bytes) -> RawClient:
    if opening == "session":
        return await RawClient.with_session(server, nonce=nonce, ttl_ms=500)
    return await (RawClient.observer(server) if opening == "observer" else RawClient.connect(server))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(opening=OPENINGS, pieces=PIECES, cut=st.integers(0, 200))
def test_any_bytes_are_survived(stage: Any, opening: str, pieces: list[bytes], cut: int) -> None:
    runner, loop, server, witness, counter = stage
    data = b"".join(pieces)
    counter[0] += 1

    async def example() -> None:
        client = await opened(server, opening, counter[0].to_bytes(16, "big"))
        client.send_bytes(data[:cut])
        await let_pass(0)
        client.send_bytes(data[cut:])
        with contextlib.suppress(OSError):  # the server may have closed it already
            client.writer.write_eof()
            await client.reader.read()
        await client.close()
        answer = await witness.ask([counter[0], counter[0] - 1, int(Operation.VARIABLE_SET), NAME, VALUE])
        assert answer[:2] == [counter[0], 0]

    runner.run(example())
    assert not loop.failures, loop.failures
    assert server.fatal_error is None


@pytest.mark.parametrize(
    ("opening", "head"),
    [
        ("none", b"\x92" + encode_frame(MAGIC)[HEADER_BYTES:]),  # the version of a hello
        ("session", b"\x93\x01\x00"),  # the operation of a request
        ("observer", b"\x92\xff"),  # the name of a connection-level request
    ],
)
def test_nesting_as_deep_as_a_frame_can_be_is_survived(stage: Any, opening: str, head: bytes) -> None:
    runner, loop, server, _, counter = stage

    async def example(depth: int) -> None:
        counter[0] += 1
        client = await opened(server, opening, counter[0].to_bytes(16, "big"))
        payload = head + b"\x91" * depth + b"\xc0"
        client.send_bytes(len(payload).to_bytes(HEADER_BYTES, "big") + payload)
        assert (await client.receive())[-2] in (Code.UNKNOWN_OPERATION, Code.UNSUPPORTED_VERSION)
        await client.close()

    for depth in (10, 900, 1000, 1022):
        runner.run(example(depth))
    assert not loop.failures, loop.failures


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(REQUEST, min_size=1, max_size=10))
def test_every_answerable_request_is_answered_or_the_connection_ends(stage: Any, requests: list[Any]) -> None:
    runner, loop, server, _, counter = stage
    counter[0] += 1  # a nonce must not come twice, also when an example is replayed
    nonce = counter[0].to_bytes(16, "big")

    async def example() -> None:
        client = await RawClient.with_session(server, nonce=nonce, ttl_ms=60_000)
        for request in requests:
            client.send(request)
        client.send([10_000, 0, CLOSE_SESSION])  # ends the session, and with it the connection
        answered = {message[0] for message in await client.rest()}
        await client.close()
        wanted = {request[0] for request in requests}
        ended = 10_000 in answered
        assert not ended or wanted <= answered, (wanted, answered)

    runner.run(example())
    assert not loop.failures, loop.failures
