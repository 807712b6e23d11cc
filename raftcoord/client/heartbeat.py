"""Keeps the session of one attached connection alive, and notices when the replica falls silent.

Invariants:
  1. The session is renewed only by an answered keep-alive, as of the moment when that was sent.
  2. A replica that owes an answer and says nothing at all for `silence_limit_s` is given up, soon enough to
     find another one before the session expires. (A paused process keeps its connections open.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from raftcoord.client.connection import Connection
from raftcoord.client.session_state import Session
from raftcoord.protocol.errors import Code
from raftcoord.protocol.frames import encode_frame
from raftcoord.runtime import Clock

SILENCE_LIMIT_MIN_S: Final = 1.0
KEEP_ALIVES_PER_TTL: Final = 3
_TICKS_PER_LIMIT: Final = 4
_KEEP_ALIVES_OPEN_MAX: Final = 16


def silence_limit_s(ttl_s: float) -> float:
    """Return how long a replica may owe an answer, given the time to live of the session (seconds)."""
    return min(max(SILENCE_LIMIT_MIN_S, ttl_s / 4), ttl_s / KEEP_ALIVES_PER_TTL)


class HeartbeatOwner(Protocol):
    """What a heartbeat tells, always from the event loop."""

    def on_session_lost(self, session: Session, reason: str) -> None: ...

    def leave(self, reason: str, hint: Any = None) -> None: ...


class Heartbeat:
    """Runs from its creation until `stop`.

    Args:
        owes: tells whether requests of the session are unanswered by now.
    """

    def __init__(
        self,
        owner: HeartbeatOwner,
        connection: Connection,
        session: Session,
        clock: Clock,
        owes: Callable[[], bool],
    ) -> None:
        self._owner = owner
        self._connection = connection
        self._session = session
        self._clock = clock
        self._owes = owes
        self._loop = asyncio.get_running_loop()
        self._sent_at: dict[int, float] = {}  # keep-alive id -> when it was sent
        self._last_id = 0
        self._quiet_ticks = 0
        self._keep_alive_timer = self._loop.call_later(self._keep_alive_every_s, self._keep_alive)
        self._tick_timer = self._loop.call_later(self._tick_every_s, self._tick)

    def __repr__(self) -> str:
        return f"<Heartbeat session={self._session.id} open={len(self._sent_at)} quiet={self._quiet_ticks}>"

    @property
    def _keep_alive_every_s(self) -> float:
        return self._session.ttl_s / KEEP_ALIVES_PER_TTL

    @property
    def _tick_every_s(self) -> float:
        return silence_limit_s(self._session.ttl_s) / _TICKS_PER_LIMIT

    def stop(self) -> None:
        self._keep_alive_timer.cancel()
        self._tick_timer.cancel()

    def on_answer(self, answer_id: int, code: int, payload: Any) -> None:
        """Take the answer to a keep-alive."""
        sent_at = self._sent_at.pop(answer_id, None)
        if sent_at is None:
            return
        if code == Code.OK:
            self._session.renew(sent_at, self._clock.now())
        elif code == Code.SESSION_LOST:
            self._owner.on_session_lost(self._session, "the replicas ended it")
        elif code in (Code.NOT_LEADER, Code.SHUTTING_DOWN):
            self._owner.leave("leads no more", payload if code == Code.NOT_LEADER else None)

    def _keep_alive(self) -> None:
        self._keep_alive_timer = self._loop.call_later(self._keep_alive_every_s, self._keep_alive)
        if len(self._sent_at) >= _KEEP_ALIVES_OPEN_MAX:  # answers keep coming, only not to these
            self._sent_at.pop(next(iter(self._sent_at)))
        self._last_id -= 1
        self._sent_at[self._last_id] = self._clock.now()
        self._connection.send(encode_frame([self._last_id, "keep_alive"]))

    def _tick(self) -> None:
        # Ticks are counted instead of time: when this process itself was stopped for a while, a replica's
        # answers wait in the socket, and must not be taken for silence.
        self._tick_timer = self._loop.call_later(self._tick_every_s, self._tick)
        if self._connection.heard or not (self._sent_at or self._owes()):
            self._quiet_ticks = 0
        else:
            self._quiet_ticks += 1
        self._connection.heard = False
        if self._quiet_ticks >= _TICKS_PER_LIMIT:
            self._owner.leave(f"silent for {silence_limit_s(self._session.ttl_s):.2f} s")
