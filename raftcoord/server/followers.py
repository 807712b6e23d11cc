"""Subscribers that any replica serves with what it has applied of a topic, leader or not.

A topic only grows, and what a replica has applied of it is final. A subscriber that says where it stands
therefore gets the right messages from every replica; from one that lags they only come later.

Invariants:
  1. Nothing is served that is not committed and applied here.
  2. Every request is answered within `FOLLOW_HOLD_S`; one that finds this replica out of touch with its
     leader, or behind the subscriber all that time, is turned away, so that nobody waits for long where
     nothing arrives.
  3. What waits is bounded for each connection and for all, and goes with its connection.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from raftcoord.machine import Machine
from raftcoord.machine.outcome import Result
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import FOLLOW_HOLD_S, Operation
from raftcoord.server.connection import Connection
from raftcoord.server.metrics import Metrics

WAITS_MAX: Final = 10_000  # of one connection
WAITS_IN_ALL_MAX: Final = 200_000

_NOTHING: Final[Result] = (int(Code.EMPTY), None)
_GO_ELSEWHERE: Final[Result] = (int(Code.NOT_LEADER), None)
_TOO_MANY: Final[Result] = (int(Code.BUSY), "too many subscribers wait here")
_CONGESTED: Final[Result] = (int(Code.BUSY), "answers are not being read")


@dataclass(slots=True, eq=False)
class _Wait:
    """A request that waits for a message. `until` is in seconds of the event loop."""

    connection: Connection
    identifier: int
    name: bytes
    offset: int
    count_max: int
    until: float


class Followers:
    """The waiting requests of one replica.

    Args:
        in_touch: whether this replica leads, or hears its leader.
        on_change: called, inside the engine, when `settle` has something to do; it only schedules.
    """

    __slots__ = (
        "_by_connection",
        "_by_name",
        "_changed",
        "_in_touch",
        "_machine",
        "_metrics",
        "_on_change",
        "_timer",
        "_waits",
    )

    def __init__(
        self,
        *,
        machine: Machine,
        in_touch: Callable[[], bool],
        on_change: Callable[[], None],
        metrics: Metrics,
    ) -> None:
        self._machine = machine
        self._in_touch = in_touch
        self._on_change = on_change
        self._metrics = metrics
        # In the order in which they end: all are held equally long.
        self._waits: OrderedDict[_Wait, None] = OrderedDict()
        self._by_name: dict[bytes, dict[_Wait, None]] = {}
        self._by_connection: dict[Connection, dict[int, _Wait]] = {}
        self._changed: dict[bytes, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Followers waiting={len(self._waits)} topics={len(self._by_name)}>"

    def add(self, connection: Connection, identifier: int, name: bytes, offset: int, count_max: int) -> None:
        """Answer a checked request, now or when there is something to read."""
        waits = self._by_connection.get(connection, {})
        answer = self._machine.follow_topic(name, offset, count_max) if self._in_touch() else _GO_ELSEWHERE
        if identifier in waits:
            answer = int(Code.MALFORMED), "a request with this id waits already"
        elif answer is None and (len(waits) >= WAITS_MAX or len(self._waits) >= WAITS_IN_ALL_MAX):
            answer = _TOO_MANY
        if answer is not None:
            self._answer(connection, identifier, answer)
            return
        until = asyncio.get_running_loop().time() + FOLLOW_HOLD_S
        wait = _Wait(connection, identifier, name, offset, count_max, until)
        connection.set_aside(identifier)
        self._waits[wait] = None
        self._by_name.setdefault(name, {})[wait] = None
        self._by_connection.setdefault(connection, {})[identifier] = wait
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(until, self._end)

    def forget(self, connection: Connection) -> None:
        """A connection is gone, and what waited on it with it."""
        for wait in list(self._by_connection.get(connection, {}).values()):
            self._remove(wait)

    def note(self, name: bytes) -> None:
        """A topic has new messages or was deleted; may be called from inside the engine."""
        if name in self._by_name and name not in self._changed:
            self._changed[name] = None
            self._on_change()

    def note_all(self) -> None:
        """The whole state was replaced."""
        for name in self._by_name:
            self.note(name)

    def settle(self) -> None:
        """Answer the requests that something came for."""
        changed, self._changed = self._changed, {}
        for name in changed:
            answers: dict[tuple[int, int], Result | None] = {}  # most of them stand at the same offset
            for wait in list(self._by_name.get(name, ())):
                place = (wait.offset, wait.count_max)
                if place not in answers:
                    answers[place] = self._machine.follow_topic(name, *place)
                answer = answers[place]
                if answer is not None:
                    self._remove(wait)
                    answer = _CONGESTED if wait.connection.is_congested else answer
                    self._answer(wait.connection, wait.identifier, answer)

    def clear(self) -> None:
        """Forget everything: the connections are being closed."""
        for waits in (self._waits, self._by_name, self._by_connection, self._changed):
            waits.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        """Answer those who have waited long enough."""
        loop, in_touch = asyncio.get_running_loop(), self._in_touch()
        self._timer = None
        while self._waits:
            wait = next(iter(self._waits))
            if wait.until > loop.time():
                self._timer = loop.call_at(wait.until, self._end)
                return
            self._remove(wait)
            is_fresh = in_touch and self._machine.has_reached(wait.name, wait.offset)
            self._answer(wait.connection, wait.identifier, _NOTHING if is_fresh else _GO_ELSEWHERE)

    def _remove(self, wait: _Wait) -> None:
        del self._waits[wait]
        _drop(self._by_name, wait.name, wait)
        _drop(self._by_connection, wait.connection, wait.identifier)

    def _answer(self, connection: Connection, identifier: int, answer: Result) -> None:
        code, payload = answer
        self._metrics.operations[Operation.TOPIC_READ << 8 | code] += 1
        connection.answer(identifier, code, payload)


def _drop(table: dict[Any, dict[Any, Any]], key: object, item: object) -> None:
    entries = table[key]
    del entries[item]
    if not entries:
        del table[key]
