"""A scripted replica: speaks the real protocol over TCP, and misbehaves exactly as a test says.

It keeps no state of a store. Each test gives a function from a request to the answers; what the client sent
is recorded in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from raftcoord import aio
from raftcoord.protocol.errors import Code
from raftcoord.protocol.frames import MAGIC, PROTOCOL_VERSION, FrameDecoder, encode_frame
from raftcoord.protocol.operations import Operation


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came; `connection` counts the connections of the peer from 1."""

    connection: int
    sequence: int
    acked: Any
    operation: Operation
    arguments: list[Any]


Answers = list[list[Any]]


def welcome(session: int = 7, ttl_ms: int = 10_000) -> list[Any]:
    payload = {"session": session, "ttl_ms": ttl_ms, "server": "peer", "frame_bytes_max": 8 << 20}
    return [MAGIC, PROTOCOL_VERSION, int(Code.OK), payload]


def refusal(code: Code, payload: Any = None) -> list[Any]:
    return [MAGIC, PROTOCOL_VERSION, int(code), payload]


def ok(request: Request, payload: Any = None) -> Answers:
    return [[request.sequence, int(Code.OK), payload]]


def answer(request: Request, code: Code, payload: Any = None) -> Answers:
    return [[request.sequence, int(code), payload]]


def granted(request: Request) -> Answers:
    """Answer like a store in which everything works at once."""
    payloads: dict[Operation, Any] = {
        Operation.VARIABLE_SET: 1,
        Operation.LOCK_ACQUIRE: 100 + request.sequence,
        Operation.SEMAPHORE_ACQUIRE: 100 + request.sequence,
        Operation.RWLOCK_ACQUIRE: 100 + request.sequence,
        Operation.MULTILOCK_ACQUIRE: [100 + request.sequence, *request.arguments[:1]],
        Operation.QUEUE_PUT: 1,
        Operation.QUEUE_SIZE: 0,
        Operation.QUEUE_CLAIM: [100 + request.sequence, b"\xa4item", 1],
    }
    return ok(request, payloads.get(request.operation))


def scripted(script: dict[Operation, Callable[[Request], Answers]]) -> Callable[[Request], Answers]:
    """Answer some operations as told, the others like a store in which everything works."""
    return lambda request: script.get(request.operation, granted)(request)


def waiting(request: Request) -> Answers:
    return answer(request, Code.WAITING)


def nothing(request: Request) -> Answers:
    return []


@dataclass
class Peer:
    """One listener on the loopback.

    hello      from (connection number, options) to the answer; None stays silent
    answers    from a request to the messages to send back, now
    keep_alive whether keep-alives are answered
    follow     from a request [id, "follow", …] to the messages to send back, now
    """

    hello: Callable[[int, dict[str, Any]], list[Any] | None] = lambda number, options: welcome()
    answers: Callable[[Request], Answers] = granted
    keep_alive: bool = True
    follow: Callable[[list[Any]], Answers] = lambda message: []
    requests: list[Request] = field(default_factory=list)
    follows: list[list[Any]] = field(default_factory=list)
    hellos: list[dict[str, Any]] = field(default_factory=list)
    keep_alives: int = 0
    connections: list[_PeerConnection] = field(default_factory=list)
    address: str = ""
    _server: asyncio.Server | None = None
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Peer:
        loop = asyncio.get_running_loop()
        port = int(self.address.rpartition(":")[2] or 0)
        self._server = await loop.create_server(lambda: _PeerConnection(self), "127.0.0.1", port)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self.connections:
            connection.transport.abort()
        await asyncio.sleep(0)

    async def until(self, condition: Callable[[Peer], bool], *, limit_s: float = 5.0) -> None:
        """Return once something that came makes the condition true."""
        async with asyncio.timeout(limit_s):
            while not condition(self):
                self._arrived.clear()
                await self._arrived.wait()

    def of(self, operation: Operation) -> list[Request]:
        return [request for request in self.requests if request.operation == operation]

    def send(self, *messages: list[Any]) -> None:
        """Send messages on the newest connection."""
        self.connections[-1].send(*messages)

    def take(self, connection: _PeerConnection, message: list[Any]) -> None:
        number = connection.number
        if message[0] == MAGIC:
            self.hellos.append(message[3])
            reply = self.hello(number, message[3])
            if reply is not None:
                connection.send(reply)
                if reply[2] != Code.OK:
                    connection.transport.close()
        elif message[1] == "follow":
            self.follows.append(message)
            connection.send(*self.follow(message))
        elif message[0] < 0:
            self.keep_alives += 1
            if self.keep_alive:
                connection.send([message[0], int(Code.OK), None])
        else:
            sequence, acked, operation, *arguments = message
            request = Request(number, sequence, acked, Operation(operation), arguments)
            self.requests.append(request)
            connection.send(*self.answers(request))
        self._arrived.set()


class _PeerConnection(asyncio.Protocol):
    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.decoder = FrameDecoder()
        self.transport: Any = None
        self.number = 0
        self.open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.peer.connections.append(self)
        self.number = len(self.peer.connections)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self.peer._arrived.set()

    def data_received(self, data: bytes) -> None:
        for message in self.decoder.feed(data):
            self.peer.take(self, message)

    def send(self, *messages: list[Any]) -> None:
        for message in messages:
            self.transport.write(encode_frame(message))


Scenario = Callable[[Peer, aio.Client], Awaitable[None]]


def play(scenario: Scenario, peer: Peer, **options: Any) -> None:
    """Run a scenario with a connected client of the peer."""

    async def run() -> None:
        async with peer, aio.Client(peer.address, set_as_default=False, **options) as client:
            await scenario(peer, client)

    asyncio.run(asyncio.wait_for(run(), 20))


async def lose_session(peer: Peer, client: aio.Client, *, session: int) -> None:
    """Have the replicas end the client's session, and wait until it has one with another number."""
    present = client.session_id
    peer.hello = lambda number, options: (
        refusal(Code.SESSION_LOST, "unknown") if options["session"] == present else welcome(session=session)
    )
    opened = asyncio.Event()
    client.add_listener(lambda state: opened.set() if client.session_id == session else None)
    peer.connections[-1].transport.abort()
    await opened.wait()
