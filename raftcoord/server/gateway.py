"""The clients of one replica: their connections, their sessions, and what the log has for them.

Invariants:
  1. Sessions are served only between `on_leader_ready` and `on_leadership_lost`.
  2. Within one delivery, sessions that were opened are known before results are handed out, and results
     (which may say that a wait is registered) go before the final answers of waits.
  3. What the engine calls only schedules a delivery; nothing is answered or proposed from inside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from raftcoord.consensus.interface import Engine
from raftcoord.protocol.errors import Code
from raftcoord.runtime import Runtime
from raftcoord.server.batcher import Batcher
from raftcoord.server.config import Limits
from raftcoord.server.connection import CLOSE_GRACE_S, Connection, ConnectionState
from raftcoord.server.control import ControlTasks, answer_keep_alive
from raftcoord.server.deadlines import Deadlines
from raftcoord.server.expiry_clock import ExpiryClock
from raftcoord.server.followers import Followers
from raftcoord.server.hello import handle_hello, refuse
from raftcoord.server.metrics import Metrics
from raftcoord.server.reads import ReadQueue
from raftcoord.server.replicated_machine import ReplicatedMachine
from raftcoord.server.requests import answer_read
from raftcoord.server.session_clock import SessionClock

logger = logging.getLogger(__name__)

# Connections over the limit that may wait for their refusal; the next ones are cut off without a word.
SURPLUS_CONNECTIONS_MAX: Final = 256
# What incomplete frames of all connections may hold before the large ones among them are cut off.
BUFFERED_BYTES_MAX: Final = 512 * 1024 * 1024
BUFFERED_BYTES_FREE: Final = 64 * 1024
REJECTIONS_LOGGED_MAX: Final = 20  # per window; all are counted
REJECTIONS_WINDOW_S: Final = 10.0


class Gateway:
    """Everything between client connections and the log.

    Args:
        status: returns the map that answers a status request.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        machine: ReplicatedMachine,
        runtime: Runtime,
        limits: Limits,
        server_name: str,
        metrics: Metrics,
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self.engine = engine
        self.machine = machine
        self.clock = runtime.clock
        self.limits = limits
        self.server_name = server_name
        self.metrics = metrics
        self.status = status
        self.batcher = Batcher(
            engine=engine,
            clock=self.clock,
            metrics=metrics,
            on_outcome=self.schedule_delivery,
            pending_bytes_max=limits.pending_bytes_max,
        )
        self.reads = ReadQueue(engine=engine, on_barrier=self.schedule_delivery)
        self.followers = Followers(
            machine=machine.machine,
            in_touch=lambda: self.is_started and engine.is_in_touch,
            on_change=self.schedule_delivery,
            metrics=metrics,
        )
        machine.on_topic = self.followers.note
        machine.on_restored = self.followers.note_all
        self.session_clock = SessionClock(batcher=self.batcher, clock=self.clock)
        self.expiry_clock = ExpiryClock(
            batcher=self.batcher,
            next_deadline_ms=machine.machine.next_deadline_ms,
            machine_now_ms=lambda: machine.machine.now_ms,
        )
        self.control_tasks = ControlTasks()
        self.connections: dict[Connection, None] = {}  # in order, so that equal runs do equal things
        self.is_started = False  # the engine has recovered and can be asked
        self.is_serving = False
        self.is_stopping = False
        self.buffered_bytes = 0
        self.answer_read = partial(answer_read, self)
        self.answer_keep_alive = partial(answer_keep_alive, self)
        self._silence = Deadlines(self.clock, Connection.silence_deadline, self._close_silent)
        self._all_closed = asyncio.Event()
        self._dirty: list[Connection] = []
        self._flush_scheduled = False
        self._delivery_scheduled = False
        self._rejections_logged = 0
        self._rejections_since = float("-inf")

    def __repr__(self) -> str:
        return (
            f"<Gateway serving={self.is_serving} stopping={self.is_stopping} "
            f"connections={len(self.connections)} sessions={len(self.session_clock.entries)} "
            f"{self.batcher!r} {self.reads!r}>"
        )

    def new_connection(self) -> Connection:
        """Return the protocol for a connection that is being accepted."""
        return Connection(self, handle_hello)

    def leader_hint(self) -> str | None:
        """Return the client address of the leader, None when it is not known."""
        return self.engine.leader_hint() if self.is_started else None

    # --- leadership

    def on_leader_ready(self) -> None:
        """This replica is a ready leader: take sessions."""
        machine = self.machine.machine
        self.machine.forward(self.schedule_delivery)
        self.batcher.lead(machine.now_ms)
        self.session_clock.lead(machine.sessions())
        self.expiry_clock.lead()
        self.is_serving = True
        logger.info("serving sessions=%d", len(self.session_clock.entries))

    def on_leadership_lost(self) -> None:
        """Send every session elsewhere."""
        was_serving, self.is_serving = self.is_serving, False
        self.machine.forward(None)
        closed = 0
        for connection in list(self.connections):
            if connection.state in (ConnectionState.SESSION, ConnectionState.ATTACHING):
                connection.on_not_leader()
                closed += 1
        self.batcher.stop_leading()
        self.session_clock.stop_leading()
        self.expiry_clock.stop_leading()
        if was_serving:
            logger.info("serving_ended connections_closed=%d leader=%s", closed, self.leader_hint())

    def refuse_not_leader(self, connection: Connection) -> None:
        """Answer a hello that waits with where the leader is."""
        refuse(connection, Code.NOT_LEADER, self.leader_hint())

    async def stop(self) -> None:
        """Close every connection, and return when their last answers have left or had time to."""
        self.is_stopping = True
        await self.control_tasks.cancel()
        self.on_leadership_lost()
        for connection in list(self.connections):
            connection.close()
        self._silence.clear()
        self.followers.clear()
        if self.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_closed.wait(), 2 * CLOSE_GRACE_S)

    # --- delivery

    def schedule_delivery(self) -> None:
        """Deliver in a turn of the loop of its own; may be called from inside the engine."""
        if not self._delivery_scheduled:
            self._delivery_scheduled = True
            asyncio.get_running_loop().call_soon(self._deliver)

    def deliver_now(self) -> None:
        """Do a scheduled delivery at once; not from inside the engine."""
        if self._delivery_scheduled:
            self._deliver()

    def _deliver(self) -> None:
        if not self._delivery_scheduled:
            return  # it was done in the meantime
        self._delivery_scheduled = False
        self._flush_scheduled = True  # the flush below takes what is answered until then
        applied = self.machine.take_applied()
        for entry in applied:
            for view in entry.opened:
                self.session_clock.opened(view)
        self.batcher.settle()
        self.reads.settle()
        for entry in applied:
            for completed in entry.completed:
                self._complete(completed.session, completed.sequence, completed.code, completed.payload)
            for identifier in entry.ended:
                self._end_session(identifier)
        self.followers.settle()
        self.flush()
        self.batcher.pump()
        self.expiry_clock.look()

    def _complete(self, session: int, sequence: int, code: int, payload: Any) -> None:
        entry = self.session_clock.entries.get(session)
        if entry is not None and entry.connection is not None:
            entry.connection.complete(sequence, code, payload)

    def _end_session(self, identifier: int) -> None:
        entry = self.session_clock.ended(identifier)
        if entry is None:
            return
        if entry.expiring:
            self.metrics.sessions_expired += 1
        if entry.connection is not None:
            entry.connection.on_session_ended()

    def wants_flush(self, connection: Connection) -> None:
        """A connection has something to write; it is written at the end of this turn of the loop."""
        self._dirty.append(connection)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write what was answered, one write per connection."""
        self._flush_scheduled = False
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            connection.flush()

    # --- connections

    def connection_opened(self, connection: Connection) -> None:
        """Take a new connection into the table."""
        self.metrics.connections_accepted += 1
        surplus = len(self.connections) - self.limits.connections_max
        self.connections[connection] = None
        if surplus >= SURPLUS_CONNECTIONS_MAX:
            connection.reject("too_many", "connection limit")
            return
        connection.is_surplus = surplus >= 0
        self._silence.add(connection)

    def connection_closed(self, connection: Connection) -> None:
        """Drop a connection from the table."""
        self.connections.pop(connection, None)
        self.followers.forget(connection)
        if self.is_stopping and not self.connections:
            self._all_closed.set()

    def is_buffer_full(self, own_bytes: int) -> bool:
        """Tell whether a connection with so many bytes of an incomplete frame has to go."""
        return self.buffered_bytes > BUFFERED_BYTES_MAX and own_bytes > BUFFERED_BYTES_FREE

    def count_rejection(self, connection: Connection, reason: str, text: str) -> None:
        """Count, and within bounds log, that a client broke the protocol."""
        self.metrics.rejected[reason] += 1
        now = self.clock.now()
        if now - self._rejections_since > REJECTIONS_WINDOW_S:
            self._rejections_since = now
            self._rejections_logged = 0
        self._rejections_logged += 1
        if self._rejections_logged <= REJECTIONS_LOGGED_MAX:
            logger.warning("client_rejected peer=%s reason=%s text=%r", connection.peer, reason, text)
        elif self._rejections_logged == REJECTIONS_LOGGED_MAX + 1:
            logger.warning("client_rejections_not_logged for_s=%g", REJECTIONS_WINDOW_S)

    def _close_silent(self, due: list[Connection]) -> None:
        for connection in due:
            if connection.is_backlogged:
                connection.heard_at = self.clock.now()
                self._silence.add(connection)
            elif connection.state is ConnectionState.HELLO:
                connection.reject("hello_timeout", "no hello in time")
            else:
                connection.reject("silence", "nothing was heard for too long")
