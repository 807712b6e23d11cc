"""Reads of topics that any replica may answer, over a connection of their own to one that does not lead.

Invariants:
  1. A read is answered, or ends with None within bounded time: another one is then worth a try.
  2. A replica that is out of touch with its leader, silent or gone is left, and the others are asked before
     it is asked again.
  3. However many reads there are, there is one attempt to connect at a time, and one pause between attempts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from raftcoord.client.addresses import Addresses
from raftcoord.client.backoff import Backoff
from raftcoord.client.connection import Connection
from raftcoord.client.hello import HOPELESS, is_hello, say_hello
from raftcoord.protocol.errors import Code
from raftcoord.protocol.frames import encode_frame
from raftcoord.protocol.operations import FOLLOW_HOLD_S
from raftcoord.runtime import Runtime

_log = logging.getLogger(__name__)

TRY_LIMIT_S: Final = 1.0  # for connecting and hello together
ANSWER_LIMIT_S: Final = FOLLOW_HOLD_S + 1.0
BUSY_PAUSE_S: Final = 0.1
IDLE_S: Final = 60.0  # after so long without a read the connection is closed
STAY_S: Final = 30.0  # how long a replica that leads is put up with before others are tried again

Answer: TypeAlias = "tuple[int, Any]"  # code, payload


@dataclass(frozen=True, slots=True, eq=False)
class _Follower:
    """A replica that took the connection."""

    connection: Connection
    server: object  # the name by which it goes
    since: float


class FollowerReads:
    """All such reads of one client; belongs to one event loop.

    Args:
        leader: returns the name of the replica at which the client's session is attached, which is asked
            only when no other one serves.
    """

    def __init__(self, addresses: Addresses, runtime: Runtime, leader: Callable[[], object]) -> None:
        self._addresses = addresses
        self._runtime = runtime
        self._leader = leader
        self._backoff = Backoff(runtime.rng)
        self._pauses = False  # before the next attempt: what the last one found has not answered
        self._attempt: asyncio.Task[None] | None = None
        self._follower: _Follower | None = None
        self._disappointing: dict[str, None] = {}  # addresses, since a replica last answered
        self._refusal: Answer | None = None  # of every replica, and for good
        self._open: dict[int, asyncio.Future[Answer | None]] = {}
        self._last_id = 0
        self._reads: dict[asyncio.Task[Answer | None], None] = {}
        self._idle_timer: asyncio.TimerHandle | None = None
        self.problem = "no attempt was made yet"

    def __repr__(self) -> str:
        return f"<FollowerReads open={len(self._open)} {self._follower!r} problem={self.problem!r}>"

    def read(self, name: bytes, offset: int, count_max: int) -> asyncio.Task[Answer | None]:
        """Begin to read a topic on from an offset above 0; see invariant 1. Cancelled by `close` only."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        task = asyncio.get_running_loop().create_task(self._read(name, offset, count_max))
        self._reads[task] = None
        task.add_done_callback(self._read_done)
        return task

    async def close(self) -> None:
        """End all reads and close the connection."""
        tasks: list[asyncio.Task[Any]] = [*self._reads]
        if self._attempt is not None:
            tasks.append(self._attempt)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._hang_up()

    def _read_done(self, task: asyncio.Task[Answer | None]) -> None:
        del self._reads[task]
        if not self._reads and self._follower is not None:
            self._idle_timer = asyncio.get_running_loop().call_later(IDLE_S, self._hang_up)

    async def _read(self, name: bytes, offset: int, count_max: int) -> Answer | None:
        follower = await self._connected()
        if follower is None:
            return self._refusal
        answer = await self._ask(follower, ["follow", name, offset, count_max])
        if answer is None:
            return None
        if answer[0] == Code.NOT_LEADER:
            self._leave(follower, "it is out of touch with its leader, or far behind")
            return None
        if answer[0] == Code.BUSY:
            await asyncio.sleep(BUSY_PAUSE_S * (0.5 + self._runtime.rng.random()))
            return None
        self._disappointing.clear()
        self._pauses = False
        self._backoff.reset()
        return answer

    async def _ask(self, follower: _Follower, request: list[Any]) -> Answer | None:
        self._last_id -= 1
        identifier = self._last_id
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._open[identifier] = future
        follower.connection.send(encode_frame([identifier, *request]))
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                return await future
        except TimeoutError:
            self._leave(follower, "it is silent")
            return None
        finally:
            del self._open[identifier]

    # The connection

    async def _connected(self) -> _Follower | None:
        """Return who serves, after at most one attempt to find somebody."""
        follower = self._follower
        if follower is not None and self._is_due(follower):
            _log.info("follower_leads address=%s", follower.connection.address)
            self._hang_up()
        if self._follower is None:
            if self._attempt is None:
                self._attempt = asyncio.get_running_loop().create_task(self._find())
            await asyncio.wait({self._attempt})
        return self._follower

    def _is_due(self, follower: _Follower) -> bool:
        leads = follower.server == self._leader() and len(self._addresses) > 1
        return leads and self._runtime.clock.now() - follower.since > STAY_S

    async def _find(self) -> None:
        """Try every address once: at random, those that disappointed last; a leader is better than these."""
        try:
            if self._pauses:
                await asyncio.sleep(self._backoff.next_s())
            self._pauses = True
            self._refusal = None
            await self._try_all()
        finally:
            self._attempt = None

    async def _try_all(self) -> None:
        rng, disappointing = self._runtime.rng, self._disappointing
        leading: _Follower | None = None
        codes: list[int | None] = []
        order = sorted(self._addresses, key=lambda address: (address in disappointing, rng.random()))
        try:
            for address in order:
                if leading is not None and address in disappointing:
                    break
                found = await self._try(address)
                if not isinstance(found, _Follower):
                    codes.append(found)
                elif found.server != self._leader():
                    self._take(found)
                    return
                elif leading is None:
                    leading = found
                else:  # under another address
                    found.connection.close()
            if leading is not None:
                self._take(leading)
            elif codes[-1] is not None and HOPELESS.issuperset(codes):
                self._refusal = codes[-1], self.problem
        finally:
            if leading is not None and leading is not self._follower:
                leading.connection.close()

    async def _try(self, address: str) -> _Follower | int | None:
        """Return the replica at an address, or the code of its refusal; None when it did not answer."""
        try:
            connection, message, _ = await say_hello(self._runtime, address, "observer", {}, TRY_LIMIT_S)
        except (TimeoutError, OSError, ValueError) as error:
            self.problem = f"{address}: {str(error) or type(error).__name__}"
            return None
        _, _, code, payload = message if is_hello(message) else (None, None, None, None)
        if code == Code.OK and isinstance(payload, dict) and connection.is_open:
            return _Follower(connection, payload.get("server"), self._runtime.clock.now())
        connection.close()
        if type(code) is int and code != Code.OK:
            self.problem = f"{address}: {payload!r:.200} (code {code})"
            return code
        self.problem = f"{address}: it closed the connection, or answered with something that is no hello"
        return None

    def _take(self, follower: _Follower) -> None:
        connection = follower.connection
        if not connection.is_open:
            return
        self._follower = follower
        connection.on_message = self._on_message
        connection.on_closed = lambda: self._on_closed(follower)
        _log.info("follower_connected address=%s", connection.address)

    def _leave(self, follower: _Follower, reason: str) -> None:
        """Look for another replica."""
        if follower is self._follower:
            self.problem = f"{follower.connection.address}: {reason}"
            _log.info("follower_left address=%s reason=%s", follower.connection.address, reason)
            self._disappointing[follower.connection.address] = None
            self._hang_up()

    def _hang_up(self) -> None:
        """Close the connection; what is open on it is asked again."""
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.connection.close()

    def _on_closed(self, follower: _Follower) -> None:
        if follower is self._follower:  # which closed it, or died
            self._follower = None
            self.problem = f"{follower.connection.address}: the connection was lost"
            self._disappointing[follower.connection.address] = None
        for future in self._open.values():
            if not future.done():
                future.set_result(None)

    def _on_message(self, message: Any) -> None:
        follower = self._follower
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
        elif follower is not None:
            self._leave(follower, "it sent something that is no answer")
