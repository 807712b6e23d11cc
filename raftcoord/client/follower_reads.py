"""Reads of topics that any replica may answer, over a connection of their own to one that does not lead.

Invariants:
  1. Every read ends within bounded time: with an answer, or with None when another one is worth a try.
  2. A replica that is out of touch with its leader, silent or gone is left for another one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from raftcoord.client.addresses import Addresses
from raftcoord.client.backoff import Backoff
from raftcoord.client.connection import Connection
from raftcoord.client.hello import is_hello, say_hello
from raftcoord.protocol.errors import Code
from raftcoord.protocol.frames import encode_frame
from raftcoord.protocol.operations import FOLLOW_HOLD_S
from raftcoord.runtime import Runtime

_log = logging.getLogger(__name__)

TRY_LIMIT_S: Final = 1.0  # for connecting and hello together
ANSWER_LIMIT_S: Final = FOLLOW_HOLD_S + 1.0

Answer: TypeAlias = "tuple[int, Any]"  # code, payload


class FollowerReads:
    """All such reads of one client; belongs to the event loop that it is used on first.

    Args:
        leader: returns the address that the client's session is attached at, which is asked last.
    """

    def __init__(self, addresses: Addresses, runtime: Runtime, leader: Callable[[], str | None]) -> None:
        self._addresses = addresses
        self._runtime = runtime
        self._leader = leader
        self._backoff = Backoff(runtime.rng)
        self._connecting = asyncio.Lock()
        self._connection: Connection | None = None
        self._left: str | None = None  # the address that disappointed last
        self._open: dict[int, asyncio.Future[Answer | None]] = {}
        self._last_id = 0
        self._tasks: dict[asyncio.Task[Answer | None], None] = {}

    def __repr__(self) -> str:
        return f"<FollowerReads open={len(self._open)} {self._connection!r}>"

    def read(self, name: bytes, offset: int, count_max: int) -> asyncio.Task[Answer | None]:
        """Begin to read a topic on from an offset above 0; see invariant 1. Cancelled by `close` only."""
        task = asyncio.get_running_loop().create_task(self._read(name, offset, count_max))
        self._tasks[task] = None
        task.add_done_callback(lambda task: self._tasks.pop(task, None))
        return task

    async def close(self) -> None:
        """End all reads and close the connection."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._connection is not None:
            self._connection.close()

    async def _read(self, name: bytes, offset: int, count_max: int) -> Answer | None:
        connection = await self._connected()
        answer = None
        if connection is not None:
            answer = await self._ask(connection, ["follow", name, offset, count_max])
        if answer is None or answer[0] == Code.BUSY:
            await asyncio.sleep(self._backoff.next_s())
            return None
        self._backoff.reset()
        return answer

    async def _ask(self, connection: Connection, request: list[Any]) -> Answer | None:
        self._last_id -= 1
        identifier = self._last_id
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._open[identifier] = future
        connection.send(encode_frame([identifier, *request]))
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                answer = await future
        except TimeoutError:
            self._leave(connection, "it is silent")
            return None
        finally:
            self._open.pop(identifier, None)
        if answer is not None and answer[0] == Code.NOT_LEADER:
            self._leave(connection, "it knows no leader")
            return None
        return answer

    # The connection

    async def _connected(self) -> Connection | None:
        async with self._connecting:
            if self._connection is None:
                for address in self._order():
                    if await self._connect(address):
                        break
            return self._connection

    def _order(self) -> list[str]:
        """Return the addresses as they are tried: at random, then the one that was left, then the leader."""
        left, leader, rng = self._left, self._leader(), self._runtime.rng
        return sorted(self._addresses, key=lambda address: (address == leader, address == left, rng.random()))

    async def _connect(self, address: str) -> bool:
        try:
            connection, message, _ = await say_hello(self._runtime, address, "observer", {}, TRY_LIMIT_S)
        except (TimeoutError, OSError, ValueError) as error:
            _log.debug("follower_unreachable address=%s error=%r", address, error)
            return False
        if not (is_hello(message) and message[2] == Code.OK and connection.is_open):
            connection.close()
            return False
        self._connection = connection
        connection.on_message = self._on_message
        connection.on_closed = lambda: self._on_closed(connection)
        _log.info("follower_connected address=%s", address)
        return True

    def _leave(self, connection: Connection, reason: str) -> None:
        if connection is self._connection:
            _log.info("follower_left address=%s reason=%s", connection.address, reason)
            connection.close()

    def _on_closed(self, connection: Connection) -> None:
        self._connection = None
        self._left = connection.address
        for future in self._open.values():
            if not future.done():
                future.set_result(None)

    def _on_message(self, message: Any) -> None:
        if (
            type(message) is list
            and len(message) == 3
            and type(message[0]) is int
            and type(message[1]) is int
        ):
            identifier, code, payload = message
            future = self._open.get(identifier)
            if future is not None and not future.done():
                future.set_result((code, payload))
        elif self._connection is not None:
            self._leave(self._connection, "it sent something that is no answer")
