"""Subscribers that any replica serves with what it has applied of a topic, leader or not.

A topic only grows, and what a replica has applied of it is final. A subscriber that says where it stands
therefore gets the right messages from every replica; from one that lags they only come later.

Invariants:
  1. Nothing is served that is not committed and applied here.
  2. Every request is answered within `FOLLOW_HOLD_S`; one that finds this replica out of touch with its
     leader is turned away, so that nobody waits for long where nothing arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from raftcoord.machine.outcome import Result
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import FOLLOW_HOLD_S, Operation
from raftcoord.runtime import Clock
from raftcoord.server.connection import Connection
from raftcoord.server.deadlines import Deadlines
from raftcoord.server.metrics import Metrics

WAITS_MAX: Final = 10_000  # of one connection
WAITS_IN_ALL_MAX: Final = 200_000

_OUT_OF_TOUCH: Final[Result] = (int(Code.NOT_LEADER), "this replica knows no leader to follow")
_NOTHING: Final[Result] = (int(Code.EMPTY), None)


@dataclass(slots=True, eq=False)
class _Wait:
    """A request that waits for a message."""

    connection: Connection
    identifier: int
    name: bytes
    offset: int
    count_max: int
    until: float | None  # None once it is answered


class Followers:
    """The waiting requests of one replica.

    Args:
        follow: answers from the state machine, None while there is nothing to read.
        in_touch: whether this replica is a leader or connected to one.
        on_change: called, inside the engine, when `settle` has something to do; it only schedules.
    """

    __slots__ = (
        "_changed",
        "_clock",
        "_count",
        "_deadlines",
        "_follow",
        "_in_touch",
        "_metrics",
        "_on_change",
        "_waits",
    )

    def __init__(
        self,
        *,
        follow: Callable[[bytes, int, int], Result | None],
        in_touch: Callable[[], bool],
        on_change: Callable[[], None],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._follow = follow
        self._in_touch = in_touch
        self._on_change = on_change
        self._clock = clock
        self._metrics = metrics
        self._waits: dict[bytes, dict[_Wait, None]] = {}
        self._changed: dict[bytes, None] = {}
        self._count = 0
        self._deadlines: Deadlines[_Wait] = Deadlines(clock, lambda wait: wait.until, self._end)

    def __repr__(self) -> str:
        return f"<Followers waiting={self._count} topics={len(self._waits)}>"

    def add(self, connection: Connection, identifier: int, name: bytes, offset: int, count_max: int) -> None:
        """Answer a checked request, now or when there is something to read."""
        if not self._in_touch():
            self._answer(connection, identifier, _OUT_OF_TOUCH)
            return
        answer = self._follow(name, offset, count_max)
        if answer is not None:
            self._answer(connection, identifier, answer)
        elif len(connection.waiting) >= WAITS_MAX or self._count >= WAITS_IN_ALL_MAX:
            connection.answer(identifier, Code.BUSY, "too many subscribers wait here")
        else:
            wait = _Wait(connection, identifier, name, offset, count_max, self._clock.now() + FOLLOW_HOLD_S)
            connection.keep_waiting(identifier)
            self._waits.setdefault(name, {})[wait] = None
            self._count += 1
            self._deadlines.add(wait)

    def note(self, name: bytes) -> None:
        """A topic has new messages or was deleted; may be called from inside the engine."""
        if name in self._waits and name not in self._changed:
            self._changed[name] = None
            self._on_change()

    def note_all(self) -> None:
        """The whole state was replaced."""
        for name in self._waits:
            self.note(name)

    def settle(self) -> None:
        """Answer the requests that something came for."""
        changed, self._changed = self._changed, {}
        for name in changed:
            answers: dict[tuple[int, int], Result | None] = {}  # most of them stand at the same offset
            for wait in list(self._waits.get(name, ())):
                place = (wait.offset, wait.count_max)
                if place not in answers:
                    answers[place] = self._follow(name, *place)
                answer = answers[place]
                if answer is not None:
                    self._finish(wait, answer)

    def clear(self) -> None:
        """Forget everything: the connections are being closed."""
        self._waits.clear()
        self._count = 0
        self._deadlines.clear()

    def _end(self, due: list[_Wait]) -> None:
        answer = _NOTHING if self._in_touch() else _OUT_OF_TOUCH
        for wait in due:
            self._finish(wait, answer)

    def _finish(self, wait: _Wait, answer: Result) -> None:
        waits = self._waits[wait.name]
        del waits[wait]
        if not waits:
            del self._waits[wait.name]
        self._count -= 1
        wait.until = None
        if wait.identifier in wait.connection.waiting:  # nobody waits on a connection that was closed
            wait.connection.waiting.discard(wait.identifier)
            self._answer(wait.connection, wait.identifier, answer)

    def _answer(self, connection: Connection, identifier: int, answer: Result) -> None:
        code, payload = answer
        self._metrics.operations[Operation.TOPIC_READ << 8 | code] += 1
        connection.answer(identifier, code, payload)
