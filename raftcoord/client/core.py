"""One client's connection, session and state, put together.

Invariants:
  1. A session counts as lost the moment its time to live has run out on this side, whatever replicas say
     later: they may have handed its locks on from that moment.
  2. Every change of state is told once and in order; `LOST` is told after the locks of the session were.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from raftcoord.client.addresses import Addresses
from raftcoord.client.connection import Connection
from raftcoord.client.exchange import Exchange
from raftcoord.client.follower_reads import FollowerReads
from raftcoord.client.heartbeat import Heartbeat
from raftcoord.client.link import Link
from raftcoord.client.session_state import Session
from raftcoord.client.states import ClientState
from raftcoord.protocol.errors import NotConnected, RaftcoordError, SessionLost
from raftcoord.protocol.operations import NONCE_BYTES
from raftcoord.runtime import Runtime

_log = logging.getLogger(__name__)

CLOSE_LIMIT_S: Final = 1.0
_TIMER_SLACK_S: Final = 0.001  # timers of some loops fire up to a millisecond early


class Core:
    """A client within one event loop, from its first use to its end.

    Args:
        name: free text that the replicas show.
        ttl_s: time to live of its sessions, in seconds.
        timeout_s: bound on calls that do not wait, in seconds.
        on_state: told of every change of state.
    """

    def __init__(
        self,
        addresses: Addresses,
        *,
        name: str,
        ttl_s: float,
        timeout_s: float,
        runtime: Runtime,
        on_state: Callable[[ClientState], None],
    ) -> None:
        self.addresses = addresses
        self.loop = asyncio.get_running_loop()
        self.state = ClientState.LOST
        self._ttl_s = ttl_s
        self._runtime = runtime
        self._on_state = on_state
        self._link = Link(self, addresses, name, runtime)
        self._heartbeat: Heartbeat | None = None
        self._session_timer: asyncio.TimerHandle | None = None
        self._on_lost: dict[object, Callable[[], None]] = {}
        self._attach_waiters: list[asyncio.Future[None]] = []
        self.exchange = Exchange(self, self._new_session(), timeout_s, runtime)
        self.follower_reads = FollowerReads(addresses, runtime, lambda: self._link.server)

    def __repr__(self) -> str:
        return f"<Core {self.state.value} {self._link!r} {self.exchange!r}>"

    def _new_session(self) -> Session:
        return Session(self._runtime.rng.token(NONCE_BYTES), self._ttl_s)

    @property
    def session(self) -> Session:
        """The session in which calls are made now."""
        return self.exchange.session

    def start(self) -> None:
        self._link.start()

    async def connect(self, timeout_s: float) -> None:
        """Return once a session is attached.

        Raises:
            NotConnected: none was within the timeout (seconds).
            RaftcoordError: every replica refuses this client for good.
        """
        self.start()
        if self.state is ClientState.CONNECTED:
            return
        waiter: asyncio.Future[None] = self.loop.create_future()
        self._attach_waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            raise NotConnected(f"no session within {timeout_s:g} s: {self.why_not_connected()}") from None
        finally:
            if waiter in self._attach_waiters:
                self._attach_waiters.remove(waiter)

    async def close(self) -> None:
        """End the session as far as a replica can be told within a second, and close the connection."""
        await self.exchange.close(CLOSE_LIMIT_S)
        self._end_session(SessionLost("the client was closed"))
        await self._link.stop()
        await self.follower_reads.close()

    def why_not_connected(self) -> str:
        """Return in one line what went wrong last."""
        if self.state is ClientState.CONNECTED:
            return "too much was waiting to be sent"
        return f"no replica of {','.join(self.addresses)} took the session ({self._link.last_problem})"

    # The session

    def is_alive(self, session: Session) -> bool:
        """Whether a session is certainly not expired, by the clock and not only by what timers have told.

        Safe from any thread.
        """
        return session.is_alive(self._runtime.clock.now())

    def call_when_lost(self, key: object, function: Callable[[], None]) -> None:
        """Have a function called when the present session is lost, unless `forget` comes first."""
        self._on_lost[key] = function

    def forget(self, key: object) -> None:
        self._on_lost.pop(key, None)

    def on_session_lost(self, session: Session, reason: str) -> None:
        """Give a session up: its calls fail, its locks are lost, and a new one is opened."""
        if session is not self.session or session.lost:
            return
        _log.warning("session_lost session=%d reason=%s", session.id, reason)
        self._end_session(SessionLost(f"session {session.id} is lost: {reason}"))
        self._link.leave("the session is lost")

    def _end_session(self, error: SessionLost) -> None:
        self.session.lost = True
        if self._session_timer is not None:
            self._session_timer.cancel()
            self._session_timer = None
        self.exchange.replace_session(self._new_session(), error)
        on_lost, self._on_lost = self._on_lost, {}
        for function in on_lost.values():
            function()
        self._enter(ClientState.LOST)

    def _watch_session(self) -> None:
        """Arm the timer that ends the session on this side; renewals only move its target."""
        remaining_s = self.session.expires_at - self._runtime.clock.now()
        self._session_timer = self.loop.call_later(max(0.0, remaining_s) + _TIMER_SLACK_S, self._session_due)

    def _session_due(self) -> None:
        if self.is_alive(self.session):
            self._watch_session()
        else:
            self.on_session_lost(self.session, "its time to live ran out")

    # What the link and the heartbeat tell

    def on_attached(self, connection: Connection) -> None:
        session = self.session
        connection.on_message = self._on_message
        self._heartbeat = Heartbeat(
            self, connection, session, self._runtime.clock, lambda: session.state.has_unanswered
        )
        if self._session_timer is None:
            self._watch_session()
        self._enter(ClientState.CONNECTED)
        self.exchange.attach(connection)
        self._wake(None)

    def on_detached(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.stop()
            self._heartbeat = None
        self.exchange.detach()
        if self.state is ClientState.CONNECTED:
            self._enter(ClientState.SUSPENDED)

    def on_refused(self, error: RaftcoordError) -> None:
        self.exchange.fail_unsent(error)
        self._wake(error)

    def leave(self, reason: str, hint: Any = None) -> None:
        self._link.leave(reason, hint)

    def _on_message(self, message: Any) -> None:
        if type(message) is list and len(message) == 3:
            sequence, code, payload = message
            if type(sequence) is int and type(code) is int:
                if sequence > 0:
                    self.exchange.on_answer(sequence, code, payload)
                elif sequence == 0:
                    self._link.leave("it leads no more", payload)
                elif self._heartbeat is not None:
                    self._heartbeat.on_answer(sequence, code, payload)
                return
        self._link.leave("it sent something that is no answer")

    def _wake(self, error: RaftcoordError | None) -> None:
        waiters, self._attach_waiters = self._attach_waiters, []
        for waiter in waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    def _enter(self, state: ClientState) -> None:
        if state is not self.state:
            _log.info("client_state from=%s to=%s session=%d", self.state.value, state.value, self.session.id)
            self.state = state
            self._on_state(state)
