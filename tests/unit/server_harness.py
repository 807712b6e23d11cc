"""A replica of a cluster of one inside the test's process, on an event loop whose time jumps.

Sockets and files are real; only waiting is not: when nothing is left to do, the loop's clock moves on to
the next timer. Timeouts of minutes therefore pass at once, and nothing depends on how fast the machine is.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple, Unpack

import msgspec

from raftcoord.protocol.frames import MAGIC, PROTOCOL_VERSION, FrameDecoder, encode_frame
from raftcoord.protocol.values import pack_name, pack_value
from raftcoord.runtime import Runtime
from raftcoord.server.config import ServerConfig, checked
from raftcoord.server.replica import ReplicaServer

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_THREAD_POLL_S = 0.05
_SETTLE_S = 0.002  # real time in which sockets and threads may still deliver something

NAME = pack_name("a name")
VALUE = pack_value("a value")


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits for long: an idle wait moves `jumped_s` on by what it was asked to wait for.

    While a thread works for the loop, waiting is real: disk work must not look as if it took seconds.
    """

    jumped_s = 0.0
    threads_at_work = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return list(super().select(None))
        if self.threads_at_work:
            return list(super().select(min(timeout, _THREAD_POLL_S)))
        ready = super().select(min(timeout, _SETTLE_S))
        if not ready and timeout > _SETTLE_S:
            self.jumped_s += timeout - _SETTLE_S
        return list(ready)


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer when nothing else happens."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self.failures: list[dict[str, Any]] = []
        self.set_exception_handler(lambda loop, context: self.failures.append(context))

    def time(self) -> float:
        return super().time() + self._jumping.jumped_s

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[_Ts]], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        future = super().run_in_executor(executor, func, *args)
        self._jumping.threads_at_work += 1
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, future: asyncio.Future[Any]) -> None:
        self._jumping.threads_at_work -= 1

    def stall(self, seconds: float) -> None:
        """Let time pass as if the whole process had been stopped."""
        self._jumping.jumped_s += seconds


class LoopClock:
    """The time of the running loop."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()


async def close_clients() -> None:
    """Close what a test left open, on the loop on which it was opened."""
    while _clients:
        await _clients[-1].close()
    await let_pass(0.01)


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a test on a `JumpingLoop`; whatever went wrong inside the loop fails it."""

    async def with_cleanup() -> _T:
        try:
            return await work
        finally:
            await close_clients()

    loop = JumpingLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(with_cleanup())
    assert not loop.failures, loop.failures
    return result


async def let_pass(seconds: float) -> None:
    """Let the loop's time move on; it takes no real time unless there is work to do."""
    loop = asyncio.get_running_loop()
    reached: asyncio.Future[None] = loop.create_future()
    loop.call_later(seconds, reached.set_result, None)
    await reached


async def until(condition: Callable[[], bool]) -> None:
    """Let things go on until the condition holds; fail after a minute of the loop's time."""
    deadline = asyncio.get_running_loop().time() + 60
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "the condition never held"
        await let_pass(0.01)


def jumping_loop() -> JumpingLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)
    return loop


def free_address() -> str:
    """Return an address on loopback that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def make_config(folder: Path, **changes: Any) -> ServerConfig:
    """Return settings of a cluster of one in `folder`; `limits` are given as a dict."""
    values: dict[str, Any] = {
        "name": "r1",
        "data_dir": str(folder / "data"),
        "listen": free_address(),
        "peers": {"r1": free_address()},
        "ops_listen": "",
        "segment_bytes": 256 * 1024,
        "heartbeat_ms": 1000,  # every timer is a jump of the loop's time, and costs real time
        "election_timeout_ms": 4000,
        **changes,
    }
    return checked(msgspec.convert(values, ServerConfig))


@contextlib.asynccontextmanager
async def serving(folder: Path, **changes: Any) -> AsyncIterator[ReplicaServer]:
    """A started replica that leads; stopped at the end."""
    server = ReplicaServer(make_config(folder, **changes), Runtime(clock=LoopClock()))
    await server.start()
    try:
        await until(lambda: server.gateway.is_serving)
        yield server
    finally:
        await server.stop()


_clients: list[RawClient] = []  # all of the running test; `run` closes what the test left open


@contextlib.asynccontextmanager
async def serving_three(folder: Path) -> AsyncIterator[list[ReplicaServer]]:
    """Three started replicas of one cluster, one of which leads; all are stopped at the end."""
    peers = {name: free_address() for name in ("r1", "r2", "r3")}
    configs = [make_config(folder / name, name=name, peers=peers) for name in peers]
    servers = [ReplicaServer(config, Runtime(clock=LoopClock())) for config in configs]
    for server in servers:
        await server.start()
    try:
        await until(lambda: any(server.gateway.is_serving for server in servers))
        yield servers
    finally:
        for server in servers:
            await server.stop(graceful=False)


class RawClient:
    """A client that says exactly what a test tells it to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._decoder = FrameDecoder()
        self._messages: list[Any] = []
        self.session = 0

    @classmethod
    async def connect(cls, server: ReplicaServer) -> RawClient:
        host, port = server.config.listen.split(":")
        client = cls(*await asyncio.open_connection(host, int(port)))
        _clients.append(client)
        return client

    @classmethod
    async def with_session(
        cls, server: ReplicaServer, *, nonce: bytes = b"n" * 16, session: int = 0, ttl_ms: int = 10_000
    ) -> RawClient:
        client = await cls.connect(server)
        answer = await client.hello("session", session_options(nonce, session=session, ttl_ms=ttl_ms))
        assert answer[2] == 0, answer
        client.session = answer[3]["session"]
        return client

    @classmethod
    async def observer(cls, server: ReplicaServer) -> RawClient:
        client = await cls.connect(server)
        answer = await client.hello("observer", {})
        assert answer[2] == 0, answer
        return client

    async def hello(self, kind: Any, options: Any, *, version: Any = PROTOCOL_VERSION) -> Any:
        return await self.ask([MAGIC, version, kind, options])

    def send(self, message: Any) -> None:
        self.writer.write(encode_frame(message))

    def send_bytes(self, data: bytes) -> None:
        self.writer.write(data)

    async def ask(self, message: Any) -> Any:
        self.send(message)
        return await self.receive()

    async def receive(self) -> Any:
        """Return the next message; None when the server closed the connection."""
        while not self._messages:
            try:
                data = await self.reader.read(65_536)
            except ConnectionError:
                return None
            if not data:
                return None
            self._messages += self._decoder.feed(data)
        return self._messages.pop(0)

    async def rest(self) -> list[Any]:
        """Return all messages until the server closes the connection."""
        messages = []
        while (message := await self.receive()) is not None:
            messages.append(message)
        return messages

    async def close(self) -> None:
        if self in _clients:
            _clients.remove(self)
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


def session_options(nonce: bytes = b"n" * 16, *, session: int = 0, ttl_ms: int = 10_000) -> dict[str, Any]:
    return {"session": session, "nonce": nonce, "ttl_ms": ttl_ms, "name": "test"}
